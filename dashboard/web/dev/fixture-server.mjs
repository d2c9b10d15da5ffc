// Serves the built app with made-up answers, for looking at pages and taking screenshots. A development tool: it is no
// backend, keeps nothing, and understands only the simplest filters. Usage: fixture-server.mjs [--port N] [--set empty|small|full|hostile]
// [--cycle SECONDS] [--truncate] [--learning]. Switches while it runs: /__dev/store?down=1, /__dev/set?name=full, /__dev/link.
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { FIELDS, HOSTILE, makeData, ORDER } from "./fixtures.mjs";

const arg = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : (process.argv[at + 1] ?? "");
};
const flag = (name) => process.argv.includes(`--${name}`);
const dist = process.env.JA4_WEB_DIST ?? new URL("../dist", import.meta.url).pathname;
const CSP = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2", ".woff": "font/woff", ".json": "application/json" };
const cycleS = Number(arg("cycle", "15"));

const state = { set: arg("set", "small"), down: false, learning: flag("learning"), truncate: flag("truncate"), sessions: new Map(), links: new Set(), labels: new Map(), acts: [], audit: [] };
let data = makeData(state.set, Date.now());
const iso = (ms) => new Date(ms).toISOString();

class Problem extends Error {
  constructor(status, code, detail, position = null, remedy = null) {
    super(detail);
    Object.assign(this, { status, code, position, remedy });
  }
}

const cycleStart = (now) => Math.floor(now / (cycleS * 1000)) * cycleS * 1000;
const meta = () => ({ truncated: state.truncate ? { by: "rows_read", limit: 50_000_000 } : null, took_ms: 12, as_of: iso(Date.now()) });

function windowOf(query) {
  const now = Date.now();
  const at = (text) => {
    const m = /^now(?:-(\d+)([smhd]))?$/.exec(text);
    if (m) return now - (m[1] ? Number(m[1]) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[m[2]] : 0);
    const ms = Date.parse(text);
    if (Number.isNaN(ms)) throw new Problem(400, "bad_parameter", `cannot read the time "${text}": write RFC 3339 or now-1h`);
    return ms;
  };
  const window = { from: at(query.get("from") ?? "now-24h"), to: at(query.get("to") ?? "now") };
  if (window.from >= window.to) throw new Problem(400, "bad_parameter", "the window is empty: from must lie before to");
  return window;
}

