//! The columns that the detector reads, in the order of `features_window.sql`, and their decoding from RowBinary.
//!
//! The header of the answer is compared with what is expected here, so that a store with another schema is said at once and
//! never read askew. Texts come from clients: bytes that are not UTF-8 are replaced.

use std::borrow::Cow;

macro_rules! numbers {
    ($($name:ident,)*) => {
        /// Numbers of one client, named as the columns of `view_ai_features`.
        #[allow(missing_docs, reason = "each is a column of the view, documented there")]
        #[derive(Debug, Clone, Copy, Default)]
        pub struct Raw {
            $(pub $name: f32,)*
        }

        const NUMBERS: &[&str] = &[$(concat!("f_", stringify!($name)),)*];

        impl Raw {
            /// All of them, in order.
            pub fn values(&self) -> [f32; NUMBERS.len()] {
                [$(self.$name,)*]
            }

            fn read(bytes: &[u8]) -> Self {
                let mut values = bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
                Self { $($name: values.next().unwrap_or(f32::NAN),)* }
            }
        }
    };
}

numbers! {
    requests,
    span_s,
    active_minutes,
    night_requests,
    s3xx,
    s304,
    s4xx,
    s404,
    s40x,
    s5xx,
    n_statuses,
    n_unended,
    n_get,
    n_post,
    n_head,
    n_options,
    bytes,
    bytes_p50,
    bytes_p95,
    n_static,
    n_favicon,
    n_robots,
    n_login,
    n_admin,
    n_dotfile,
    n_suspicious,
    n_api,
    params,
    uri_max,
    depth_mean,
    no_referer,
    no_language,
    no_encoding,
    no_sec_fetch,
    n_client_hints,
    n_cookie,
    header_count_mean,
    n_headers,
    n_header_orders,
    n_user_agents,
    n_h2,
    n_h2_fps,
    n_resumed,
    n_pq,
    n_sni,
    n_joined,
    n_conns,
    n_sessions,
    n_contradicting,
    n_wire,
    one_hello_bytes,
    one_ttl,
    one_window,
    one_mss,
    one_wscale,
    syn_to_hello_p50_us,
    n_events,
    gap_p50_us,
    gap_p95_us,
    gap_mean_us,
    gap_sd_us,
    gap_lag1,
    gap_fast_share,
    max_per_minute,
    n_paths,
    path_entropy,
    transition_entropy,
}

const HEAD: &[(&str, &str)] = &[
    ("src_ip", "IPv6"),
    ("ja4_text", "String"),
    ("host_text", "String"),
    ("entity", "UInt64"),
    ("last_us", "Int64"),
    ("header_flags_or", "UInt32"),
    ("header_flags_and", "UInt32"),
    ("one_header_order_hash", "UInt64"),
];

const TAIL: &[(&str, &str)] = &[
    ("t_ja4_norm", "String"),
    ("t_alpn", "String"),
    ("t_tls_version", "String"),
    ("t_h2_fp", "String"),
    ("t_tcp_options", "String"),
    ("t_navigation_order", "String"),
    ("a_user_agents", "Array(String)"),
    ("a_http_versions", "Array(String)"),
    ("a_header_orders", "Array(String)"),
];

/// Most items of a list in a row; the view gives four.
const MAX_ITEMS: usize = 64;

/// One client in one window, borrowed from the answer.
#[derive(Debug, Clone, Default)]
pub struct ClientRow<'a> {
    /// Client address, IPv4 as `::ffff:a.b.c.d`.
    pub src_ip: [u8; 16],
    /// JA4, empty without.
    pub ja4: Cow<'a, str>,
    /// Host asked.
    pub host: Cow<'a, str>,
    /// The three as one number.
    pub entity: u64,
    /// Last request, microseconds since the epoch.
    pub last_us: i64,
    /// Header flags of the requests, or-ed.
    pub header_flags_or: u32,
    /// Header flags of the requests, and-ed.
    pub header_flags_and: u32,
    /// Hash of a header order; 0 without.
    pub header_order_hash: u64,
    /// The numbers.
    pub raw: Raw,
    /// JA4 without PSK and padding.
    pub ja4_norm: Cow<'a, str>,
    /// ALPN offered, comma between.
    pub alpn: Cow<'a, str>,
    /// Highest TLS version offered.
    pub tls_version: Cow<'a, str>,
    /// HTTP/2 fingerprint.
    pub h2_fp: Cow<'a, str>,
    /// TCP options of the SYN.
    pub tcp_options: Cow<'a, str>,
    /// Header order of a navigation.
    pub navigation_order: Cow<'a, str>,
    /// Up to four User-Agents.
    pub user_agents: Vec<Cow<'a, str>>,
    /// Up to four versions of HTTP.
    pub http_versions: Vec<Cow<'a, str>>,
    /// Up to four header orders.
    pub header_orders: Vec<Cow<'a, str>>,
}

