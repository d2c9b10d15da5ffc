// The analyst's path in a real browser, by keyboard alone, against any backend that serves the app and its interface:
// log in by a one-time link, from the overview to a flagged client to its requests, label it with a note, see the next
// cycle know it, export, undo. Fails on a console error, an axe violation or a request to another host.
//
//   analyst.mjs --base URL --link URL_OR_TOKEN [--out DIR] [--label bot|legitimate|verified_crawler|unsure]
//               [--expect full|small|empty] [--cycle-timeout SECONDS] [--scheme dark|light]
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { openBrowser } from "./browser.mjs";

const arg = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : (process.argv[at + 1] ?? "");
};
const baseUrl = arg("base", process.env.BASE_URL);
const link = arg("link", process.env.LOGIN_LINK);
if (!baseUrl || !link) {
  console.error("usage: analyst.mjs --base URL --link URL_OR_TOKEN [--out DIR]");
  process.exit(2);
}
const out = arg("out");
const expected = arg("expect", "full");
const verdict = arg("label", "legitimate");
/** How long the detector may take for the next cycle: two of its intervals and some, seconds. */
const cycleTimeoutMs = Number(arg("cycle-timeout", "90")) * 1000;
const KEY = { bot: "1", legitimate: "2", verified_crawler: "3", unsure: "4" }[verdict];
assert.ok(KEY, `unknown label ${verdict}`);
const token = link.includes("#token=") ? link.split("#token=")[1] : link;
/** Names this run in the note, so that it finds its own label again. */
const NOTE = `keyboard test ${Date.now()}, <b>not bold</b>`;

const browser = await openBrowser({ baseUrl, out, colorScheme: arg("scheme", "dark") });
const { page, axe, shot } = browser;
// Far beyond what a page needs, so that a busy machine fails nothing.
page.setDefaultTimeout(120_000);
page.setDefaultNavigationTimeout(120_000);
const key = (name) => page.keyboard.press(name);
let n = 0;
const step = async (name, check = true) => {
  n += 1;
  console.log(`${String(n).padStart(2)}. ${name}`);
  await page.waitForLoadState("networkidle");
  if (check) await axe(name);
  await shot(`${String(n).padStart(2, "0")}-${name.replaceAll(/[^a-z0-9]+/gi, "-").toLowerCase()}`);
};
/** Moves the focus with Tab until `wanted` holds it; nobody with a keyboard should need more presses than this. */
const tabTo = async (wanted, presses = 60) => {
  for (let i = 0; i < presses; i += 1) {
    if (await wanted.evaluate((element) => element === document.activeElement).catch(() => false)) return;
    await key("Tab");
  }
  throw new Error(`the keyboard does not reach ${wanted} within ${presses} presses of Tab`);
};

async function everyPage() {
  for (const [name, path] of [["triage", "/triage"], ["requests", "/requests"], ["audit", "/audit"], ["about", "/about"]]) {
    await page.goto(path);
    await page.locator("main h1, main h2, main p").first().waitFor({ state: "attached" });
    await step(`${expected} ${name}`);
  }
}

