// An address holds the page's whole state and nothing else.
import { expect, test } from "vitest";
import { parseSearch, stringifySearch, validateSearch } from "./search";

test("an address goes there and back, whatever the value holds", () => {
  const search = { q: 'user_agent:"a&b=c#d" -status:200 <b>\u202e', from: "now-6h", value: "100%", ja4: "" };
  expect(validateSearch(parseSearch(stringifySearch(search)))).toEqual(search);
});

test("defaults and strangers are left out", () => {
  expect(validateSearch({ from: "now-24h", to: "now", q: "", evil: "x", sel: 5 })).toEqual({});
});

test("a number or true stays text", () => {
  expect(validateSearch(parseSearch("?q=5&value=true"))).toEqual({ q: "5", value: "true" });
});