/// Writes what the store would answer; for measurements and tests.
pub fn encode<'r>(rows: impl IntoIterator<Item = ClientRow<'r>>) -> Vec<u8> {
    let columns: Vec<_> = expected().collect();
    let mut out = Vec::new();
    push_length(&mut out, columns.len());
    for (name, _) in &columns {
        push_text(&mut out, name);
    }
    for (_, kind) in &columns {
        push_text(&mut out, kind);
    }
    for row in rows {
        out.extend_from_slice(&row.src_ip);
        push_text(&mut out, &row.ja4);
        push_text(&mut out, &row.host);
        out.extend_from_slice(&row.entity.to_le_bytes());
        out.extend_from_slice(&row.last_us.to_le_bytes());
        out.extend_from_slice(&row.header_flags_or.to_le_bytes());
        out.extend_from_slice(&row.header_flags_and.to_le_bytes());
        out.extend_from_slice(&row.header_order_hash.to_le_bytes());
        for value in row.raw.values() {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let texts = [
            &row.ja4_norm,
            &row.alpn,
            &row.tls_version,
            &row.h2_fp,
            &row.tcp_options,
            &row.navigation_order,
        ];
        for text in texts {
            push_text(&mut out, text);
        }
        for list in [&row.user_agents, &row.http_versions, &row.header_orders] {
            push_length(&mut out, list.len());
            for text in list {
                push_text(&mut out, text);
            }
        }
    }
    out
}

fn push_length(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push(low_bits(n) | 0x80);
        n >>= 7;
    }
    out.push(low_bits(n));
}

fn low_bits(n: usize) -> u8 {
    u8::try_from(n & 0x7f).expect("seven bits fit")
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Another column than expected.
    #[error(
        "the store's column {position} is {found}, expected {expected}: its schema is of another version, run `ja4 schema apply`"
    )]
    Column {
        /// Its place, from 0.
        position: usize,
        /// What was expected.
        expected: String,
        /// What came.
        found: String,
    },
    /// The answer ended inside a row.
    #[error("the store's answer ended inside a row: {0} bytes are left over")]
    Cut(usize),
    /// A length that no row has.
    #[error("the store's answer has a text of {0} bytes, which no row has")]
    TooLong(u64),
}

/// A text is a header or a list of names: far below this.
const MAX_TEXT_BYTES: u64 = 16 << 20;

fn expected() -> impl Iterator<Item = (&'static str, &'static str)> {
    HEAD.iter()
        .copied()
        .chain(NUMBERS.iter().map(|name| (*name, "Float32")))
        .chain(TAIL.iter().copied())
}

/// Reads an answer that comes in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    has_header: bool,
}

impl Decoder {
    /// Takes a piece and calls `each` for every row that is complete.
    ///
    /// # Errors
    /// If the header is not the expected one or a length is absurd.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&ClientRow<'_>)) -> Result<(), DecodeError> {
        self.buffer.extend_from_slice(piece);
        let mut used = 0;
        if !self.has_header {
            let mut reader = Reader {
                rest: &self.buffer,
                error: None,
            };
            let Some(()) = header(&mut reader)? else {
                return reader.error.map_or(Ok(()), Err);
            };
            used = self.buffer.len() - reader.rest.len();
            self.has_header = true;
        }
        loop {
            let mut reader = Reader {
                rest: &self.buffer[used..],
                error: None,
            };
            let Some(row) = row(&mut reader) else {
                if let Some(error) = reader.error {
                    return Err(error);
                }
                break;
            };
            let left = reader.rest.len();
            each(&row);
            used = self.buffer.len() - left;
        }
        self.buffer.drain(..used);
        Ok(())
    }

    /// Says that the answer is over.
    ///
    /// # Errors
    /// If it ended inside a row.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Cut(self.buffer.len()))
        }
    }
}

fn header(reader: &mut Reader<'_>) -> Result<Option<()>, DecodeError> {
    let Some(n_columns) = reader.varint() else {
        return Ok(None);
    };
    let Ok(n_columns) = usize::try_from(n_columns.min(1000)) else {
        return Ok(None);
    };
    let mut names = Vec::new();
    for _ in 0..2 * n_columns {
        let Some(text) = reader.text() else {
            return Ok(None);
        };
        names.push(text.into_owned());
    }
    let types = names.split_off(n_columns);
    let mut found = names.into_iter().zip(types);
    for (position, (name, kind)) in expected().enumerate() {
        let next = found.next();
        // A dictionary of texts looks like the texts themselves in RowBinary.
        let is_it =
            |(a, b): &(String, String)| a == name && b.replace("LowCardinality(String)", "String") == kind;
        if !next.as_ref().is_some_and(is_it) {
            return Err(DecodeError::Column {
                position,
                expected: format!("{name} {kind}"),
                found: next.map_or_else(|| "absent".to_owned(), |(a, b)| format!("{a} {b}")),
            });
        }
    }
    Ok(Some(()))
}