/** The few filters that pages make by themselves: words, `field:value`, `-field:value`, comparison, wildcard. */
function parse(q) {
  const terms = [];
  const re = /\s+|(-)?([a-z0-9_]+):(?:"((?:[^"\\]|\\.)*)"|(>=|<=|>|<)?([^\s()"]+))|\bAND\b|([^\s()":]+)/gy;
  let at = 0;
  while (at < q.length) {
    re.lastIndex = at;
    const m = re.exec(q);
    if (!m) throw new Problem(400, "bad_filter", `unexpected ${JSON.stringify(Array.from(q.slice(at))[0])}`, { offset: Array.from(q.slice(0, at)).length, length: 1 }, 'write field:value, or put the text into quotes: "…"');
    if (m[2]) {
      const name = m[2];
      if (!FIELDS.some((field) => field.name === name)) throw new Problem(400, "bad_filter", `there is no field ${name}`, { offset: Array.from(q.slice(0, at + (m[1] ? 1 : 0))).length, length: name.length }, "see the list of fields on the page About");
      terms.push({ field: name, value: m[3] === undefined ? m[5] : m[3].replace(/\\(.)/gs, "$1"), op: m[4] ?? "", not: Boolean(m[1]) });
    } else if (m[6]) terms.push({ field: "", value: m[6], op: "", not: false });
    at = re.lastIndex;
  }
  return terms;
}

function passes(row, terms) {
  return terms.every((term) => {
    let hit;
    if (term.field === "") hit = `${row.user_agent ?? ""} ${row.path ?? ""} ${row.host}`.includes(term.value);
    else if (term.field === "verdict") hit = row.verdict === undefined || row.verdict === term.value || (term.value === "flagged" && row.verdict === "alert");
    else if (term.field === "label") hit = row.label?.label === term.value;
    else if (!(term.field in row)) hit = true;
    else if (term.op) hit = { ">": (a, b) => a > b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, "<=": (a, b) => a <= b }[term.op](Number(row[term.field]), Number(term.value));
    else if (term.field === "src_ip" && term.value.includes("/")) hit = row.src_ip.startsWith(term.value.split("/")[0].replace(/0?$/, ""));
    else if (term.value.includes("*")) hit = new RegExp(`^${term.value.split("*").map((s) => s.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*")}$`, "s").test(String(row[term.field]));
    else hit = String(row[term.field]) === term.value;
    return hit !== term.not;
  });
}

const keyText = (c) => JSON.stringify([c.src_ip, c.ja4 ?? "", c.host]);

/** A client as the API shows it now: its label, and what the last cycle made of that. */
function present(client) {
  const row = { ...client };
  for (const own of ["actor", "evil", "isBot"]) delete row[own];
  const label = state.labels.get(keyText(row)) ?? null;
  const known = label && Date.parse(label.at) <= cycleStart(Date.now());
  if (known && ["legitimate", "verified_crawler"].includes(label.label)) return { ...row, label, verdict: "normal", flagged_since: null, incident: null, models: row.models.map((m) => ({ ...m, verdict: "normal" })) };
  return { ...row, label };
}

function inWindow(rows, { from, to }, terms) {
  return rows.filter((row) => {
    const t = Date.parse(row.ts);
    return t >= from && t < to && passes(row, terms);
  });
}

function steps({ from, to }) {
  const raw = (to - from) / 120_000;
  return [1, 5, 10, 30, 60, 300, 600, 900, 3600, 21600, 86400].find((s) => s >= raw) ?? 86400;
}

function series(rows, window) {
  const step = steps(window);
  const points = new Map();
  for (let t = Math.floor(window.from / 1000 / step) * step; t * 1000 < window.to; t += step) points.set(t, { t: iso(t * 1000), requests: 0, errors: 0, s2xx: 0, s3xx: 0, s4xx: 0, s5xx: 0, bytes: 0, secure: 0, joined: 0, h2: 0 });
  for (const row of rows) {
    const p = points.get(Math.floor(Date.parse(row.ts) / 1000 / step) * step);
    if (!p) continue;
    p.requests += 1;
    p.bytes += row.bytes_sent;
    p.secure += 1;
    if (row.match !== "none") p.joined += 1;
    if (row.status >= 400) p.errors += 1;
    const kind = Math.floor(row.status / 100);
    if (kind >= 2 && kind <= 5) p[`s${kind}xx`] += 1;
  }
  return { step_s: step, points: [...points.values()] };
}

function facets(rows) {
  return ["host", "ua_family", "status", "ja4", "country", "method", "match"].map((field) => {
    const counts = new Map();
    for (const row of rows) {
      const value = String(row[field]);
      const one = counts.get(value) ?? { value, name: field === "ja4" ? (data.clients.find((c) => c.ja4 === value)?.identity[0] ?? null) : null, requests: 0, errors: 0, clients: 0, ips: new Set() };
      one.requests += 1;
      if (row.status >= 400) one.errors += 1;
      one.ips.add(row.src_ip);
      counts.set(value, one);
    }
    const values = [...counts.values()].sort((a, b) => b.requests - a.requests).slice(0, 12).map(({ ips, ...one }) => ({ ...one, clients: ips.size }));
    return { field, values, more: counts.size > 12 };
  });
}

const totals = (rows) => ({ requests: rows.length, errors: rows.filter((r) => r.status >= 400).length, bytes: rows.reduce((s, r) => s + r.bytes_sent, 0), clients: new Set(rows.map((r) => keyText(r))).size });
const windowText = (w) => ({ from: iso(w.from), to: iso(w.to) });
const sorts = { evidence: (a, b) => (b.evidence_bits ?? -1) - (a.evidence_bits ?? -1), requests: (a, b) => b.requests - a.requests, errors: (a, b) => b.errors - a.errors, last_seen: (a, b) => (a.last_seen < b.last_seen ? 1 : -1), first_seen: (a, b) => (a.first_seen < b.first_seen ? 1 : -1) };

function findClient(query) {
  const client = data.clients.find((c) => keyText(c) === keyText({ src_ip: query.get("src_ip"), ja4: query.get("ja4") ?? "", host: query.get("host") }));
  if (!client) throw new Problem(404, "not_found", "no such client in this span: widen the time range");
  return client;
}

const rowsOf = (client) => data.requests.filter((r) => keyText(r) === keyText(client));
const shown = (rows, pick) => {
  const counts = new Map();
  for (const row of rows) counts.set(pick(row), (counts.get(pick(row)) ?? 0) + 1);
  return [...counts].map(([value, requests]) => ({ value, cut: value.length > 500, requests, hash: null })).sort((a, b) => b.requests - a.requests);
};

function matrix(client) {
  const a = client.actor;
  const evil = client.evil;
  const against = client.isBot && a.kind !== "scanner";
  const cell = (dimension, declared, observed, verdict, bits, source, why) => ({ dimension, declared: evil ? HOSTILE.user_agent.slice(0, 400) : declared, observed: evil ? HOSTILE.sni + observed : observed, verdict, bits, source, why });
  return {
    claims: { kind: a.kind === "false crawler" ? "crawler" : a.kind === "scanner" ? "library" : "browser", family: evil ? HOSTILE.host : a.family, version: a.ver, os: a.os },
    cells: [
      cell("user_agent", `${a.family} ${a.ver}`, a.ua, "agrees", 0, "ua/chromium 2026-10-01", "the parts of the header fit each other"),
      cell("ja4", `${a.family} ${a.ver}`, `${client.ja4} (${a.name})`, against ? "contradicts" : "agrees", against ? 12.4 : 0, `ja4/${a.ja4} measured 2026-11-20 from the client`, against ? `${a.family} has never sent this fingerprint; ${a.name} does` : "this version sends it"),
      cell("header_order", `${a.family} ${a.ver}`, against ? "host,user-agent,accept" : ORDER, against ? "contradicts" : "agrees", against ? 3.1 : 0, "headers/chrome-140 measured 2026-11-20", against ? "the browser sends 13 headers here, this client 3" : "order and case fit"),
      cell("http2", `${a.family} ${a.ver}`, against ? "" : "1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p", against ? "unknown" : "agrees", 0, "", against ? "it spoke HTTP/1.1" : "settings and window fit"),
      cell("tcp", a.os || "any", "ttl 64, window 64240, options 2,4,8,1,3", a.os === "Windows 10" && against ? "contradicts" : "unknown", a.os === "Windows 10" && against ? 1.2 : 0, a.os === "Windows 10" ? "tcp/linux-6 measured 2026-11-20" : "", a.os === "Windows 10" && against ? "Windows starts at a TTL of 128" : "the catalogue has no line for this system"),
      cell("address", a.kind === "false crawler" ? "Google" : "nobody in particular", client.src_ip, a.kind === "false crawler" ? "contradicts" : "unknown", a.kind === "false crawler" ? 9.1 : 0, a.kind === "false crawler" ? "ranges/google 2026-11-02" : "", a.kind === "false crawler" ? "in no range that Google publishes" : "it claims to be no crawler"),
    ],
  };
}

function clientPage(query) {
  const window = windowOf(query);
  const client = findClient(query);
  const row = present(client);
  const rows = rowsOf(client).filter((r) => Date.parse(r.ts) >= window.from && Date.parse(r.ts) < window.to);
  return {
    window: windowText(window), client: row,
    facts: rows.length === 0 ? null : {
      user_agents: shown(rows, (r) => r.user_agent), header_orders: [{ value: client.isBot ? "host,user-agent,accept" : ORDER, cut: false, requests: rows.length, hash: client.isBot ? "7000000000000000001" : "7000000000000000002" }], h2_fps: [], http_versions: [{ value: "2", cut: false, requests: rows.length, hash: null }],
      methods: shown(rows, (r) => r.method), statuses: shown(rows, (r) => String(r.status)), paths: shown(rows, (r) => r.path).slice(0, 16), matches: shown(rows, (r) => r.match), contradictions: [],
      ja4_norm: client.ja4, ja3: "cd08e31494f9531f560d64c695473da9", alpn: "h2,http/1.1", tls_version: "1.3", sni: client.evil ? HOSTILE.sni : client.host, tcp: { ttl: 64, window: 64240, mss: 1460, wscale: 7, options: "2,4,8,1,3" }, connections: 12, n_paths: 9,
    },
    matrix: rows.length === 0 ? null : matrix(client),
    numbers: row.models.map((m) => ({ model_name: m.model_name, population: 412, features: m.reasons.filter((r) => r.value !== null).map((r) => ({ feature: r.feature, title: r.feature.replaceAll("_", " "), unit: r.feature === "requests" ? "in 1 h" : "", value: r.value, median: r.median, percentile: r.percentile })).concat([{ feature: "bytes_median", title: "median size of an answer", unit: "bytes", value: 8100, median: 7800, percentile: 55 }, { feature: "h2_share", title: "share over HTTP/2", unit: "", value: null, median: 0.9, percentile: null }]) })),
    waterfalls: row.models.map((m) => {
      let sum = 0;
      return { model_name: m.model_name, steps: m.reasons.map((r) => ({ voice: r.voice, feature: r.feature, text: r.text, bits: r.contribution, sum: (sum += r.contribution) })), total: m.evidence_bits };
    }),
    labels: state.acts.filter((a) => keyText(a.client) === keyText(client)).toReversed(),
    recurrence: client.isBot ? { days_flagged: 3, clients_flagged: 2, first_flagged_at: iso(Date.now() - 3 * 864e5), last_flagged_at: iso(Date.now() - 6e4), score_max: 0.998 } : null,
    siblings: [], ...meta(),
  };
}

function pipelineState() {
  const now = Date.now();
  const at = cycleStart(now);
  const empty = data.requests.length === 0;
  const learning = state.learning || empty;
  const labelTimes = state.acts.map((a) => Date.parse(a.at)).filter((t) => t <= at);
  return {
    state: empty ? "waiting" : learning ? "learning" : "armed", model_states: empty ? {} : { "browser/1h": learning ? "learning" : "armed", "browser/24h": learning ? "learning" : "provisional", "api/1h": "learning", "api/24h": "learning" },
    progress: learning ? { entities_ready: empty ? 0 : 124, entities_needed: 200, minutes_seen: empty ? 0 : 18.4, minutes_needed: 30 } : null,
    last_cycle: state.down || empty ? null : { started_at: iso(at), age_s: Math.floor((now - at) / 1000), window_end: iso(at), duration_ms: 140, entities: data.clients.length, scored: data.clients.length, flagged: data.clients.filter((c) => c.isBot).length, alerts: 3, suppressed: 0, labels_seen_at: labelTimes.length > 0 ? iso(Math.max(...labelTimes)) : null, error: null },
    stale: false, cycle_interval_s: cycleS, budget: 20, budget_used: empty ? 0 : 3, store: { state: state.down ? "unreachable" : "ok", detail: state.down ? "the store at 127.0.0.1:8123 refuses connections: see whether it runs" : null },
    recorded: empty ? null : { from: iso(now - 23 * 3600e3), to: iso(now - 20 * 3600e3), what: "a recording of real clients on the demo origin, replayed" }, data: empty ? null : { first: iso(now - 23.5 * 3600e3), last: iso(now) }, has_truth: !empty, now: iso(now), version: "0.1.0",
  };
}

const csvCell = (value) => {
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
};

function exported(rows, columns, format) {
  if (format === "ndjson") return rows.map((row) => JSON.stringify(Object.fromEntries(columns.map((c) => [c, row[c]])))).join("\n") + "\n";
  return [columns.join(","), ...rows.map((row) => columns.map((c) => csvCell(typeof row[c] === "object" ? JSON.stringify(row[c]) : row[c])).join(","))].join("\r\n") + "\r\n";
}

function note(act, object, detail = {}, user = "admin") {
  state.audit.unshift({ at: iso(Date.now()), user, act, object, detail, remote_ip: "127.0.0.1" });
}

const GET = {
  overview(query) {
    const window = windowOf(query);
    const rows = inWindow(data.requests, window, parse(query.get("q") ?? ""));
    const { step_s, points } = series(rows, window);
    const joined = rows.filter((r) => r.match !== "none").length;
    const clients = data.clients.map(present);
    const labelled = (label) => clients.filter((c) => c.label?.label === label).length;
    const reasons = shown(rows, (r) => r.match).map((m) => ({ match: m.value, reason: m.value === "none" ? "no_hello_seen" : "", requests: m.requests }));
    return {
      window: windowText(window), step_s, series: points, totals: totals(rows),
      joins: { secure: rows.length, joined, rate: rows.length > 0 ? joined / rows.length : null, reasons, loss: rows.length > 100 ? [{ source: "apache", node: state.set === "hostile" ? HOSTILE.host : "web-1", reason: "queue_full", events: 12 }] : [] },
      clients: { total: clients.length, scored: clients.filter((c) => c.verdict !== "unscored").length, flagged: clients.filter((c) => ["flagged", "alert"].includes(c.verdict)).length, alert: clients.filter((c) => c.verdict === "alert").length, bot: labelled("bot"), legitimate: labelled("legitimate"), verified_crawler: labelled("verified_crawler"), unsure: labelled("unsure") },
      novelties: state.learning || rows.length === 0 ? null : data.clients.slice(0, 5).map((c) => ({ kind: "ja4", host: c.host, value: c.ja4, first_seen: c.first_seen, requests: c.requests })),
      facets: facets(rows), ...meta(),
    };
  },
  histogram(query) {
    const window = windowOf(query);
    const rows = inWindow(data.requests, window, parse(query.get("q") ?? ""));
    const { step_s, points } = series(rows, window);
    return { window: windowText(window), step_s, points: points.map(({ t, requests, errors }) => ({ t, requests, errors })), total: rows.length, ...meta() };
  },
  facets(query) {
    const window = windowOf(query);
    return { window: windowText(window), facets: facets(inWindow(data.requests, window, parse(query.get("q") ?? ""))), ...meta() };
  },
  clients(query) {
    const window = windowOf(query);
    const terms = parse(query.get("q") ?? "");
    const limit = Number(query.get("limit") ?? 100);
    const start = Number(query.get("cursor") ?? 0);
    const all = data.clients.map(present).filter((c) => Date.parse(c.last_seen) >= window.from && Date.parse(c.first_seen) < window.to && passes(c, terms)).sort(sorts[query.get("sort") ?? "evidence"]);
    return { window: windowText(window), clients: all.slice(start, start + limit), next_cursor: start + limit < all.length ? String(start + limit) : null, ...meta() };
  },
  client: clientPage,
  "client/timeline"(query) {
    const window = windowOf(query);
    const client = findClient(query);
    const { step_s, points } = series(rowsOf(client), window);
    const events = client.isBot ? [{ t: iso(Date.now() - 72e5), kind: "detection", text: "flagged by browser/1h, 28.1 bits" }] : [];
    for (const act of state.acts) if (keyText(act.client) === keyText(client)) events.push({ t: act.at, kind: "label", text: `${act.author} ${act.label ? `labelled it ${act.label}` : "took the label back"}: ${act.note}` });
    return { window: windowText(window), step_s, points: points.map(({ t, requests, errors, bytes }) => ({ t, requests, errors, bytes })), events, ...meta() };
  },
  "client/requests"(query) {
    const window = windowOf(query);
    const client = findClient(query);
    return { window: windowText(window), requests: inWindow(rowsOf(client), window, []), next_cursor: null, ...meta() };
  },
  "client/scores"(query) {
    const window = windowOf(query);
    const client = findClient(query);
    const scores = client.models.flatMap((m) => Array.from({ length: 20 }, (_, i) => ({ window_end: iso(Date.now() - i * 300e3), model_name: m.model_name, model_version: 3, requests: m.requests, score: m.score, evidence_bits: m.evidence_bits * (1 - i / 40), verdict: m.verdict, voices: m.voices })));
    return { window: windowText(window), scores, ...meta() };
  },
  group(query) {
    const window = windowOf(query);
    const kind = query.get("kind");
    const value = query.get("value") ?? "";
    const hit = (row) => (kind === "ja4" ? row.ja4 === value : kind === "host" ? row.host === value : kind === "prefix" ? row.src_ip.startsWith(value.split("/")[0].replace(/0$/, "")) : row.user_agent === value || row.actor?.ua === value);
    const rows = data.requests.filter(hit);
    const { step_s, points } = series(rows, window);
    const clients = data.clients.filter(hit);
    return {
      window: windowText(window), kind, value, shown: value, filter: kind === "prefix" ? `src_ip:"${value}"` : `${kind}:"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`, identity: clients[0]?.identity ?? [], totals: totals(rows), step_s, points: points.map(({ t, requests, errors }) => ({ t, requests, errors })),
      scores: clients.length > 1 ? [{ window_end: iso(Date.now()), model_name: "browser/1h", clients: clients.length, requests: rows.length, score: 0.91, reasons: clients[0].reasons.slice(0, 3) }] : [], seen: kind === "ja4" ? [...new Set(clients.map((c) => c.host))].map((host) => ({ host, first_seen: iso(Date.now() - 9 * 864e5), last_seen: iso(Date.now()), requests: 100 })) : [],
      clients: clients.slice(0, 100).map(present), facets: facets(rows), ...meta(),
    };
  },
  requests(query) {
    const window = windowOf(query);
    const limit = Number(query.get("limit") ?? 100);
    const start = Number(query.get("cursor") ?? 0);
    const rows = inWindow(data.requests, window, parse(query.get("q") ?? ""));
    return { window: windowText(window), requests: rows.slice(start, start + limit), next_cursor: start + limit < rows.length ? String(start + limit) : null, ...meta() };
  },
  request(query) {
    const row = data.requests.find((r) => r.seq === query.get("seq"));
    if (!row) throw new Problem(404, "not_found", "no such request");
    const evil = data.clients.find((c) => keyText(c) === keyText(row))?.evil;
    const columns = Object.entries({ ...row, user_agent: evil ? HOSTILE.user_agent : row.user_agent, sni: evil ? HOSTILE.sni : row.host, header_flags: 611, headers: { accept: "*/*", "x-odd": evil ? HOSTILE.note : "1" }, referer: "" }).filter(([name]) => !["cut", "recorded"].includes(name));
    return { columns: columns.map(([name, value]) => ({ name, value, comment: `what ${name.replaceAll("_", " ")} is, with its unit`, flags: name === "header_flags" ? ["accept", "accept-language", "sec-fetch-site"] : [] })), recorded: row.recorded, ...meta() };
  },
  fields: () => ({ fields: FIELDS, syntax: ["field:value"], max_length: 4096, max_terms: 64 }),
  values(query) {
    const window = windowOf(query);
    const field = query.get("field");
    const prefix = (query.get("prefix") ?? "").toLowerCase();
    const rows = inWindow(data.requests, window, parse(query.get("q") ?? ""));
    const values = shown(rows, (r) => String(r[field] ?? "")).filter((v) => v.value.toLowerCase().startsWith(prefix)).slice(0, Number(query.get("limit") ?? 12));
    return { field, values: values.map((v) => ({ value: v.value, written: /^[\w./-]+$/.test(v.value) ? v.value : `"${v.value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`, name: null, requests: v.requests, clients: 3 })), ...meta() };
  },
  labels: () => ({ labels: state.acts.toReversed(), ...meta() }),
  audit: () => ({ entries: state.audit, ...meta() }),
  truth: () => ({ written_at: iso(Date.now()), seed: 1, clients: data.clients.slice(0, 60).map((c, i) => ({ name: `${c.isBot ? "bot" : "person"} ${i + 1}`, role: c.isBot ? "bot" : "person", kind: c.actor.kind, what: c.isBot ? `a ${c.actor.kind} made of ${c.actor.name}` : "a person with a browser", src_ip: c.src_ip, user_agent: c.actor.ua, host: c.host, since: iso(Date.now()), behind_nat: false, causes: c.isBot ? ["identity", "rate"] : [] })) }),
};

const POST = {
  labels(body, user) {
    const at = iso(Date.now());
    const act_id = randomBytes(16).toString("hex");
    for (const client of body.clients) {
      const before = state.labels.get(keyText(client))?.label ?? null;
      state.labels.set(keyText(client), { label: body.label, note: body.note, author: user, at, expires_at: body.expires_at ?? null, act_id });
      state.acts.push({ act_id, at, client: { src_ip: client.src_ip, ja4: client.ja4, host: client.host }, label: body.label, before, note: body.note, author: user, expires_at: body.expires_at ?? null, undoes: null, undone: false, model_name: "browser/1h", model_version: 3 });
    }
    note("label", `${body.clients.length} clients`, { label: body.label, note: body.note });
    return { act_id, changed: body.clients.length, left_alone: [], at };
  },
  "labels/undo"(body, user) {
    const acts = state.acts.filter((a) => a.act_id === body.act_id && !a.undone);
    if (acts.length === 0) throw new Problem(404, "not_found", "no such act, or it was taken back already");
    const at = iso(Date.now());
    const act_id = randomBytes(16).toString("hex");
    for (const act of acts) {
      act.undone = true;
      if (act.before) state.labels.set(keyText(act.client), { label: act.before, note: "", author: user, at, expires_at: null, act_id });
      else state.labels.delete(keyText(act.client));
      state.acts.push({ ...act, act_id, at, label: act.before, before: act.label, note: "", author: user, undoes: body.act_id, undone: false });
    }
    note("label_undo", `${acts.length} clients`, {});
    return { act_id, changed: acts.length, left_alone: [], at };
  },
  rules(body) {
    const ips = [...new Set(body.clients.map((c) => c.src_ip))];
    const text = { nginx_map: `map $remote_addr $ja4_block {\n    default 0;\n${ips.map((ip) => `    "${ip}" 1;\n`).join("")}}\n`, nftables_set: `set ja4_block {\n    type ipv4_addr\n    elements = { ${ips.join(", ")} }\n}\n`, haproxy_map: ips.map((ip) => `${ip} block\n`).join(""), crowdsec: ips.map((ip) => `cscli decisions add --ip ${ip} --duration 4h --reason ja4-platform\n`).join("") }[body.format];
    const legit = body.clients.filter((c) => state.labels.get(keyText(c))?.label === "legitimate");
    note("rules", body.format, { clients: body.clients.length });
    return { text, filename: `ja4-block.${body.format === "nftables_set" ? "nft" : body.format === "nginx_map" ? "conf" : "txt"}`, usage: "include it in the http block and return 403 where $ja4_block is 1", n_rules: ips.length, skipped: [], would_hit: { window: { from: iso(Date.now() - 864e5), to: iso(Date.now()) }, requests: data.requests.filter((r) => ips.includes(r.src_ip)).length, clients: data.clients.filter((c) => ips.includes(c.src_ip)).length, legitimate_clients: legit.length, legitimate_examples: legit.slice(0, 20) } };
  },
};

const me = (session) => ({ user: session.user, role: "admin", via: session.via, csrf_token: session.csrf, expires_at: iso(Date.now() + 12 * 3600e3), idle_timeout_s: 3600 });

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length > 0 ? JSON.parse(Buffer.concat(chunks).toString("utf8")) : {};
}

