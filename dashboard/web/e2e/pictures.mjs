// Takes the pictures of the README from a running pipeline; what is in them is real and a demo's.
//
//   pictures.mjs --base URL --link URL_OR_TOKEN --out DIR
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { openBrowser } from "./browser.mjs";

const arg = (name) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
};
const [baseUrl, link, out] = [arg("base"), arg("link"), arg("out")];
if (!baseUrl || !link || !out) {
  console.error("usage: pictures.mjs --base URL --link URL_OR_TOKEN --out DIR");
  process.exit(2);
}
/** Longest picture that a README should load, bytes. */
const MAX_BYTES = 250_000;

const browser = await openBrowser({ baseUrl, out, viewport: { width: 1280, height: 800 } });
const { page, problems } = browser;
page.setDefaultTimeout(120_000);
browser.tolerate(/status of 401/);
const take = async (name) => {
  await page.waitForLoadState("networkidle");
  await page.evaluate(() => document.fonts.ready);
  await browser.shot(name);
  const { size } = statSync(join(out, `${name}.png`));
  console.log(`${name}.png, ${Math.round(size / 1000)} kB`);
  assert.ok(size <= MAX_BYTES, `${name}.png is larger than ${MAX_BYTES} bytes`);
};

await page.goto(`/login#token=${link.includes("#token=") ? link.split("#token=")[1] : link}`);
await page.locator("tr[data-entity]").first().waitFor();
await take("overview");
await page.goto("/triage");
await page.locator("[data-client-list] [role=row]").first().waitFor();
// Room for the reasons, which are what the list is about.
await page.keyboard.press("f");
await page.keyboard.press("j");
await page.locator("[data-side-panel]").waitFor();
await take("triage");
await page.keyboard.press("Enter");
await page.getByRole("region", { name: "Declared against observed" }).waitFor();
await take("client");
await page.emulateMedia({ colorScheme: "light" });
await page.getByRole("heading", { name: "How the score comes about" }).evaluate((heading) => heading.scrollIntoView());
await page.waitForTimeout(300);
await take("client-score-light");
await browser.close();
for (const problem of problems) console.error(`  ${problem}`);
process.exitCode = problems.length === 0 ? 0 : 1;
