// The component that stands between traffic and the page, rendered for real.
import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import { Raw } from "./Raw";

const html = (value: string, max?: number) => renderToStaticMarkup(<Raw value={value} max={max} expandable />);

test("markup of a client arrives as text", () => {
  const out = html(`<script>alert(1)</script><img src=x onerror="alert(2)">`);
  expect(out).not.toContain("<script");
  expect(out).not.toContain("<img");
  expect(out).toContain("&lt;script&gt;");
});

test("no hidden character reaches the page", () => {
  const out = html("a\u0000b\u001b[31mc\u202ed\u200be\u2066f\u0085g\r\nh");
  expect(out).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/);
  for (const escape of ["\\x00", "\\x1b", "\\u202e", "\\u200b", "\\u2066", "\\x85", "\\x0d", "\\x0a"]) expect(out).toContain(escape);
});

test("direction is isolated", () => {
  expect(html("שלום")).toContain('<bdi dir="ltr"');
});

test("64 KiB is cut, with the way to the rest", () => {
  const out = html("x".repeat(65_536), 100);
  expect(out.length).toBeLessThan(1000);
  expect(out).toContain("show all 65\u202f536 characters");
});

test("an empty value says that it is empty", () => {
  expect(html("")).toContain("(empty)");
});
