// Edits of the filter language as text: what the menu on a value does to the search bar, and what is being typed there.
// Parsing proper is the server's; this only needs words, quotes and brackets.

/** A word of a filter with its place, end exclusive. */
export interface Token {
  text: string;
  start: number;
  end: number;
}

/** Splits at blanks outside quotes and brackets. An unclosed quote or bracket runs to the end. */
export function topLevel(q: string): Token[] {
  const out: Token[] = [];
  let depth = 0;
  let quoted = false;
  let start = -1;
  for (let i = 0; i < q.length; i += 1) {
    const char = q[i] as string;
    if (quoted) {
      if (char === "\\") i += 1;
      else if (char === '"') quoted = false;
      continue;
    }
    if (/\s/.test(char) && depth === 0) {
      if (start >= 0) out.push({ text: q.slice(start, i), start, end: i });
      start = -1;
      continue;
    }
    if (start < 0) start = i;
    if (char === '"') quoted = true;
    else if (char === "(") depth += 1;
    else if (char === ")") depth = Math.max(0, depth - 1);
  }
  if (start >= 0) out.push({ text: q.slice(start), start, end: q.length });
  return out;
}

/** The value as the server writes it: bare when it is a plain word, else quoted with `"` and `\` escaped. */
export function quote(value: string): string {
  if (/^[\w./:+,][\w./:+,=-]*$/.test(value) && !/^(AND|OR|NOT)$/.test(value) && !value.includes("..")) return value;
  return `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** `field:value`, quoted where needed. */
export function clause(field: string, value: string): string {
  return `${field}:${quote(value)}`;
}

function hasTopLevelOr(q: string): boolean {
  return topLevel(q).some((token) => token.text.toUpperCase() === "OR");
}

/** The filter without the top-level words equal to `word`, and without an AND that this leaves over. */
function without(q: string, word: string): string {
  const kept: string[] = [];
  for (const token of topLevel(q)) {
    if (token.text === word) {
      if (kept.at(-1)?.toUpperCase() === "NOT") return q;
      if (kept.at(-1)?.toUpperCase() === "AND") kept.pop();
    } else if (!(kept.length === 0 && token.text.toUpperCase() === "AND")) {
      kept.push(token.text);
    }
  }
  return kept.join(" ");
}

function add(q: string, word: string, opposite: string): string {
  const trimmed = q.trim();
  if (trimmed === "") return word;
  if (hasTopLevelOr(trimmed)) return `(${trimmed}) ${word}`;
  const rest = without(trimmed, opposite);
  if (topLevel(rest).some((token) => token.text === word)) return rest;
  return rest === "" ? word : `${rest} ${word}`;
}

/** The filter that asks for `field:value` as well; takes back an exclusion of the same. */
export function include(q: string, field: string, value: string): string {
  const word = clause(field, value);
  return add(q, word, `-${word}`);
}

/** The filter that leaves `field:value` out; takes back an inclusion of the same. */
export function exclude(q: string, field: string, value: string): string {
  const word = clause(field, value);
  return add(q, `-${word}`, word);
}

/** Whether the filter has this clause at its top level. */
export function state(q: string, field: string, value: string): "included" | "excluded" | "none" {
  if (hasTopLevelOr(q)) return "none";
  const word = clause(field, value);
  const tokens = topLevel(q);
  const at = tokens.findIndex((token) => token.text === word || token.text === `-${word}`);
  if (at < 0) return "none";
  const negated = tokens[at]?.text.startsWith("-") !== (tokens[at - 1]?.text.toUpperCase() === "NOT");
  return negated ? "excluded" : "included";
}

/** What is being typed at the caret: a field's name, or a value of a field. `start`..`end` is what a choice replaces. */
export type Typing =
  | { what: "field"; prefix: string; start: number; end: number }
  | { what: "value"; field: string; prefix: string; start: number; end: number };

/** Looks left of the caret for the word that a completion would go on with. */
export function typingAt(q: string, caret: number): Typing {
  let start = caret;
  let quotes = 0;
  for (let i = 0; i < caret; i += 1) {
    if (q[i] === "\\" && quotes % 2 === 1) i += 1;
    else if (q[i] === '"') quotes += 1;
  }
  const inside = quotes % 2 === 1;
  if (inside) {
    start = q.lastIndexOf('"', caret - 1);
    const before = /([A-Za-z0-9_]+):(?:\([^)]*)?$/.exec(q.slice(0, start));
    if (before?.[1]) return { what: "value", field: before[1], prefix: q.slice(start + 1, caret), start, end: caret };
    return { what: "field", prefix: "", start: caret, end: caret };
  }
  while (start > 0 && !/[\s()]/.test(q[start - 1] as string)) start -= 1;
  const word = q.slice(start, caret);
  const colon = word.indexOf(":");
  if (colon >= 0) {
    const field = word.slice(0, colon).replace(/^-/, "");
    return { what: "value", field, prefix: word.slice(colon + 1), start: start + colon + 1, end: caret };
  }
  const list = /([A-Za-z0-9_]+):\([^)]*$/.exec(q.slice(0, start));
  if (list?.[1] && !/^(OR|AND|NOT)?$/i.test(word)) return { what: "value", field: list[1], prefix: word, start, end: caret };
  const dash = word.startsWith("-") ? 1 : 0;
  return { what: "field", prefix: word.slice(dash), start: start + dash, end: caret };
}

/** The requests of one client as a filter. */
export function requestsFilter(client: { src_ip: string; ja4: string; host: string }): string {
  return [clause("src_ip", client.src_ip), clause("ja4", client.ja4), clause("host", client.host)].join(" ");
}
