//! Rows of `http_logs`: a request with the connection that it came on.

use ja4_model::request::EffectiveSource;
use ja4_model::{HeadersForm, JoinedRequest, Match, Tier};

use super::facts;
use super::path::{count_query, path_flags, write_template};
use crate::native::{Fixed, LowText, Pairs, Text, block};

block! {
    /// Builds blocks of `http_logs`. `country` and `asn` are left to the table, which asks its dictionary.
    HttpLogsBlock for "http_logs" {
        ts: Fixed<i64> = "DateTime64(6, 'UTC')",
        recv_ts: Fixed<i64> = "DateTime64(6, 'UTC')",
        ts_kind: Fixed<i8> = "Enum8('start' = 1, 'derived' = 2)",
        ts_resolution_ns: Fixed<u32> = "UInt32",
        source: LowText = "LowCardinality(String)",
        node: LowText = "LowCardinality(String)",
        boot: Fixed<u64> = "UInt64",
        seq: Fixed<u64> = "UInt64",
        id_kind: Fixed<i8> = "Enum8('producer' = 1, 'receiver' = 2)",
        sample_rate: Fixed<f32> = "Float32",
        tier: Fixed<i8> = "Enum8('edge' = 1, 'backend' = 2)",
        direction: Fixed<i8> = "Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2, 'internal' = 3)",
        transport: Fixed<i8> = "Enum8('tcp' = 1, 'udp' = 2)",
        src_ip: Fixed<[u8; 16]> = "IPv6",
        src_port: Fixed<u16> = "UInt16",
        peer_ip: Fixed<[u8; 16]> = "IPv6",
        dst_ip: Fixed<[u8; 16]> = "IPv6",
        dst_port: Fixed<u16> = "UInt16",
        effective_source: Fixed<i8> = "Enum8('wire' = 1, 'proxy_protocol' = 2, 'forwarded' = 3)",
        method: LowText = "LowCardinality(String)",
        scheme: LowText = "LowCardinality(String)",
        host: LowText = "LowCardinality(String)",
        path: Text = "String",
        path_template: LowText = "LowCardinality(String)",
        path_flags: Fixed<u16> = "UInt16",
        path_depth: Fixed<u8> = "UInt8",
        query: Text = "String",
        query_params: Fixed<u16> = "UInt16",
        uri_bytes: Fixed<u32> = "UInt32",
        http_version: LowText = "LowCardinality(String)",
        user_agent: LowText = "LowCardinality(String)",
        ua_family: LowText = "LowCardinality(String)",
        referer: Text = "String",
        accept_language: LowText = "LowCardinality(String)",
        headers_form: Fixed<i8> = "Enum8('none' = 0, 'named' = 1, 'ordered' = 2)",
        header_order: LowText = "LowCardinality(String)",
        header_order_hash: Fixed<u64> = "UInt64",
        header_count: Fixed<u16> = "UInt16",
        header_flags: Fixed<u32> = "UInt32",
        headers: Pairs = "Map(String, String)",
        session_hash: Fixed<u64> = "UInt64",
        status: Fixed<u16> = "UInt16",
        bytes_sent: Fixed<u64> = "UInt64",
        duration_us: Fixed<u32> = "UInt32",
        conn_id: Fixed<u64> = "UInt64",
        req_index: Fixed<u32> = "UInt32",
        conn_req_index: Fixed<u32> = "UInt32",
        stream_id: Fixed<u64> = "UInt64",
        request_id: Text = "String",
        r#match: Fixed<i8> = "Enum8('exact' = 1, 'asof' = 2, 'ambiguous' = 3, 'none' = 4)",
        match_reason: LowText = "LowCardinality(String)",
        delta_us: Fixed<i64> = "Int64",
        conn_uid: Fixed<u128> = "UInt128",
        confirmed: Fixed<i8> = "Enum8('none' = 0, 'acked' = 1, 'followed' = 2)",
        contradictions: LowText = "LowCardinality(String)",
        conn_flags: Fixed<u32> = "UInt32",
        ja4: LowText = "LowCardinality(String)",
        ja4_norm: LowText = "LowCardinality(String)",
        ja3: LowText = "LowCardinality(String)",
        sni: LowText = "LowCardinality(String)",
        alpn: LowText = "LowCardinality(String)",
        tls_version: LowText = "LowCardinality(String)",
        tls_cipher: LowText = "LowCardinality(String)",
        tls_flags: Fixed<u16> = "UInt16",
        hello_bytes: Fixed<u32> = "UInt32",
        h2_fp: LowText = "LowCardinality(String)",
        tcp_ttl: Fixed<u8> = "UInt8",
        tcp_window: Fixed<u16> = "UInt16",
        tcp_mss: Fixed<u16> = "UInt16",
        tcp_wscale: Fixed<u8> = "UInt8",
        tcp_options: LowText = "LowCardinality(String)",
        syn_to_hello_us: Fixed<u32> = "UInt32",
        truncated: LowText = "LowCardinality(String)",
    }
}

