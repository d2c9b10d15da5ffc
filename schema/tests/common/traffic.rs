//! Clients of several kinds as rows of `http_logs`, for the tests of whoever reads them: people, liars, scanners, scrapers.

/// A kind of client: what it shows and what it does, as SQL expressions over `c` (client), `k` (request) and `h` (hash of both).
#[derive(Debug, Clone)]
pub struct Kind {
    /// Second octet of its addresses, 127.x: kinds do not share them.
    pub network: u8,
    pub agent: &'static str,
    pub family: &'static str,
    pub ja4: &'static str,
    pub ja4_norm: &'static str,
    pub h2_fp: &'static str,
    pub header_order: &'static str,
    /// Flags of a client with all of a browser's headers.
    pub header_flags: u32,
    /// Requests of client `c`.
    pub requests: &'static str,
    /// Seconds that its visit takes.
    pub visit_s: &'static str,
    /// Milliseconds from its first request to request `k`, within `visit` seconds.
    pub at_ms: &'static str,
    pub path: &'static str,
    pub path_flags: &'static str,
    pub status: &'static str,
    pub host: &'static str,
}

const CHROME: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
const CHROME_JA4: &str = "t13d1517h2_8daaf6152771_cb7bf5808d99";
const CHROME_H2: &str = "1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p";
const CHROME_ORDER: &str = "sec-ch-ua-platform,user-agent,sec-ch-ua,sec-ch-ua-mobile,accept,sec-fetch-site,sec-fetch-mode,sec-fetch-dest,referer,accept-encoding,accept-language,cookie,priority";
/// accept, language, encoding, cookie, referer, sec-fetch-*, sec-ch-ua, priority; lower case.
const CHROME_FLAGS: u32 = 0b0000_1010_1111_1111 | 1 << 24;

/// People with Chromium: pages with assets, uneven pauses, few errors.
pub const PEOPLE: Kind = Kind {
    network: 10,
    agent: CHROME,
    family: "Chrome",
    ja4: CHROME_JA4,
    ja4_norm: CHROME_JA4,
    h2_fp: CHROME_H2,
    header_order: CHROME_ORDER,
    header_flags: CHROME_FLAGS,
    requests: "6 + toUInt32(pow((cityHash64(c, 1) % 1009) / 1009, 2) * 40)",
    visit_s: "60 + cityHash64(c, 2) % 900",
    at_ms: "h % (visit * 1000)",
    path: "if(h % 5 < 3, concat('/static/', toString(h % 30), '.js'), concat('/products/', toString(toUInt32(pow((h % 10007) / 10007, 2) * 120))))",
    path_flags: "if(h % 5 < 3, 1, 0)",
    status: "multiIf(h % 11 = 0, 304, h % 97 = 0, 404, 200)",
    host: "shop.example",
};

impl Kind {
    /// curl that says it is Chrome.
    pub fn liar() -> Self {
        Self {
            network: 20,
            ja4: "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6",
            ja4_norm: "t13d3111h2_e8f1e7e78f70_375ca2c5e164",
            h2_fp: "3:100;4:33554432;2:0|33488897|0|m,p,s,a",
            header_order: "user-agent,accept",
            header_flags: 1 | 1 << 24,
            ..PEOPLE
        }
    }

    /// Says it is Googlebot, from elsewhere.
    pub fn fake_googlebot() -> Self {
        Self {
            network: 21,
            agent: "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            family: "Googlebot",
            ..Self::liar()
        }
    }

    /// A real browser that looks for secrets.
    pub fn scanner() -> Self {
        Self {
            network: 22,
            requests: "250",
            visit_s: "240",
            path: "concat('/.', toString(k), '/config.php')",
            path_flags: "96",
            status: "404",
            ..PEOPLE
        }
    }

    /// A real browser that takes everything.
    pub fn scraper() -> Self {
        Self {
            network: 23,
            requests: "4000",
            visit_s: "240",
            path: "concat('/products/', toString(k))",
            path_flags: "0",
            status: "200",
            ..PEOPLE
        }
    }

    /// The statement that puts `n_clients` of it into `http_logs`, who ask between `from_s` and `to_s`, seconds since the epoch.
    pub fn insert(&self, n_clients: u32, from_s: i64, to_s: i64) -> String {
        let Self {
            network,
            agent,
            family,
            ja4,
            ja4_norm,
            h2_fp,
            header_order,
            header_flags,
            ..
        } = self;
        let Self {
            requests,
            visit_s,
            at_ms,
            path,
            path_flags,
            status,
            host,
            ..
        } = self;
        // What is hostile is long too; a statement is not.
        let quoted = |text: &str| match ja4_schema::names::quoted(text) {
            text if text.contains("<script>") => format!("concat({text}, repeat('x', 65000))"),
            text => text,
        };
        format!(
            "INSERT INTO ja4_logs.http_logs (ts, recv_ts, ts_kind, source, node, boot, seq, id_kind, sample_rate, tier, direction, transport, \
             src_ip, src_port, effective_source, method, scheme, host, path, path_flags, path_depth, uri_bytes, http_version, user_agent, ua_family, \
             referer, accept_language, headers_form, header_order, header_order_hash, header_count, header_flags, session_hash, status, bytes_sent, \
             match, conn_uid, confirmed, ja4, ja4_norm, alpn, tls_version, tls_flags, hello_bytes, h2_fp) \
             WITH cityHash64(c, {network}, k) AS h, toUInt32({requests}) AS n, toUInt32({visit_s}) AS visit, \
             least(visit, toUInt32({to_s} - {from_s})) AS within, \
             fromUnixTimestamp64Micro(toInt64({from_s}) * 1000000 + toInt64((cityHash64(c, 7) % (toUInt32({to_s} - {from_s}) - within + 1))) * 1000000 + toInt64(({at_ms}) % (within * 1000)) * 1000, 'UTC') AS start \
             SELECT start, start + INTERVAL 1 SECOND, 'start', 'demo', 'n', 7, c * 100000 + k, 'producer', 1, 'edge', 'ingress', 'tcp', \
             toIPv6(concat('::ffff:127.{network}.', toString(intDiv(c, 200)), '.', toString(1 + c % 200))), 4000, 'wire', 'GET', 'https', {host}, \
             {path} AS p, {path_flags}, 2, length(p), '2', {agent}, {family}, 'https://x/', 'en', 'ordered', {order}, cityHash64({order}), 12, {header_flags}, \
             if(bitTest({header_flags}, 3), cityHash64(c), 0), {status}, 300 + h % 20000, 'exact', toUInt128(1 + c * 100 + intDiv(k, 40)), 'followed', {ja4}, {ja4_norm}, 'h2,http/1.1', '1.3', 32, 1700, {h2_fp} \
             FROM (SELECT number AS c, toUInt32({requests}) AS n_requests FROM numbers({n_clients})) ARRAY JOIN range(n_requests) AS k",
            host = quoted(host),
            agent = quoted(agent),
            family = quoted(family),
            order = quoted(header_order),
            ja4 = quoted(ja4),
            ja4_norm = quoted(ja4_norm),
            h2_fp = quoted(h2_fp),
        )
    }
}