async function walk() {
  await page.goto("/login");
  await page.getByRole("button", { name: "Log in" }).waitFor();
  await step("login");
  await page.goto(`/login#token=${token}`);
  await page.getByRole("navigation", { name: "Pages" }).waitFor();
  assert.ok(!page.url().includes("token"), "the token stays in the address");
  await page.locator("[data-state-chip]").waitFor();
  await page.getByRole("region", { name: "Traffic" }).waitFor();
  await step("overview");

  if (expected === "empty") {
    await page.getByText("No requests in this span").waitFor();
    await everyPage();
    return;
  }

  // From the overview to the first flagged client.
  await page.locator("tr[data-entity]").first().waitFor();
  const flagged = /^(flagged|alert)$/;
  const current = page.locator("tr[data-entity][aria-current=true]");
  for (let i = 0; i < 8; i += 1) {
    await key("j");
    await current.waitFor();
    if (expected !== "full" || flagged.test(await current.getAttribute("data-verdict"))) break;
  }
  await key("Enter");
  await page.waitForURL(/\/client\?/);
  const summary = page.locator("[data-client-verdict]");
  await summary.waitFor();
  const before = { verdict: await summary.getAttribute("data-client-verdict"), evidence: await summary.getAttribute("data-evidence") };
  if (expected === "full") assert.match(before.verdict, flagged, "no client among those with most evidence is flagged");
  await page.getByRole("region", { name: "Declared against observed" }).waitFor();
  await step("client");

  // Its requests.
  await key("r");
  await page.waitForURL(/\/requests\?/);
  await page.locator("[data-request-list] [role=row]").nth(1).waitFor();
  await key("j");
  await page.locator("[data-request-list] [role=row][aria-selected=true]").waitFor();
  await step("its requests");
  await key("Enter");
  await page.locator("dialog[open] dl").waitFor();
  await step("one request with all columns");
  await key("Escape");
  await page.locator("dialog[open]").waitFor({ state: "detached" });

  // Back to the client, and the verdict with a note.
  await page.goBack();
  while (!page.url().includes("/client?")) await page.goBack();
  await summary.waitFor();
  await key(KEY);
  await page.locator("dialog[open] textarea:focus").waitFor();
  await page.keyboard.type(NOTE);
  await step("verdict with a note");
  await key("Enter");
  await page.locator("dialog[open]").waitFor({ state: "detached" });
  const line = page.locator(`[aria-label=Summary] [data-label="${verdict}"]`);
  await line.waitFor();
  assert.ok((await line.textContent()).includes("<b>not bold</b>"), "the note is not shown as it was typed");
  await step("labelled");

  // The next cycle knows it.
  await page.locator(`[aria-label=Summary] [data-label="${verdict}"][data-label-known=true]`).waitFor({ timeout: cycleTimeoutMs });
  await page.waitForLoadState("networkidle");
  if (["legitimate", "verified_crawler"].includes(verdict) && expected === "full") {
    await page.waitForFunction(() => !["flagged", "alert"].includes(document.querySelector("[data-client-verdict]")?.getAttribute("data-client-verdict") ?? ""), undefined, { timeout: cycleTimeoutMs });
  }
  const after = { verdict: await summary.getAttribute("data-client-verdict"), evidence: await summary.getAttribute("data-evidence") };
  console.log(`    before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`);
  await step("the next cycle knows it");

  // Triage: side panel, menu of a value, and export of exactly what is filtered.
  await key("g");
  await key("t");
  await page.waitForURL(/\/triage/);
  await page.locator("[data-client-list] [role=row]").first().waitFor();
  await key("j");
  await page.locator("[data-side-panel]").waitFor();
  await step("triage with the side panel");
  await key("m");
  await page.locator("[role=menu] [role=menuitem]").first().waitFor();
  await step("menu of a value");
  await key("Enter");
  await page.waitForURL(/q=src_ip/);
  await page.locator("[data-client-list] [role=row]").first().waitFor();
  const filter = new URL(page.url()).searchParams.get("q");
  const shown = await page.evaluate(async (q) => (await (await fetch(`/api/v1/clients?limit=500&q=${encodeURIComponent(q)}`)).json()).clients.length, filter);
  await key("e");
  const csv = page.getByRole("button", { name: /^CSV/ });
  await csv.waitFor();
  await tabTo(csv);
  const [download] = await Promise.all([page.waitForEvent("download"), key("Enter")]);
  const text = readFileSync(await download.path(), "utf8");
  const lines = text.trimEnd().split(/\r?\n(?=(?:[^"]*"[^"]*")*[^"]*$)/);
  assert.equal(lines.length - 1, shown, `the export has ${lines.length - 1} rows, the filter ${filter} gives ${shown}`);
  for (const cell of text.matchAll(/(?:^|,)"?([=+@-][^",\r\n]*)/gm)) assert.fail(`a spreadsheet would run ${cell[1]}`);
  await step("exported");

  // A filter that is wrong points at the character.
  await key("/");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("host:(a OR");
  await key("Enter");
  await page.locator("[role=alert] mark").waitFor();
  browser.tolerate(/status of 400/);
  await step("a wrong filter points at the character");
  await key("/");
  await page.keyboard.press("Control+A");
  await page.keyboard.press("Backspace");
  await key("Enter");
  await page.locator("[data-client-list] [role=row]").first().waitFor();
  await key("Escape");

  // Undo.
  await page.evaluate(() => document.activeElement?.blur());
  await key("z");
  await page.getByText(/^taken back:/).waitFor();
  await step("undone");
  const labels = await page.evaluate(async () => (await (await fetch("/api/v1/labels")).json()).labels);
  const mine = labels.find((one) => one.note === NOTE);
  assert.ok(mine?.undone, "the label still stands after the undo");

  // The audit has all of it.
  await key("g");
  await key("a");
  await page.waitForURL(/\/audit/);
  await page.getByRole("region", { name: "Acts of users" }).getByRole("cell", { name: "exported" }).first().waitFor();
  await step("audit");
  await key("?");
  await page.locator("dialog[open]").waitFor();
  await step("help");
  await key("Escape");
}

browser.tolerate(/status of 400/, /status of 401/);
await browser.run(walk, "the analyst's path works");
