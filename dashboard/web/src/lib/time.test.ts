// Ranges of the URL, and times that carry their zone.
import { expect, test } from "vitest";
import { ago, fromField, resolve, resolveRange, stamp, toField } from "./time";

const NOW = Date.parse("2026-11-26T12:00:00Z");

test("relative ends count back from now", () => {
  expect(resolve("now", NOW)).toBe(NOW);
  expect(resolve("now-15m", NOW)).toBe(NOW - 15 * 60e3);
  expect(resolve("now-7d", NOW)).toBe(NOW - 7 * 86400e3);
});

test("an absolute end needs its zone", () => {
  expect(resolve("2026-11-26T10:00:00Z", NOW)).toBe(NOW - 7200e3);
  expect(resolve("2026-11-26T10:00:00+01:00", NOW)).toBe(NOW - 10800e3);
  expect(resolve("2026-11-26T10:00:00", NOW)).toBeNull();
  expect(resolve("yesterday", NOW)).toBeNull();
});

test("an empty or unreadable range is the last day", () => {
  const day = { from: "2026-11-25T12:00:00.000Z", to: "2026-11-26T12:00:00.000Z" };
  expect(resolveRange({ from: "now", to: "now-1h" }, NOW)).toEqual(day);
  expect(resolveRange({ from: "<script>", to: "now" }, NOW)).toEqual(day);
});

test("a time is shown with its zone", () => {
  expect(stamp("2026-11-26T10:00:05Z", "utc")).toBe("2026-11-26 10:00:05 UTC");
  expect(stamp("2026-11-26T10:00:05.1239Z", "utc", "milli")).toBe("2026-11-26 10:00:05.123 UTC");
  expect(stamp("nonsense", "utc")).toBe("unknown time");
});

test("ages use one unit", () => {
  expect(ago(NOW - 40e3, NOW)).toBe("40 s ago");
  expect(ago(NOW - 3 * 3600e3, NOW)).toBe("3 h ago");
  expect(ago(NOW + 600e3, NOW)).toBe("in 10 min");
});

test("a field of the range picker goes there and back", () => {
  for (const zone of ["utc", "local"] as const) expect(fromField(toField(NOW, zone), zone)).toBe(NOW);
  expect(fromField("", "utc")).toBeNull();
});
