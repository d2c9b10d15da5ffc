// The truth card of the demo, laid beside the ranking: who was what, and where the ranking was wrong.
import type { ClientRow } from "../api/types";

/** One line of the card. */
export interface TruthClient {
  name: string;
  /** person, app, machine or bot. */
  role: string;
  kind: string;
  what: string;
  src_ip: string;
  user_agent: string;
  host: string;
  behind_nat: boolean;
  causes: string[];
}

export interface TruthCard {
  written_at: string;
  seed: number | null;
  clients: TruthClient[];
}

/** A line of the card with its place in the ranking. */
export interface Placed extends TruthClient {
  /** From 1; null when no ranked client has its address and host. */
  rank: number | null;
  row: ClientRow | null;
  /** Names of the lines that stand at the same place: clients behind one address that nothing tells apart. */
  shares: string[];
}

export interface Outcome {
  placed: Placed[];
  bots: number;
  /** Bots within the first `bots + 5` places. */
  caught: number;
  /** Bots that are not, or were not seen. */
  missed: Placed[];
  /** People, apps and machines that were flagged, and not for a bot that stands at their place. */
  wronged: Placed[];
}

const text = (value: unknown) => (typeof value === "string" ? value : "");

/** Reads the card; lines that are no clients are left out. Null when it is no card at all. */
export function readCard(json: unknown): TruthCard | null {
  if (typeof json !== "object" || json === null) return null;
  const card = json as Record<string, unknown>;
  if (!Array.isArray(card.clients)) return null;
  const clients = card.clients
    .filter((one): one is Record<string, unknown> => typeof one === "object" && one !== null)
    .map((one) => ({
      name: text(one.name),
      role: text(one.role),
      kind: text(one.kind),
      what: text(one.what),
      src_ip: text(one.src_ip),
      user_agent: text(one.user_agent),
      host: text(one.host),
      behind_nat: one.behind_nat === true,
      causes: Array.isArray(one.causes) ? one.causes.map(text) : [],
    }));
  return { written_at: text(card.written_at), seed: typeof card.seed === "number" ? card.seed : null, clients };
}

/** Places beyond the number of bots that still count as found. */
const SLACK = 5;

const isFlagged = (row: ClientRow | null) => row !== null && (row.verdict === "flagged" || row.verdict === "alert");

/**
 * Place of a client among the rows of its address and host. Behind a NAT there are several of them: the one counts whose
 * family of User-Agents it names, else the first.
 */
function place(client: TruthClient, places: readonly number[], rows: readonly ClientRow[]): number | undefined {
  const agent = client.user_agent.toLowerCase();
  const names = (at: number) => {
    const family = rows[at]?.ua_family.toLowerCase();
    return family ? agent.includes(family) : false;
  };
  return places.find(names) ?? places[0];
}

function groupBy<K, V>(values: Iterable<V>, key: (value: V) => K): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const value of values) groups.set(key(value), [...(groups.get(key(value)) ?? []), value]);
  return groups;
}

/** Lays the card beside the ranking. `rows` are in triage order. */
export function lay(card: TruthCard, rows: readonly ClientRow[]): Outcome {
  const places = groupBy(rows.keys(), (at) => `${rows[at]?.src_ip} ${rows[at]?.host}`);
  const found = card.clients.map((client) => ({ client, at: place(client, places.get(`${client.src_ip} ${client.host}`) ?? [], rows) }));
  const at = groupBy(found, (one) => one.at);
  const placed = found
    .map((one): Placed => {
      const others = one.at === undefined ? [] : (at.get(one.at) ?? []).filter((other) => other !== one);
      return { ...one.client, rank: one.at === undefined ? null : one.at + 1, row: one.at === undefined ? null : (rows[one.at] ?? null), shares: others.map((other) => other.client.name) };
    })
    .sort((a, b) => (a.rank ?? Infinity) - (b.rank ?? Infinity) || a.name.localeCompare(b.name));
  const bots = placed.filter((one) => one.role === "bot");
  const caught = bots.filter((one) => one.rank !== null && one.rank <= bots.length + SLACK);
  const ofBots = new Set(bots.map((one) => one.rank));
  return { placed, bots: bots.length, caught: caught.length, missed: bots.filter((one) => !caught.includes(one)), wronged: placed.filter((one) => one.role !== "bot" && isFlagged(one.row) && !ofBots.has(one.rank)) };
}