/// Headers that have a column of their own, or whose value is secret and kept as `session_hash` only.
const OWN_COLUMN: [&[u8]; 7] = [
    b"user-agent",
    b"referer",
    b"accept-language",
    b"host",
    b"cookie",
    b"authorization",
    b"proxy-authorization",
];

/// Longest header name that is looked up; a longer one is none of those known.
const MAX_KNOWN_NAME: usize = 32;

/// `header_flags` beyond those of single headers.
const LOWER_CASE: u32 = 1 << 24;
const TITLE_CASE: u32 = 1 << 25;
const NAME_TWICE: u32 = 1 << 26;

impl HttpLogsBlock {
    /// Appends a row.
    pub fn push(&mut self, row: &JoinedRequest<'_>) {
        let mut scratch = Vec::new();
        self.push_head(row);
        self.push_addresses(row);
        self.push_request(row, &mut scratch);
        self.push_headers(row);
        self.push_outcome(row);
        self.push_join(row);
        self.push_connection(row, &mut scratch);
        self.rows += 1;
    }

    fn push_head(&mut self, row: &JoinedRequest<'_>) {
        let head = row.head;
        self.ts.push(facts::micros(head.ts_ns));
        self.recv_ts
            .push(facts::micros(head.recv_ns.unwrap_or(head.ts_ns)));
        self.ts_kind.push(facts::ts_kind(head.ts_kind));
        self.ts_resolution_ns
            .push(u32::try_from(head.ts_resolution_ns).unwrap_or(u32::MAX));
        self.source.push(head.source.as_bytes());
        self.node.push(head.node.as_bytes());
        self.boot.push(head.boot.0);
        self.seq.push(head.seq);
        self.id_kind.push(facts::id_kind(head.id_kind));
        self.sample_rate.push(facts::sample_rate(head.sample_rate));
        self.tier.push(match row.request.tier {
            Tier::Edge => 1,
            Tier::Backend => 2,
        });
    }

    fn push_addresses(&mut self, row: &JoinedRequest<'_>) {
        let request = row.request;
        self.direction
            .push(facts::direction(row.conn.map(|conn| conn.direction)));
        self.transport.push(facts::transport(request.transport));
        let client = row.client();
        self.src_ip.push(client.ip.0);
        self.src_port.push(client.port);
        self.peer_ip.push(request.pair.client.ip.0);
        self.dst_ip.push(request.pair.server.ip.0);
        self.dst_port.push(request.pair.server.port);
        self.effective_source.push(match request.effective_source {
            EffectiveSource::Wire => 1,
            EffectiveSource::ProxyProtocol => 2,
            EffectiveSource::Forwarded => 3,
        });
    }

