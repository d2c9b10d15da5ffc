// The menu on a value edits the search bar: these cases are what an analyst expects of it.
import { expect, test } from "vitest";
import { clause, exclude, include, state, topLevel, typingAt } from "./filter";

test("a plain word stays bare and anything else is quoted", () => {
  expect(clause("host", "shop.example")).toBe("host:shop.example");
  expect(clause("src_ip", "2001:db8::1")).toBe("src_ip:2001:db8::1");
  expect(clause("path", "-x")).toBe('path:"-x"');
  expect(clause("user_agent", 'a "b" \\ c')).toBe('user_agent:"a \\"b\\" \\\\ c"');
  expect(clause("path", "")).toBe('path:""');
  expect(clause("path", "*")).toBe('path:"*"');
  expect(clause("path", "OR")).toBe('path:"OR"');
  expect(clause("status", "400..499")).toBe('status:"400..499"');
});

test("including twice changes nothing and takes an exclusion back", () => {
  const once = include("", "host", "a");
  expect(once).toBe("host:a");
  expect(include(once, "host", "a")).toBe("host:a");
  expect(include("-host:a status:200", "host", "a")).toBe("status:200 host:a");
});

test("excluding takes an inclusion back with its AND", () => {
  expect(exclude("status:200 AND host:a", "host", "a")).toBe("status:200 -host:a");
  expect(exclude("host:a AND status:200", "host", "a")).toBe("status:200 -host:a");
});

test("a filter with OR is wrapped, so that the new clause holds for both sides", () => {
  expect(include("host:a OR host:b", "status", "200")).toBe("(host:a OR host:b) status:200");
  expect(exclude("(host:a OR host:b)", "status", "200")).toBe("(host:a OR host:b) -status:200");
});

test("an OR inside a value is no operator", () => {
  expect(include('path:"this OR that"', "status", "200")).toBe('path:"this OR that" status:200');
});

test("the state of a value is read from the filter", () => {
  expect(state("host:a -status:200", "host", "a")).toBe("included");
  expect(state("host:a -status:200", "status", "200")).toBe("excluded");
  expect(state("host:a NOT status:200", "status", "200")).toBe("excluded");
  expect(state("host:b", "host", "a")).toBe("none");
});

test("words keep quotes and brackets together even when they are not closed", () => {
  expect(topLevel('a:"x y" (b OR c) d:"e f').map((t) => t.text)).toEqual(['a:"x y"', "(b OR c)", 'd:"e f']);
});

test("the caret is in a field's name or in a value", () => {
  expect(typingAt("sta", 3)).toEqual({ what: "field", prefix: "sta", start: 0, end: 3 });
  expect(typingAt("host:a -st", 10)).toEqual({ what: "field", prefix: "st", start: 8, end: 10 });
  expect(typingAt("host:sh", 7)).toEqual({ what: "value", field: "host", prefix: "sh", start: 5, end: 7 });
  expect(typingAt('ua:"Moz il', 10)).toEqual({ what: "value", field: "ua", prefix: "Moz il", start: 3, end: 10 });
  expect(typingAt("ja4:(t13 OR t1", 14)).toEqual({ what: "value", field: "ja4", prefix: "t1", start: 12, end: 14 });
});
