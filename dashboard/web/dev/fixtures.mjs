// Made-up data in the shape of the API, for looking at pages without a backend. Not used by the product or its tests
// of behaviour: the end-to-end test runs against any backend, this one only shows how pages look.

/** Small seeded generator, so that two runs show the same. */
function rng(seed) {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export const HOSTILE = {
  user_agent: `<script>alert("ua")</script><img src=x onerror=alert(1)> \u202Egnp.exe\u202C \u0000\u001b[31mred\u001b[0m\r\nX-Evil: 1 ${"A".repeat(64 * 1024)}`,
  host: "<b>shop</b>.\u200bexample\u2066",
  path: "=HYPERLINK(\"http://evil\",\"x\")/<svg/onload=alert(1)>/\u202e\u0301\u0301\u0301\u0301\u0301\u0301/../../etc/passwd",
  ja4: "t13d1516h2_<i>_\u202e",
  sni: "\u0007\u0008xn--\u2028evil\u2029",
  as_name: "=cmd|' /C calc'!A0 \u202eCORP",
  note: "@SUM(1+9)*cmd|' /C calc'!A0 </textarea><script>alert(2)</script>",
};

const BROWSERS = [
  { family: "Chrome", ver: "142", os: "Windows 10", ja4: "t13d1516h2_8daaf6152771_d8a2da3f94cd", name: "Chrome 133–146", ua: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36" },
  { family: "Firefox", ver: "146", os: "Linux", ja4: "t13d1717h2_5b57614c22b0_3cbfd9057e0d", name: "Firefox 135–147", ua: "Mozilla/5.0 (X11; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0" },
  { family: "Safari", ver: "18.4", os: "macOS", ja4: "t13d2014h2_a09f3c656075_e42f34c56612", name: "Safari 18.0–18.4", ua: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15" },
];
const BOTS = [
  { family: "Chrome", ver: "142", os: "Windows 10", ja4: "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6", name: "curl with OpenSSL 3.0", kind: "scraper", ua: BROWSERS[0].ua },
  { family: "Googlebot", ver: "2.1", os: "", ja4: "t13d1812h1_85036bcba153_b26ce05bbdd6", name: "python-requests", kind: "false crawler", ua: "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)" },
  { family: "python-requests", ver: "2.32", os: "", ja4: "t13d1812h1_85036bcba153_b26ce05bbdd6", name: "python-requests", kind: "scanner", ua: "python-requests/2.32.3" },
  { family: "Firefox", ver: "146", os: "Linux", ja4: "t13d5911h1_a33745022dd6_1f22a2ca17c4", name: "Node 20 fetch", kind: "stuffing", ua: BROWSERS[1].ua },
];
const HOSTS = ["shop.example", "api.shop.example", "www.shop.example"];
const PATHS = ["/", "/products", "/products/1842", "/cart", "/checkout", "/login", "/api/v2/items", "/static/app.css", "/static/app.js", "/search", "/.env", "/wp-login.php"];
const ORDER = "host,connection,sec-ch-ua,sec-ch-ua-mobile,sec-ch-ua-platform,upgrade-insecure-requests,user-agent,accept,sec-fetch-site,sec-fetch-mode,sec-fetch-dest,accept-encoding,accept-language";

const reason = (voice, feature, text, value, median, percentile, contribution, more = {}) => ({ voice, feature, text, value, median, percentile, contribution, declared: "", observed: "", source: "", ...more });

function reasonsOf(actor, scale) {
  const out = [];
  if (actor.kind === "scraper" || actor.kind === "stuffing" || actor.kind === "false crawler") {
    out.push(
      reason("consistency", "ja4_vs_user_agent", `The User-Agent says ${actor.family} ${actor.ver}; the TLS fingerprint is that of ${actor.name}`, null, null, null, 12.4 * scale, {
        declared: `${actor.family} ${actor.ver}`,
        observed: actor.name,
        source: `ja4/${actor.ja4} measured 2026-11-20 from the client`,
      }),
    );
  }
  if (actor.kind === "false crawler") out.push(reason("consistency", "crawler_range", "It calls itself Googlebot, and its address is in no range that Google publishes", null, null, null, 9.1 * scale, { source: "ranges/google 2026-11-02" }));
  if (actor.kind !== "person") {
    out.push(
      reason("robust_z", "requests", "4 037 requests in 1 h; the median of browsers on this host is 12", 4037, 12, 99.98, 8.2 * scale),
      reason("forest", "interarrival_cv", "Its requests come every 0.9 s with hardly any variation (0.04); the median of browsers is 1.7", 0.04, 1.7, 0.4, 4.6 * scale),
      reason("group", "prefix", "5 clients of 198.51.100.0/24 share this header order and ask the same paths", 5, 1, 98.6, 3.3 * scale),
      reason("forest", "asset_share", "It fetched no style sheet and no image (0 %); the median is 61 %", 0, 0.61, 2, 1.8 * scale),
    );
  }
  out.push(reason(out[0]?.voice ?? "forest", "~rest", "Everything else", null, null, null, 0.7 * scale));
  return out.sort((a, b) => Number(a.feature === "~rest") - Number(b.feature === "~rest") || b.contribution - a.contribution);
}

export function makeData(set, now) {
  const random = rng(7);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const n = { empty: 0, small: 14, full: 900, hostile: 24 }[set] ?? 14;
  const clients = [];
  for (let i = 0; i < n; i += 1) {
    const isBot = set === "small" ? i < 3 : i < Math.max(6, n / 40);
    const actor = isBot ? { ...BOTS[i % BOTS.length] } : { ...pick(BROWSERS), kind: "person" };
    const evil = set === "hostile" && i % 2 === 0;
    const scale = isBot ? 1 - i * 0.02 * (14 / Math.max(14, n / 10)) : 0.15 + random() * 0.4;
    const reasons = reasonsOf(actor, scale);
    const bits = reasons.reduce((sum, one) => sum + one.contribution, 0);
    const src_ip = isBot ? `198.51.100.${10 + i}` : i % 9 === 0 ? `2001:db8:${(i + 10).toString(16)}:1::${(i + 1).toString(16)}` : `192.0.${2 + Math.floor(i / 250)}.${(i % 250) + 1}`;
    const ja4 = evil ? HOSTILE.ja4 : actor.ja4;
    const host = evil ? HOSTILE.host : pick(HOSTS);
    const requests = isBot ? 4037 - i * 31 : 3 + Math.floor(random() * 60);
    const verdict = i === 5 && set !== "small" ? "unscored" : isBot ? (i < 3 ? "alert" : "flagged") : "normal";
    const segment = actor.family === "python-requests" ? "api" : "browser";
    const models = verdict === "unscored" ? [] : ["1h", "24h"].map((window, w) => {
      const rs = reasons.map((one) => ({ ...one, contribution: one.contribution * (w === 0 ? 1 : 0.7) }));
      const total = rs.reduce((sum, one) => sum + one.contribution, 0);
      return {
        model_name: `${segment}/${window}`, model_version: 3, segment, window, state: w === 0 ? "armed" : "provisional",
        window_end: new Date(now).toISOString(), requests, score: 1 - 2 ** -(total / 4), evidence_bits: total, threshold: isBot ? 0.97 : null, verdict,
        voices: ["consistency", "forest", "robust_z", "group"].map((voice) => ({ voice, raw: random(), p_value: voice === "consistency" ? null : isBot ? 0.0004 : 0.3, contribution: rs.filter((one) => one.voice === voice).reduce((sum, one) => sum + one.contribution, 0) })),
        reasons: evil ? rs.map((one) => ({ ...one, text: `${one.text} ${HOSTILE.user_agent.slice(0, 120)}`, declared: HOSTILE.user_agent.slice(0, 300) })) : rs,
      };
    });
    clients.push({
      entity_id: String(10_000_000_000_000_000_000n + BigInt(i) * 7919n), src_ip, ja4, host,
      identity: evil ? [HOSTILE.as_name] : [actor.name], ua_family: evil ? HOSTILE.user_agent.slice(0, 60) : actor.family,
      country: evil ? "\u202eX" : pick(["DE", "FR", "US", "NL"]), asn: 64500 + (i % 7), as_name: evil ? HOSTILE.as_name : `Example Net ${i % 7}`, crawler: "",
      requests, errors: isBot ? Math.floor(requests * 0.3) : Math.floor(random() * 3), bytes: requests * 8100,
      first_seen: new Date(now - 6 * 3600e3 - random() * 3600e3).toISOString(), last_seen: new Date(now - random() * 600e3).toISOString(),
      evidence_bits: verdict === "unscored" ? null : bits, score: verdict === "unscored" ? null : 1 - 2 ** -(bits / 4), verdict,
      flagged_since: isBot ? new Date(now - 2 * 3600e3).toISOString() : null, label: null, models, reasons: models[0]?.reasons ?? [],
      incident: isBot && i < 2 ? { id: `00000000-0000-4000-8000-00000000000${i}`, title: evil ? HOSTILE.note : `${actor.kind} on ${host}`, status: "open", severity: "high", opened_at: new Date(now - 2 * 3600e3).toISOString(), last_alert_at: new Date(now - 60e3).toISOString() } : null,
      recorded: i % 5 === 4, actor, evil, isBot,
    });
  }
  clients.sort((a, b) => (b.evidence_bits ?? -1) - (a.evidence_bits ?? -1));
  const requests = [];
  const total = { empty: 0, small: 160, full: 6000, hostile: 400 }[set] ?? 160;
  for (let i = 0; i < total; i += 1) {
    const client = i % 3 === 0 ? clients[i % Math.max(1, Math.min(8, clients.length))] : pick(clients);
    const t = now - (i / total) * 23.5 * 3600e3 - random() * 5000;
    const evil = client.evil;
    requests.push({
      ts: new Date(t).toISOString().replace("Z", "123Z"), src_ip: client.src_ip, src_port: 40000 + (i % 20000), ja4: client.ja4, host: client.host,
      method: evil ? "G\u202eET" : pick(["GET", "GET", "GET", "POST"]), path: evil ? HOSTILE.path : pick(PATHS), query: evil ? "q=\u0000<b>" : random() < 0.3 ? "page=2&sort=price" : "",
      status: pick([200, 200, 200, 200, 304, 302, 404, 403, 500, 0]), bytes_sent: Math.floor(random() * 40000), duration_us: Math.floor(random() * 90000),
      user_agent: evil ? HOSTILE.user_agent.slice(0, 512) : client.actor.ua, ua_family: client.ua_family, country: client.country, asn: client.asn,
      match: pick(["exact", "exact", "exact", "asof", "none"]), boot: "11400714819323198485", seq: String(i), cut: evil ? ["user_agent"] : [], recorded: client.recorded,
    });
  }
  requests.sort((a, b) => (a.ts < b.ts ? 1 : -1));
  return { clients, requests };
}

export const FIELDS = [
  ["host", "text", "request", "host that was asked", "host:shop.example", "host"],
  ["src_ip", "address", "request", "address of the client, or a network", "src_ip:192.0.2.0/24", "prefix"],
  ["ja4", "text", "request", "TLS fingerprint of the client", "ja4:t13d1516h2*", "ja4"],
  ["user_agent", "text", "request", "User-Agent header", 'user_agent:"*curl*"', "user_agent"],
  ["ua_family", "text", "request", "family that the User-Agent claims", "ua_family:Chrome", null],
  ["status", "number", "request", "status of the answer; 0 when the end was not seen", "status:>=400", null],
  ["method", "text", "request", "method", "method:POST", null],
  ["path", "text", "request", "path without the query", "path:/login*", null],
  ["match", "choice", "request", "how the connection was found", "match:none", null],
  ["country", "text", "request", "country of the address, ISO 3166", "country:DE", null],
  ["asn", "number", "request", "autonomous system of the address", "asn:64500", null],
  ["verdict", "choice", "client", "what the detector made of the client", "verdict:flagged", null],
  ["label", "choice", "client", "what an analyst made of the client", "label:bot", null],
].map(([name, kind, scope, description, example, group_kind]) => ({
  name, aliases: [], kind, scope, description, values: name === "match" ? ["exact", "asof", "ambiguous", "none"] : name === "verdict" ? ["alert", "flagged", "normal", "unscored"] : name === "label" ? ["bot", "legitimate", "verified_crawler", "unsure"] : [],
  example, completes: scope === "request" && name !== "path", is_facet: ["host", "ua_family", "ja4", "status", "country"].includes(name), group_kind,
}));

export { ORDER };
