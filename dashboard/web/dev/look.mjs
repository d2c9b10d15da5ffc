// Opens every page with the fixtures in a real browser, in every state, and fails on a console error, a request to
// another host or an axe violation. Usage: look.mjs [--out DIR] [--quick] [--only NAME,NAME]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openBrowser } from "../e2e/browser.mjs";

const arg = (name) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : (process.argv[at + 1] ?? "");
};
const out = arg("out");
const quick = process.argv.includes("--quick");
const only = arg("only")?.split(",");

const server = spawn(process.execPath, [new URL("fixture-server.mjs", import.meta.url).pathname, "--cycle", "5"], { stdio: ["ignore", "pipe", "inherit"] });
const [first] = await once(server.stdout, "data");
const baseUrl = new URL(String(first).trim()).origin;
const dev = async (path) => (await fetch(`${baseUrl}/__dev/${path}`)).text();

/** Pages by name, with what must be there before they are looked at. */
function pages(client, group) {
  const c = client ? new URLSearchParams({ src_ip: client.src_ip, ja4: client.ja4, host: client.host }).toString() : "src_ip=192.0.2.1&ja4=&host=nowhere.example";
  const list = [
    ["overview", "/", "h2"],
    ["triage", "/triage", "main"],
    ["requests", "/requests", "main"],
    ["requests-by", "/requests?by=ua_family", "main"],
    ["client", `/client?${c}`, "main"],
    ["group-ja4", `/group?${new URLSearchParams({ kind: "ja4", value: group?.ja4 ?? "t13d" })}`, "main"],
    ["group-prefix", "/group?kind=prefix&value=198.51.100.0/24", "main"],
    ["audit", "/audit", "main"],
    ["truth", "/truth", "main"],
    ["about", "/about", "main"],
    ["not-found", "/nowhere", "main"],
    ["bad-filter", `/triage?q=${encodeURIComponent("host:shop.example (colour:red")}`, "[role=alert]"],
  ];
  return only ? list.filter(([name]) => only.includes(name)) : list;
}

const EXPECTED = [/Failed to load resource: the server responded with a status of (400|404|503)/];
let failures = 0;
process.on("exit", () => server.kill());
const views = quick ? [["dark", 1440, 900]] : [["dark", 1440, 900], ["light", 1440, 900], ["dark", 1024, 700], ["light", 1024, 700]];
for (const [scheme, width, height] of views) {
  const browser = await openBrowser({ baseUrl, out, viewport: { width, height }, colorScheme: scheme });
  const { page, axe, shot, problems } = browser;
  page.setDefaultTimeout(120_000);
  page.setDefaultNavigationTimeout(120_000);
  browser.tolerate(...EXPECTED);
  const view = `${scheme}-${width}`;
  await page.goto("/login");
  await page.getByRole("button", { name: "Log in" }).waitFor();
  await axe(`login ${view}`);
  await shot(`${view}-login`);
  await page.goto(await dev("link"));
  await page.getByRole("navigation", { name: "Pages" }).waitFor();
  for (const set of ["empty", "small", "full", "hostile"]) {
    await dev(`set?name=${set}${set === "small" ? "&learning=1" : ""}${set === "hostile" ? "&truncate=1" : ""}`);
    const { clients } = set === "empty" ? { clients: [] } : await page.evaluate(async () => (await fetch("/api/v1/clients")).json());
    for (const [name, path, ready] of pages(clients[0], clients[0])) {
      await page.goto(path);
      await page.locator(ready).first().waitFor();
      await page.waitForLoadState("networkidle");
      await page.evaluate(() => document.fonts.ready);
      await page.waitForTimeout(120);
      if (name === "triage" && clients.length > 0) {
        await page.keyboard.press("j");
        await page.locator("[data-side-panel]").waitFor();
      }
      await axe(`${set}/${name} ${view}`);
      await shot(`${view}-${set}-${name}`);
    }
    if (set === "full" && !only) {
      // What opens over a page.
      await page.goto("/triage");
      await page.locator("[data-client-list] [role=row]").first().waitFor();
      await page.keyboard.press("j");
      for (const [key, name, selector] of [["?", "help", "dialog[open]"], ["1", "verdict", "dialog[open]"], ["w", "rules", "dialog[open] pre"], ["m", "menu", "[role=menu]"], ["e", "export", ":popover-open"]]) {
        await page.keyboard.press(key);
        await page.locator(selector).first().waitFor();
        await page.waitForTimeout(150);
        await axe(`${name} ${view}`);
        await shot(`${view}-${name}`);
        await page.keyboard.press("Escape");
        await page.locator(selector).first().waitFor({ state: "detached" }).catch(() => page.waitForTimeout(100));
      }
      await page.getByRole("button", { name: /^Time range/ }).click();
      await page.waitForTimeout(150);
      await axe(`range ${view}`);
      await shot(`${view}-range`);
      await page.keyboard.press("Escape");
      await page.keyboard.press("/");
      await page.keyboard.type("host:");
      await page.locator("[role=listbox][data-open] [role=option]").first().waitFor();
      await axe(`completion ${view}`);
      await shot(`${view}-completion`);
      await page.goto("/requests");
      await page.locator("[data-request-list] [role=row]").nth(2).waitFor();
      await page.keyboard.press("j");
      await page.keyboard.press("Enter");
      await page.locator("dialog[open] dl").waitFor();
      await axe(`request ${view}`);
      await shot(`${view}-request`);
      await page.keyboard.press("Escape");
      // The store goes away under an open page, and comes back.
      await page.goto("/triage");
      await page.locator("[data-client-list] [role=row]").first().waitFor();
      await dev("store?down=1");
      await page.getByText("Store unreachable").first().waitFor();
      await page.waitForTimeout(300);
      await axe(`store away ${view}`);
      await shot(`${view}-store-away`);
      await page.goto("/requests");
      await page.getByText("This could not be read").first().waitFor();
      await axe(`failed ${view}`);
      await shot(`${view}-failed`);
      await dev("store?down=0");
      await page.locator("[data-request-list] [role=row]").nth(1).waitFor();
      await page.getByText("Store unreachable").first().waitFor({ state: "detached" });
    }
  }
  for (const problem of problems) console.error(`  ${view}: ${problem}`);
  failures += problems.length;
  await browser.close();
}
server.kill();
console.log(failures === 0 ? "every page is clean" : `${failures} problems`);
process.exitCode = failures === 0 ? 0 : 1;