    fn push_request(&mut self, row: &JoinedRequest<'_>, scratch: &mut Vec<u8>) {
        let request = row.request;
        let (path, query) = (request.path.as_bytes(), request.query.as_bytes());
        self.method.push(request.method.as_bytes());
        self.scheme.push(request.scheme.as_bytes());
        self.host.push(request.host.as_bytes());
        self.path.push(path);
        write_template(path, scratch);
        self.path_template.push(scratch);
        self.path_flags.push(path_flags(path, query));
        self.path_depth.push(saturate(count(path, b'/')));
        self.query.push(query);
        let (n_params, n_bytes) = count_query(query);
        self.query_params.push(saturate(n_params));
        self.uri_bytes.push(saturate(path.len() + n_bytes));
        self.http_version.push(request.http_version.as_bytes());
        self.h2_fp.push(request.h2_fp.as_bytes());
        self.conn_id.push(facts::text_hash(request.conn_id.as_bytes()));
        self.req_index.push(request.req_index.unwrap_or(u32::MAX));
        self.stream_id.push(request.stream_id.unwrap_or(0));
        self.request_id.push(request.request_id.as_bytes());
        self.tls_cipher
            .push(request.tls.as_ref().map_or(b"", |tls| tls.cipher.as_bytes()));
        self.truncated
            .push(facts::join_texts(scratch, &request.truncated));
    }

    fn push_headers(&mut self, row: &JoinedRequest<'_>) {
        let request = row.request;
        let mut own: [&[u8]; 3] = [b"", b"", b""];
        let mut seen = SeenNames::default();
        for (name, value) in &request.headers {
            let name = name.as_bytes();
            let mut buffer = [0_u8; MAX_KNOWN_NAME];
            let lower: &[u8] = match buffer.get_mut(..name.len()) {
                Some(lower) => {
                    lower.copy_from_slice(name);
                    lower.make_ascii_lowercase();
                    lower
                }
                None => name,
            };
            seen.add(name, lower);
            match lower {
                b"user-agent" if own[0].is_empty() => own[0] = value.as_bytes(),
                b"referer" if own[1].is_empty() => own[1] = value.as_bytes(),
                b"accept-language" if own[2].is_empty() => own[2] = value.as_bytes(),
                _ if OWN_COLUMN.contains(&lower) => {}
                _ => self.headers.push_pair(lower, value.as_bytes()),
            }
        }
        self.headers.end_row();
        self.user_agent.push(own[0]);
        self.referer.push(own[1]);
        self.accept_language.push(own[2]);
        self.headers_form.push(match request.headers_form {
            _ if request.headers.is_empty() => 0,
            HeadersForm::Named => 1,
            HeadersForm::Ordered => 2,
        });
        self.header_count.push(saturate(request.headers.len()));
        self.header_flags
            .push(seen.flags(request.headers_case, request.headers_dups));
        self.header_order.push(row.derived.header_order.as_bytes());
        self.header_order_hash.push(row.derived.header_order_hash);
        self.ua_family.push(row.derived.ua_family.as_bytes());
        self.session_hash.push(row.derived.session_hash);
    }

    fn push_outcome(&mut self, row: &JoinedRequest<'_>) {
        let (status, bytes_sent, duration_us) = row.outcome();
        self.status.push(status.unwrap_or(0));
        self.bytes_sent.push(bytes_sent.unwrap_or(0));
        self.duration_us
            .push(duration_us.map_or(0, |us| u32::try_from(us).unwrap_or(u32::MAX)));
    }

    fn push_join(&mut self, row: &JoinedRequest<'_>) {
        self.conn_req_index.push(row.conn_req_index);
        self.r#match.push(facts::verdict(row.verdict));
        self.match_reason.push(match row.verdict {
            Match::None(reason) => reason.name().as_bytes(),
            _ => b"",
        });
        self.delta_us.push(row.delta_us.unwrap_or(0));
        self.confirmed.push(facts::confirmed(row.confirmed));
        match row.contradictions {
            [] => self.contradictions.push(b""),
            [mark] => self.contradictions.push(mark.as_bytes()),
            marks => self.contradictions.push(marks.join(",").as_bytes()),
        }
    }

