// Fails when the script of the first route, or of all routes, is heavier than its budget (gzip, level 9).
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const FIRST_ROUTE_KB = 180;
const ALL_KB = 300;
const dist = process.env.JA4_WEB_DIST ?? "dist";

const manifest = JSON.parse(readFileSync(join(dist, ".vite/manifest.json"), "utf8"));
const sizes = new Map();
for (const entry of Object.values(manifest)) {
  if (entry.file.endsWith(".js") && !sizes.has(entry.file)) {
    sizes.set(entry.file, gzipSync(readFileSync(join(dist, entry.file)), { level: 9 }).length);
  }
}

/** Files that a chunk loads before it can run. */
function closure(key, seen = new Set()) {
  if (!seen.has(key)) {
    seen.add(key);
    for (const next of manifest[key].imports ?? []) closure(next, seen);
  }
  return seen;
}
const bytes = (keys) => [...new Set([...keys].map((key) => manifest[key].file))].reduce((sum, file) => sum + sizes.get(file), 0);

const entry = "index.html";
const pages = Object.keys(manifest).filter((key) => manifest[key].isDynamicEntry && key.startsWith("src/pages/"));
const kb = (n) => `${(n / 1000).toFixed(1)} kB`;
let heaviest = 0;
for (const page of pages) {
  const total = bytes(closure(page, closure(entry)));
  heaviest = Math.max(heaviest, total);
  console.log(`${kb(total).padStart(9)}  first load of ${page}`);
}
const all = [...sizes.values()].reduce((a, b) => a + b, 0);
console.log(`${kb(all).padStart(9)}  all script`);
if (heaviest > FIRST_ROUTE_KB * 1000 || all > ALL_KB * 1000) {
  console.error(`script too heavy: the budget is ${FIRST_ROUTE_KB} kB for a first route and ${ALL_KB} kB for all`);
  process.exit(1);
}
