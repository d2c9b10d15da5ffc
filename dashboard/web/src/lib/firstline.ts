// The first line of a client's page: one plain sentence that says what it claims, what it shows, what it did, and
// what was made of it. Pieces that came from traffic are marked, so that the page shows them through `Raw`.
import type { ClientPage } from "../api/types";
import { plural } from "./format";

export type Piece = string | { raw: string };

const DIMENSIONS: Readonly<Record<string, string>> = {
  user_agent: "User-Agent",
  ja4: "TLS fingerprint",
  header_order: "header order",
  http2: "HTTP/2 settings",
  tcp: "TCP options",
  address: "address",
};

export function dimensionName(dimension: string): string {
  return DIMENSIONS[dimension] ?? dimension;
}

/** `a`, `a and b`, `a, b and c`. */
export function list(words: readonly string[]): string {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

function claim(page: ClientPage): Piece[] {
  const claims = page.matrix?.claims;
  if (!claims) return ["made no request in this span"];
  if (claims.kind === "none" || claims.family === "") return ["does not say what it is"];
  return ["says that it is ", { raw: [claims.family, claims.version].filter(Boolean).join(" ") }, ...(claims.os ? [" on ", { raw: claims.os }] : [])];
}

function fit(page: ClientPage): Piece[] {
  const cells = page.matrix?.cells ?? [];
  const against = cells.filter((cell) => cell.verdict === "contradicts").map((cell) => dimensionName(cell.dimension));
  const known = cells.filter((cell) => cell.verdict === "agrees").map((cell) => dimensionName(cell.dimension));
  if (against.length > 0) return [", but its ", list(against), against.length === 1 ? " says" : " say", " otherwise"];
  if (known.length > 0) return [", and its ", list(known), known.length === 1 ? " agrees" : " agree"];
  return cells.length > 0 ? [", and nothing it shows is known well enough to check that"] : [];
}

function outcome(page: ClientPage): string {
  const { client } = page;
  switch (client.verdict) {
    case "alert":
      return "It raised an alert.";
    case "flagged":
      return "It is flagged.";
    case "normal":
      if (client.label?.label === "legitimate") return "An analyst says that it is legitimate: it is scored and not flagged.";
      if (client.label?.label === "verified_crawler") return "An analyst says that it is a verified crawler: it is scored and not flagged.";
      return "It was scored and is below every threshold.";
    default:
      return "It was not scored in this span.";
  }
}

/** The sentence in pieces. */
export function firstLine(page: ClientPage): Piece[] {
  const { client } = page;
  const made = page.facts ? [". It made ", plural(client.requests, "request"), " to ", { raw: client.host }, client.errors > 0 ? `, ${plural(client.errors, "of them", "of them")} answered with an error` : "", ". "] : [". "];
  return [{ raw: client.src_ip }, " ", ...claim(page), ...fit(page), ...made, outcome(page)].filter((piece) => piece !== "");
}