function send(response, status, type, body, headers = {}) {
  response.writeHead(status, { "content-type": type, "content-security-policy": CSP, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store", ...headers });
  response.end(body);
}

const json = (response, value, headers) => send(response, 200, "application/json", JSON.stringify(value), headers);

function startSession(response, user, via) {
  const id = randomBytes(16).toString("hex");
  const session = { user, via, csrf: randomBytes(16).toString("hex") };
  state.sessions.set(id, session);
  note("login", user, { via }, user);
  json(response, me(session), { "set-cookie": `ja4_session=${id}; HttpOnly; SameSite=Strict; Path=/` });
}

async function api(request, response, path, query) {
  const id = /(?:^|; )ja4_session=([0-9a-f]+)/.exec(request.headers.cookie ?? "")?.[1];
  const session = id ? state.sessions.get(id) : undefined;
  if (path === "auth/login") {
    const body = await bodyOf(request);
    if (body.user !== "admin" || body.password !== "correct horse battery") throw new Problem(401, "bad_credentials", "name and password do not belong together");
    return startSession(response, "admin", "password");
  }
  if (path === "auth/link") {
    const body = await bodyOf(request);
    if (!state.links.delete(body.token)) throw new Problem(401, "bad_credentials", "the link was used already or is too old: restart the dashboard for a new one");
    return startSession(response, "admin", "link");
  }
  if (!session) throw new Problem(401, "not_logged_in", "no session, or it ended: log in");
  if (request.method !== "GET" && request.headers["x-csrf-token"] !== session.csrf) throw new Problem(403, "cross_site", "the request does not come from our own page");
  if (path === "auth/me") return json(response, me(session));
  if (path === "status") return json(response, pipelineState());
  if (path === "auth/logout") {
    state.sessions.delete(id);
    return send(response, 204, "text/plain", "");
  }
  if (path === "auth/password") return send(response, 204, "text/plain", "");
  if (path === "fields") return json(response, GET.fields());
  if (state.down) throw new Problem(503, "store_unreachable", "the store at 127.0.0.1:8123 refuses connections: see whether it runs");
  if (path === "export/clients" || path === "export/requests") {
    const format = query.get("format");
    const terms = parse(query.get("q") ?? "");
    const rows = path.endsWith("clients") ? data.clients.map(present).filter((c) => passes(c, terms)) : inWindow(data.requests, windowOf(query), terms);
    const columns = path.endsWith("clients") ? ["src_ip", "ja4", "host", "ua_family", "requests", "evidence_bits", "verdict"] : ["ts", "src_ip", "host", "method", "path", "status", "user_agent", "ja4"];
    note("export", path, { format, rows: rows.length });
    return send(response, 200, format === "csv" ? "text/csv; charset=utf-8" : "application/x-ndjson", exported(rows, columns, format), { "content-disposition": `attachment; filename="${path.slice(7)}.${format}"`, "x-rows": String(rows.length) });
  }
  const handler = request.method === "GET" ? GET[path] : POST[path];
  if (!handler) throw new Problem(404, "not_found", "no such route");
  json(response, request.method === "GET" ? handler(query) : handler(await bodyOf(request), session.user));
}

function newLink(port) {
  const token = randomBytes(32).toString("hex");
  state.links.add(token);
  return `http://127.0.0.1:${port}/login#token=${token}`;
}

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://localhost");
  const { port } = server.address();
  if (url.pathname === "/__dev/store") {
    state.down = url.searchParams.get("down") === "1";
    return send(response, 200, "text/plain", "ok");
  }
  if (url.pathname === "/__dev/set") {
    state.set = url.searchParams.get("name") ?? "small";
    state.learning = url.searchParams.get("learning") === "1";
    state.truncate = url.searchParams.get("truncate") === "1";
    state.labels.clear();
    state.acts.length = 0;
    data = makeData(state.set, Date.now());
    return send(response, 200, "text/plain", "ok");
  }
  if (url.pathname === "/__dev/link") return send(response, 200, "text/plain", newLink(port));
  if (url.pathname.startsWith("/api/v1/")) {
    api(request, response, url.pathname.slice(8), url.searchParams).catch((error) => {
      const status = error.status ?? 500;
      send(response, status, "application/problem+json", JSON.stringify({ type: "about:blank", title: String(status), status, code: error.code ?? "internal", detail: error.message, position: error.position ?? null, remedy: error.remedy ?? null, request_id: "fixture" }));
    });
    return;
  }
  const wanted = join(dist, normalize(url.pathname));
  const file = wanted.startsWith(dist) && extname(wanted) && existsSync(wanted) ? wanted : join(dist, "index.html");
  send(response, 200, TYPES[extname(file)] ?? "application/octet-stream", readFileSync(file));
});

server.listen(Number(arg("port", "0")), "127.0.0.1", () => console.log(newLink(server.address().port)));
