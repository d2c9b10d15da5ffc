// Makes text that came from traffic harmless to look at: what a reader cannot see, or what reorders a line, becomes a
// visible mark. The text itself is never changed; copying and filtering use the original.

/** A piece of a value: plain text, or one character that is shown as an escape with its name. */
export type Piece = { kind: "text"; text: string } | { kind: "mark"; text: string; name: string };

const NAMES: ReadonlyMap<number, string> = new Map([
  [0x00, "null"],
  [0x07, "bell"],
  [0x08, "backspace"],
  [0x09, "tab"],
  [0x0a, "line feed"],
  [0x0d, "carriage return"],
  [0x1b, "escape"],
  [0x7f, "delete"],
  [0x85, "next line"],
  [0xa0, "no-break space"],
  [0xad, "soft hyphen"],
  [0x061c, "Arabic letter mark"],
  [0x200b, "zero width space"],
  [0x200c, "zero width non-joiner"],
  [0x200d, "zero width joiner"],
  [0x200e, "left-to-right mark"],
  [0x200f, "right-to-left mark"],
  [0x2028, "line separator"],
  [0x2029, "paragraph separator"],
  [0x202a, "left-to-right embedding"],
  [0x202b, "right-to-left embedding"],
  [0x202c, "pop directional formatting"],
  [0x202d, "left-to-right override"],
  [0x202e, "right-to-left override"],
  [0x2060, "word joiner"],
  [0x2066, "left-to-right isolate"],
  [0x2067, "right-to-left isolate"],
  [0x2068, "first strong isolate"],
  [0x2069, "pop directional isolate"],
  [0xfeff, "byte order mark"],
  [0xfffd, "replacement character"],
]);

/** Letters that render as nothing: Hangul fillers and the Braille blank. */
const BLANK_LETTERS = new Set([0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0]);

/** Accents that may pile on one letter before the next ones are shown as escapes. Vietnamese and Hebrew need three. */
const STACK_MAX = 3;

/** Whether the character at `code` is shown as an escape. A plain space is not. */
function isHidden(code: number, char: string): boolean {
  if (code < 0x20 || (code >= 0x7f && code <= 0xa0) || code === 0xad) return true;
  if (code < 0x300) return false;
  return BLANK_LETTERS.has(code) || code === 0xfffd || /^[\p{Cc}\p{Cf}\p{Cs}\p{Zs}\p{Zl}\p{Zp}\p{Co}\p{Cn}]$/u.test(char);
}

function escapeOf(code: number): string {
  if (code <= 0xff) return `\\x${code.toString(16).padStart(2, "0")}`;
  return code <= 0xffff ? `\\u${code.toString(16).padStart(4, "0")}` : `\\u{${code.toString(16)}}`;
}

/** Splits `value` into plain runs and marks, in order. */
export function pieces(value: string): Piece[] {
  const out: Piece[] = [];
  let run = "";
  let stacked = 0;
  for (const char of value) {
    const code = char.codePointAt(0) ?? 0;
    const combining = code >= 0x300 && /^\p{M}$/u.test(char);
    stacked = combining ? stacked + 1 : 0;
    if (isHidden(code, char) || stacked > STACK_MAX) {
      if (run) out.push({ kind: "text", text: run });
      run = "";
      out.push({ kind: "mark", text: escapeOf(code), name: NAMES.get(code) ?? (combining ? "stacked accent" : "invisible character") });
    } else {
      run += char;
    }
  }
  if (run) out.push({ kind: "text", text: run });
  return out;
}

/** `value` as one plain string with escapes, for titles and labels that take no elements. */
export function visible(value: string, max = 200): string {
  const { head, cut } = truncate(value, max);
  const text = pieces(head)
    .map((piece) => piece.text)
    .join("");
  return cut > 0 ? `${text}…` : text;
}

/** The first `max` characters and how many are left out; never splits a surrogate pair. */
export function truncate(value: string, max: number): { head: string; cut: number } {
  if (value.length <= max) return { head: value, cut: 0 };
  let end = max;
  const last = value.charCodeAt(end - 1);
  if (last >= 0xd800 && last <= 0xdbff) end -= 1;
  return { head: value.slice(0, end), cut: value.length - end };
}
