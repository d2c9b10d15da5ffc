// Time ranges as the URL spells them (`now-1h`, or RFC 3339), and times as people read them, always with their zone.

/** How times are shown. The wire is always UTC. */
export type Zone = "local" | "utc";

/** A span as the URL holds it. */
export interface Range {
  from: string;
  to: string;
}

/** The server's own default as well. */
export const DEFAULT_RANGE: Range = { from: "now-24h", to: "now" };

export const PRESETS: readonly { label: string; from: string }[] = [
  { label: "15 minutes", from: "now-15m" },
  { label: "1 hour", from: "now-1h" },
  { label: "6 hours", from: "now-6h" },
  { label: "24 hours", from: "now-24h" },
  { label: "7 days", from: "now-7d" },
  { label: "30 days", from: "now-30d" },
];

const UNIT_MS: Readonly<Record<string, number>> = { s: 1e3, m: 60e3, h: 3600e3, d: 86400e3 };

/** Milliseconds since the epoch, or null when the text is neither relative nor a date with a zone. */
export function resolve(text: string, now: number): number | null {
  const relative = /^now(?:-(\d{1,6})([smhd]))?$/.exec(text.trim());
  if (relative) return now - (relative[1] ? Number(relative[1]) * (UNIT_MS[relative[2] ?? ""] ?? 0) : 0);
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.test(text.trim())) return null;
  const ms = Date.parse(text.trim());
  return Number.isNaN(ms) ? null : ms;
}

/** Both ends in RFC 3339, for the API. A range that cannot be read, or is empty, falls back to the last day. */
export function resolveRange(range: Range, now: number): { from: string; to: string } {
  const from = resolve(range.from, now);
  const to = resolve(range.to, now);
  if (from === null || to === null || from >= to) return { from: iso(now - 86400e3), to: iso(now) };
  return { from: iso(from), to: iso(to) };
}

export function isRelative(range: Range): boolean {
  return range.to.startsWith("now");
}

export function iso(ms: number): string {
  return new Date(ms).toISOString();
}

/** The zone's short name at this moment, for example CET or UTC. */
export function zoneName(zone: Zone, ms = Date.now()): string {
  if (zone === "utc") return "UTC";
  const part = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(ms).find((p) => p.type === "timeZoneName");
  return part?.value ?? "local";
}

type Shape = "time" | "minute" | "second" | "milli" | "day";

const SHAPES: Readonly<Record<Shape, Intl.DateTimeFormatOptions>> = {
  day: { year: "numeric", month: "2-digit", day: "2-digit" },
  time: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  minute: { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" },
  second: { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" },
  milli: { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 },
};

/** A moment as `2026-11-26 14:03:07 UTC`. */
export function stamp(at: string | number, zone: Zone, shape: Shape = "second", withZone = true): string {
  const ms = typeof at === "number" ? at : Date.parse(at);
  if (Number.isNaN(ms)) return "unknown time";
  const format = new Intl.DateTimeFormat("sv-SE", { ...SHAPES[shape], hour12: false, timeZone: zone === "utc" ? "UTC" : undefined });
  const text = format.format(ms).replace(",", ".");
  return withZone ? `${text} ${zoneName(zone, ms)}` : text;
}

/** `just now`, `40 s ago`, `3 min ago`, `2 h ago`, `5 d ago`; `in …` for the future. */
export function ago(at: string | number, now: number): string {
  const ms = typeof at === "number" ? at : Date.parse(at);
  if (Number.isNaN(ms)) return "unknown";
  const age = now - ms;
  const span = duration(Math.abs(age));
  if (Math.abs(age) < 2000) return "just now";
  return age > 0 ? `${span} ago` : `in ${span}`;
}

/** A length of time in its largest fitting unit. */
export function duration(ms: number): string {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 120e3) return `${Math.round(ms / 1000)} s`;
  if (ms < 120 * 60e3) return `${Math.round(ms / 60e3)} min`;
  if (ms < 72 * 3600e3) return `${Math.round(ms / 3600e3)} h`;
  return `${Math.round(ms / 86400e3)} d`;
}

/** What a range is called in a sentence. */
export function rangeLabel(range: Range, zone: Zone): string {
  const preset = PRESETS.find((p) => p.from === range.from && range.to === "now");
  if (preset) return `Last ${preset.label}`;
  const end = (text: string) => (text.startsWith("now") ? text : stamp(text, zone, "minute", false));
  const absolute = !range.from.startsWith("now") || !range.to.startsWith("now");
  return `${end(range.from)} – ${end(range.to)}${absolute ? ` ${zoneName(zone)}` : ""}`;
}

/** The text of a datetime-local field, in the zone that is shown. */
export function toField(ms: number, zone: Zone): string {
  const shifted = zone === "utc" ? ms : ms - new Date(ms).getTimezoneOffset() * 60e3;
  return iso(shifted).slice(0, 19);
}

/** The moment that a datetime-local field means; null when it is empty or cut short. */
export function fromField(text: string, zone: Zone): number | null {
  const full = text.length === 16 ? `${text}:00` : text;
  const ms = Date.parse(zone === "utc" ? `${full}Z` : full);
  return Number.isNaN(ms) ? null : ms;
}
