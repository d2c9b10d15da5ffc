// The page About names every package that the app is made of.
import { expect, test } from "vitest";
import manifest from "../package.json";
import packages from "./attribution.json";

test("every dependency is attributed", () => {
  const named = new Set(packages.map((one) => one.name));
  for (const name of Object.keys(manifest.dependencies)) expect(named, `run npm run attribution for ${name}`).toContain(name);
});