fn row<'a>(reader: &mut Reader<'a>) -> Option<ClientRow<'a>> {
    let src_ip = reader.take(16)?.try_into().ok()?;
    let (ja4, host) = (reader.text()?, reader.text()?);
    Some(ClientRow {
        src_ip,
        ja4,
        host,
        entity: u64::from_le_bytes(reader.take(8)?.try_into().ok()?),
        last_us: i64::from_le_bytes(reader.take(8)?.try_into().ok()?),
        header_flags_or: u32::from_le_bytes(reader.take(4)?.try_into().ok()?),
        header_flags_and: u32::from_le_bytes(reader.take(4)?.try_into().ok()?),
        header_order_hash: u64::from_le_bytes(reader.take(8)?.try_into().ok()?),
        raw: Raw::read(reader.take(4 * NUMBERS.len())?),
        ja4_norm: reader.text()?,
        alpn: reader.text()?,
        tls_version: reader.text()?,
        h2_fp: reader.text()?,
        tcp_options: reader.text()?,
        navigation_order: reader.text()?,
        user_agents: reader.texts()?,
        http_versions: reader.texts()?,
        header_orders: reader.texts()?,
    })
}

/// Reads from the front; None for "more bytes are needed", with `error` set where more would not help.
struct Reader<'a> {
    rest: &'a [u8],
    error: Option<DecodeError>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n_bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n_bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        self.error = Some(DecodeError::TooLong(value));
        None
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        let n_bytes = self.varint()?;
        if n_bytes > MAX_TEXT_BYTES {
            self.error = Some(DecodeError::TooLong(n_bytes));
            return None;
        }
        self.take(usize::try_from(n_bytes).ok()?)
            .map(String::from_utf8_lossy)
    }

    fn texts(&mut self) -> Option<Vec<Cow<'a, str>>> {
        let n_items = self.varint()?;
        if n_items > MAX_ITEMS as u64 {
            self.error = Some(DecodeError::TooLong(n_items));
            return None;
        }
        (0..n_items).map(|_| self.text()).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn answer(agent: &[u8]) -> Vec<u8> {
        let rows = (0..3_u8).map(|number| ClientRow {
            src_ip: [number; 16],
            ja4: "t13d1516h2_a_b".into(),
            host: "shop.example".into(),
            entity: u64::from(number),
            raw: Raw {
                span_s: 1.0,
                n_headers: f32::NAN,
                ..Raw::default()
            },
            user_agents: vec!["@AGENT@".into()],
            ..ClientRow::default()
        });
        let mut out = Vec::new();
        let encoded = encode(rows);
        let mut rest = encoded.as_slice();
        let marked = b"\x07@AGENT@";
        while let Some(at) = rest.windows(marked.len()).position(|bytes| bytes == marked) {
            out.extend_from_slice(&rest[..at]);
            push_length(&mut out, agent.len());
            out.extend_from_slice(agent);
            rest = &rest[at + marked.len()..];
        }
        out.extend_from_slice(rest);
        out
    }

    #[test]
    fn an_answer_in_any_pieces_gives_the_same_rows() {
        let whole = answer("a\u{202e}<script>".as_bytes());
        for piece in [1, 7, 100, whole.len()] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for chunk in whole.chunks(piece) {
                decoder
                    .feed(chunk, |row| {
                        seen.push((
                            row.entity,
                            row.raw.span_s,
                            row.user_agents[0].clone().into_owned(),
                        ));
                    })
                    .unwrap();
            }
            decoder.finish().unwrap();
            assert_eq!(seen.len(), 3, "{piece}");
            assert_eq!(seen[2], (2, 1.0, "a\u{202e}<script>".to_owned()));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut decoder = Decoder::default();
        let mut agent = String::new();
        decoder
            .feed(&answer(&[0xff, b'a', 0]), |row| {
                agent = row.user_agents[0].clone().into_owned();
            })
            .unwrap();
        assert_eq!(agent, "\u{fffd}a\0");
    }

    #[test]
    fn another_schema_and_a_cut_answer_are_said() {
        let mut whole = answer(b"a");
        let mut decoder = Decoder::default();
        decoder.feed(&whole[..whole.len() - 1], |_| {}).unwrap();
        assert!(decoder.finish().unwrap_err().to_string().contains("inside a row"));
        let at = whole.windows(6).position(|bytes| bytes == b"src_ip").unwrap();
        whole[at] = b'X';
        let error = Decoder::default().feed(&whole, |_| {}).unwrap_err().to_string();
        assert!(
            error.contains("column 0 is Xrc_ip IPv6") && error.contains("ja4 schema apply"),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn prop_no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let mut whole = answer(b"a");
            whole.truncate(whole.len() - 200);
            whole.extend_from_slice(&bytes);
            let mut decoder = Decoder::default();
            // Any result will do.
            let _result = decoder.feed(&whole, |_| {}).is_ok();
        }
    }
}
