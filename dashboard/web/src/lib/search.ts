// The state of a page as the URL holds it. Every parameter is a string; what equals the default is left out, so that
// addresses stay short enough to paste into a ticket.
import { DEFAULT_RANGE, type Range } from "./time";

export interface PageSearch {
  q?: string;
  from?: string;
  to?: string;
  /** Column that a list is sorted by. */
  sort?: string;
  /** Row that the side panel shows. */
  sel?: string;
  /** Field whose values are counted instead of rows shown. */
  by?: string;
  src_ip?: string;
  ja4?: string;
  host?: string;
  kind?: string;
  value?: string;
}

const KNOWN: readonly (keyof PageSearch)[] = ["q", "from", "to", "sort", "sel", "by", "src_ip", "ja4", "host", "kind", "value"];

/** Keeps the parameters a page knows; anything else of a pasted address is dropped. */
export function validateSearch(raw: Record<string, unknown>): PageSearch {
  const out: PageSearch = {};
  for (const key of KNOWN) {
    const text = raw[key];
    if (typeof text === "string" && (text !== "" || key === "ja4")) out[key] = text;
  }
  if (out.from === DEFAULT_RANGE.from && (out.to ?? DEFAULT_RANGE.to) === DEFAULT_RANGE.to) delete out.from;
  if (out.to === DEFAULT_RANGE.to) delete out.to;
  return out;
}

export function parseSearch(text: string): Record<string, unknown> {
  return Object.fromEntries(new URLSearchParams(text));
}

export function stringifySearch(search: Record<string, unknown>): string {
  const params = new URLSearchParams();
  for (const [key, text] of Object.entries(search)) if (typeof text === "string") params.set(key, text);
  // Colons, slashes and commas are harmless in a query and make it readable.
  const out = params.toString().replaceAll("%3A", ":").replaceAll("%2F", "/").replaceAll("%2C", ",");
  return out === "" ? "" : `?${out}`;
}

export function rangeOf(search: PageSearch): Range {
  return { from: search.from ?? DEFAULT_RANGE.from, to: search.to ?? DEFAULT_RANGE.to };
}
