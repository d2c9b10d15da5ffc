// Figures keep their meaning when they are shortened.
import { expect, test } from "vitest";
import { bytes, count, ip, percent, percentile, plural, short, value } from "./format";

test("numbers are grouped", () => {
  expect(count(4037)).toBe("4\u202f037");
  expect(plural(1, "client")).toBe("1 client");
  expect(plural(0, "client")).toBe("0 clients");
});

test("a share is never rounded to nothing or to all", () => {
  expect(percent(0)).toBe("0 %");
  expect(percent(0.00001)).toBe("<0.1 %");
  expect(percent(0.99999)).toBe(">99.9 %");
  expect(percent(1)).toBe("100 %");
  expect(percent(Number.NaN)).toBe("–");
});

test("values keep three digits, and no value is a dash", () => {
  expect(value(0.01234)).toBe("0.0123");
  expect(value(12)).toBe("12");
  expect(value(Number.NaN)).toBe("–");
  expect(value(null)).toBe("–");
  expect(short(4037)).toBe("4.0k");
  expect(bytes(1536)).toBe("1.5 KiB");
});

test("a percentile says on which side", () => {
  expect(percentile(100)).toBe("above all others");
  expect(percentile(99.4)).toBe("above 99.4 % of them");
  expect(percentile(12)).toBe("below 88 % of them");
});

test("an IPv4 address is written short", () => {
  expect(ip("::ffff:10.0.0.1")).toBe("10.0.0.1");
  expect(ip("2001:db8::1")).toBe("2001:db8::1");
});
