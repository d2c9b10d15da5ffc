// A store that goes away under open pages and comes back: the pages say so, keep what was read, and recover by themselves.
// Whoever starts this kills the store at the line "store: kill it" and starts it again at "store: start it".
//
//   outage.mjs --base URL --link URL_OR_TOKEN [--out DIR] [--scheme dark|light]
import assert from "node:assert/strict";
import { openBrowser } from "./browser.mjs";

const arg = (name) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
};
const baseUrl = arg("base") ?? process.env.BASE_URL;
const link = arg("link") ?? process.env.LOGIN_LINK;
if (!baseUrl || !link) {
  console.error("usage: outage.mjs --base URL --link URL_OR_TOKEN [--out DIR]");
  process.exit(2);
}
const browser = await openBrowser({ baseUrl, out: arg("out"), colorScheme: arg("scheme") ?? "dark" });
const { page, axe, shot } = browser;
// Far beyond what a store takes to start on a busy machine.
page.setDefaultTimeout(120_000);
page.setDefaultNavigationTimeout(120_000);
browser.tolerate(/status of 401/, /status of 503/);

const said = page.getByText("Store unreachable").first();
const clients = page.locator("[data-client-list] [role=row]");

async function walk() {
  await page.goto(`/login#token=${link.includes("#token=") ? link.split("#token=")[1] : link}`);
  await page.getByRole("navigation", { name: "Pages" }).waitFor();
  await page.goto("/triage");
  await clients.first().waitFor();
  const before = await clients.count();
  await page.evaluate(() => {
    globalThis.isStillThere = true;
  });

  console.log("store: kill it");
  await said.waitFor();
  console.log("the page says that the store is away");
  assert.equal(await clients.count(), before, "what was read is gone");
  await axe("triage without a store");
  await shot("triage-without-a-store");
  // A page that had read nothing yet, by the keyboard, so that the app is not loaded anew; both keys at once, as a busy
  // page gets them.
  await page.evaluate(() => {
    for (const key of ["g", "r"]) document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  });
  await page.getByText("This could not be read").first().waitFor();
  await axe("requests without a store");
  await shot("requests-without-a-store");

  console.log("store: start it");
  await page.locator("[data-request-list] [role=row]").nth(1).waitFor();
  await said.waitFor({ state: "detached" });
  console.log("the page has recovered");
  await page.keyboard.press("g");
  await page.keyboard.press("t");
  await clients.first().waitFor();
  assert.equal(await clients.count(), before);
  await axe("triage with its store again");
  await shot("triage-with-its-store-again");
  assert.ok(await page.evaluate(() => globalThis.isStillThere), "the app was loaded anew");
}

await browser.run(walk, "the pages recover by themselves");
