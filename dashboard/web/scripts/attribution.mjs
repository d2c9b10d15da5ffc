// Writes src/attribution.json: every package whose code or font ends up in the bundle, with its licence.
import { readFileSync, writeFileSync } from "node:fs";

const lock = JSON.parse(readFileSync("package-lock.json", "utf8"));
const out = [];
for (const [path, entry] of Object.entries(lock.packages)) {
  if (path === "" || entry.dev || entry.optional || path.includes("/@types/") || path.endsWith("/csstype")) continue;
  const manifest = JSON.parse(readFileSync(`${path}/package.json`, "utf8"));
  const author = typeof manifest.author === "string" ? manifest.author : (manifest.author?.name ?? "");
  out.push({ name: manifest.name, version: manifest.version, licence: manifest.license ?? "unknown", author: author.replace(/\s*[<(].*/, "") });
}
out.sort((a, b) => (a.name < b.name ? -1 : 1));
const unique = out.filter((one, i) => one.name !== out[i - 1]?.name);
writeFileSync("src/attribution.json", `${JSON.stringify(unique, null, 1)}\n`);
const unknown = unique.filter((one) => !/^(MIT|ISC|Apache-2\.0|BSD-[23]-Clause|OFL-1\.1|0BSD|\(MIT OR .*\)|CC0-1\.0|Unlicense)$/.test(one.licence));
if (unknown.length > 0) {
  console.error(`licences to look at: ${unknown.map((one) => `${one.name} (${one.licence})`).join(", ")}`);
  process.exit(1);
}
console.log(`${unique.length} packages`);
