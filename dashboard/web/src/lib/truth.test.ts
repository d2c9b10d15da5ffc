// The truth card names what the ranking got wrong.
import { expect, test } from "vitest";
import type { ClientRow } from "../api/types";
import { lay, readCard } from "./truth";

const row = (src_ip: string, verdict: ClientRow["verdict"], ua_family = "") => ({ src_ip, host: "h", ja4: "", entity_id: src_ip, verdict, ua_family }) as ClientRow;
const line = (src_ip: string, role: string) => ({ name: `${role} ${src_ip}`, role, kind: "", what: "", src_ip, user_agent: "", host: "h", since: "", behind_nat: false, causes: [] });
const nat = (name: string, role: string, user_agent: string) => ({ ...line("9", role), name, user_agent });

test("a bot far down and a person who was flagged are named", () => {
  const card = readCard({ written_at: "2026-11-26T00:00:00Z", seed: 1, clients: [line("1", "bot"), line("2", "bot"), line("3", "person"), line("9", "bot")] });
  const ranking = [row("1", "flagged"), row("3", "alert"), ...Array.from({ length: 9 }, (_, i) => row(`x${i}`, "normal")), row("2", "normal")];
  const out = card && lay(card, ranking);
  expect(out?.bots).toBe(3);
  expect(out?.caught).toBe(1);
  expect(out?.missed.map((one) => [one.src_ip, one.rank])).toEqual([
    ["2", 12],
    ["9", null],
  ]);
  expect(out?.wronged.map((one) => one.src_ip)).toEqual(["3"]);
});

test("what is no card is refused, and strange lines are left out", () => {
  expect(readCard(null)).toBeNull();
  expect(readCard({})).toBeNull();
  expect(readCard({ clients: [5, null, { name: 3 }] })?.clients).toHaveLength(1);
});

test("behind one address a bot is told from people by its User-Agent, and people alike share a place", () => {
  const card = readCard({ clients: [nat("ada", "person", "Mozilla/5.0 Chrome/156"), nat("bob", "person", "Mozilla/5.0 Chrome/156"), nat("bot", "bot", "curl/8.1"), nat("liar", "bot", "Mozilla/5.0 Googlebot/2.1")] });
  const out = card && lay(card, [row("9", "alert", "Googlebot"), row("1", "normal", "Chrome"), row("9", "normal", "Chrome")]);
  // Nothing names curl: the first place of the address stands for it.
  expect(out?.placed.map((one) => [one.name, one.rank, one.shares])).toEqual([
    ["bot", 1, ["liar"]],
    ["liar", 1, ["bot"]],
    ["ada", 3, ["bob"]],
    ["bob", 3, ["ada"]],
  ]);
  expect(out?.wronged).toEqual([]);
});

test("who shares a place with a bot was not flagged wrongly", () => {
  const card = readCard({ clients: [nat("ada", "person", "Chrome"), nat("bot", "bot", "Chrome")] });
  const out = card && lay(card, [row("9", "flagged", "Chrome")]);
  expect(out?.placed[0]?.shares).toEqual(["bot"]);
  expect(out?.wronged).toEqual([]);
});
