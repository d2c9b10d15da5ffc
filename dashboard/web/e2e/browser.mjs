// One real browser page that keeps score: console errors, requests to other hosts, accessibility violations.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Starts Chromium on `baseUrl`. `expected` are patterns of console errors that the caller provokes. */
export async function openBrowser({ baseUrl, out, viewport = { width: 1440, height: 900 }, colorScheme = "dark", reducedMotion = "reduce", executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium" }) {
  const profile = mkdtempSync(join(tmpdir(), "ja4-web-"));
  const context = await chromium.launchPersistentContext(profile, { executablePath, args: FLAGS, viewport, colorScheme, reducedMotion, acceptDownloads: true, bypassCSP: false, ignoreHTTPSErrors: true, baseURL: baseUrl, timezoneId: "Europe/Berlin", locale: "en-GB", permissions: ["clipboard-read", "clipboard-write"] });
  const page = context.pages()[0] ?? (await context.newPage());
  const problems = [];
  const own = new URL(baseUrl).origin;
  let tolerated = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !tolerated.some((pattern) => pattern.test(message.text()))) problems.push(`console: ${message.text()} (${page.url()})`);
  });
  page.on("pageerror", (error) => problems.push(`page: ${error.message} (${page.url()})`));
  context.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${own}/`) && !url.startsWith("blob:") && !url.startsWith("data:")) problems.push(`other host: ${url}`);
  });
  if (out) mkdirSync(out, { recursive: true });

  /** Runs axe on what is shown; WCAG 2.2 AA and its best practices. */
  async function axe(where) {
    // Through the debugger, which the page's content security policy does not bind; the page itself stays under it.
    await page.evaluate(AXE);
    const found = await page.evaluate(async () => {
      const { violations } = await globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"] });
      return violations.map((v) => ({ id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.slice(0, 3).map((n) => `${n.target.join(" ")}: ${n.failureSummary?.split("\n").slice(1, 3).join(" ")} :: ${n.html.slice(0, 160)}`) }));
    });
    for (const one of found) problems.push(`axe ${one.id} (${one.impact}) on ${where}: ${one.help}\n      ${one.nodes.join("\n      ")}`);
    return found.length;
  }

  async function shot(name) {
    if (out) await page.screenshot({ path: join(out, `${name}.png`) });
  }

  async function close() {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }

  /** Walks, says every problem or that all is well, and sets the exit status. */
  async function run(walk, wellDone) {
    try {
      await walk();
    } catch (error) {
      await shot("failed").catch(() => {});
      problems.push(`failed at ${page.url()}: ${error.stack ?? error}`);
    }
    await close();
    for (const problem of problems) console.error(`  ${problem}`);
    console.log(problems.length === 0 ? wellDone : `${problems.length} problems`);
    process.exitCode = problems.length === 0 ? 0 : 1;
  }

  return {
    page,
    context,
    problems,
    run,
    axe,
    shot,
    /** Console errors that match are expected from here on. */
    tolerate: (...patterns) => {
      tolerated = patterns;
    },
    close,
  };
}