    fn push_connection(&mut self, row: &JoinedRequest<'_>, scratch: &mut Vec<u8>) {
        let conn = row.conn.or_else(|| row.hello.map(|hello| &hello.conn));
        self.conn_uid.push(conn.map_or(0, |conn| conn.conn_uid.0));
        self.conn_flags.push(conn.map_or(0, |conn| conn.flags.0));
        let (ttl, window, mss, wscale) = facts::syn_facts(conn);
        self.tcp_ttl.push(ttl);
        self.tcp_window.push(window);
        self.tcp_mss.push(mss);
        self.tcp_wscale.push(wscale);
        self.tcp_options
            .push(facts::join_numbers(scratch, facts::syn_options(conn)));
        self.syn_to_hello_us
            .push(conn.and_then(|conn| conn.syn_to_hello_us).unwrap_or(0));
        // Behind a proxy the hello is the proxy's: never credited to the client.
        let hello = row.hello.filter(|_| row.hello_is_the_clients());
        let resumed = row.request.tls.as_ref().is_some_and(|tls| tls.resumed);
        let resumed = if resumed { facts::RESUMED } else { 0 };
        let Some(hello) = hello else {
            for column in [
                &mut self.ja4,
                &mut self.ja4_norm,
                &mut self.ja3,
                &mut self.sni,
                &mut self.alpn,
                &mut self.tls_version,
            ] {
                column.push(b"");
            }
            self.tls_flags.push(resumed);
            self.hello_bytes.push(0);
            return;
        };
        self.ja4.push(hello.tls.ja4.as_bytes());
        self.ja4_norm.push(hello.tls.ja4_norm.as_bytes());
        self.ja3.push(hello.tls.ja3.as_bytes());
        self.sni.push(hello.sni.as_bytes());
        self.alpn.push(facts::join_texts(scratch, &hello.tls.alpn));
        self.tls_version.push(hello.tls.tls_version.as_bytes());
        self.tls_flags.push(facts::hello_flags(hello) | resumed);
        self.hello_bytes.push(hello.hello_bytes);
    }
}

/// The count as a narrower number, the largest one where it does not fit.
fn saturate<T: TryFrom<usize> + Bounded>(count: usize) -> T {
    T::try_from(count).unwrap_or(T::LARGEST)
}

trait Bounded {
    const LARGEST: Self;
}
impl Bounded for u8 {
    const LARGEST: Self = Self::MAX;
}
impl Bounded for u16 {
    const LARGEST: Self = Self::MAX;
}
impl Bounded for u32 {
    const LARGEST: Self = Self::MAX;
}

#[expect(clippy::naive_bytecount, reason = "paths and queries are short")]
fn count(text: &[u8], wanted: u8) -> usize {
    text.iter().filter(|byte| **byte == wanted).count()
}

/// Bit of `header_flags` for a name in lower case.
fn header_bit(lower: &[u8]) -> u32 {
    let bit = match lower {
        b"accept" => 0,
        b"accept-language" => 1,
        b"accept-encoding" => 2,
        b"cookie" => 3,
        b"referer" => 4,
        b"sec-fetch-site" => 5,
        b"sec-fetch-mode" => 6,
        b"sec-fetch-dest" => 7,
        b"sec-fetch-user" => 8,
        b"sec-ch-ua" => 9,
        b"upgrade-insecure-requests" => 10,
        b"priority" => 11,
        b"te" => 12,
        b"connection" => 13,
        b"authorization" => 14,
        b"x-forwarded-for" => 15,
        b"range" => 16,
        b"if-none-match" => 17,
        b"if-modified-since" => 18,
        b"origin" => 19,
        b"dnt" => 20,
        b"x-requested-with" => 21,
        _ => return 0,
    };
    1 << bit
}

/// What the names of a request's headers show.
#[derive(Default)]
struct SeenNames {
    flags: u32,
    n_lower: usize,
    n_title: usize,
    n_names: usize,
    twice: bool,
}

impl SeenNames {
    fn add(&mut self, name: &[u8], lower: &[u8]) {
        let bit = header_bit(lower);
        self.twice |= self.flags & bit != 0;
        self.flags |= bit;
        self.n_names += 1;
        if name == lower {
            self.n_lower += 1;
        } else if name.first().is_some_and(u8::is_ascii_uppercase) {
            self.n_title += 1;
        }
    }

    /// Case and repetition count only where the source says that they are the client's.
    fn flags(&self, case_known: bool, dups_known: bool) -> u32 {
        let mut flags = self.flags;
        if case_known && self.n_names > 0 {
            if self.n_lower == self.n_names {
                flags |= LOWER_CASE;
            }
            if self.n_title == self.n_names {
                flags |= TITLE_CASE;
            }
        }
        if dups_known && self.twice {
            flags |= NAME_TWICE;
        }
        flags
    }
}
