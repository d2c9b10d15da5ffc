// Hostile text stays visible, and nothing of it is lost.
import { expect, test } from "vitest";
import { pieces, truncate, visible } from "./raw";

test("plain text in any script stays one piece", () => {
  for (const text of ["curl/8.5.0", "naïve café", "日本語", "שלום", "emoji 🦀 ok", "Việt"]) {
    expect(pieces(text)).toEqual([{ kind: "text", text }]);
  }
});

test("markup is text like any other", () => {
  expect(pieces("<img src=x onerror=alert(1)>")).toEqual([{ kind: "text", text: "<img src=x onerror=alert(1)>" }]);
});

test("every control, bidi and zero-width character becomes a mark", () => {
  const hidden = [0, 7, 9, 10, 13, 0x1b, 0x7f, 0x80, 0x85, 0x9f, 0xa0, 0xad, 0x61c, 0x200b, 0x200d, 0x200e, 0x200f, 0x2028, 0x202a, 0x202e, 0x2066, 0x2069, 0x2060, 0x3000, 0x3164, 0xfeff, 0xe0041, 0xf8ff];
  for (const code of hidden) {
    const got = pieces(`a${String.fromCodePoint(code)}b`);
    expect(got.map((p) => p.kind), code.toString(16)).toEqual(["text", "mark", "text"]);
  }
});

test("a lone surrogate is a mark", () => {
  expect(pieces("a\ud800b")[1]).toMatchObject({ kind: "mark", text: "\\ud800" });
});

test("a right-to-left override is named", () => {
  expect(pieces("exe\u202etxt")[1]).toEqual({ kind: "mark", text: "\\u202e", name: "right-to-left override" });
});

test("piled accents end after three", () => {
  expect(pieces(`a${"\u0301".repeat(40)}`).filter((p) => p.kind === "mark")).toHaveLength(37);
});

test("cutting never splits a pair and says how much is left out", () => {
  expect(truncate("ab🦀cd", 3)).toEqual({ head: "ab", cut: 4 });
  expect(visible("x".repeat(300), 10)).toBe(`${"x".repeat(10)}…`);
});
