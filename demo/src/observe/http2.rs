//! Watches the client's bytes of an HTTP/2 connection (RFC 9113) and keeps what a header map loses.
//!
//! Passive: the server reads the same bytes. Yields one [`RequestHead`] a stream, with the order and the
//! repetition of its headers and the connection's fingerprint `settings|window|priority|pseudo-headers`, such
//! as `1:65536;4:6291456|15663105|0|m,a,s,p`: identifiers and values of SETTINGS in order, the first increment
//! of the connection's window (`0` without), PRIORITY frames before the first request as
//! `stream:exclusive:depends:weight` with commas (`0` without), and the first letters of the pseudo-headers.
//!
//! It also counts control frames, which cost a server work and a client nothing, and fails on a flood of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ja4_model::limits::MAX_HEADERS;

use super::RequestHead;
use super::hpack::{Decoder, HpackError};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
/// Largest frame: the default of the RFC, which the server does not raise.
const MAX_FRAME_BYTES: usize = 16_384;
/// Largest header block over all its frames, encoded: the server's limit of 32 KiB is on the decoded list,
/// which is longer. More is a flood of CONTINUATION.
const MAX_BLOCK_BYTES: usize = 32 << 10;
/// CONTINUATION frames of one block; two hold the largest one.
const MAX_CONTINUATIONS: u32 = 8;
/// Heads that wait for the server to take them: twice the concurrent streams that it allows.
pub const MAX_WAITING_HEADS: usize = 256;
/// SETTINGS, PING, PRIORITY, `RST_STREAM` and empty frames that a client may send before its first request:
/// the busiest browser sends about ten.
const CONTROL_BUDGET: i64 = 1000;
/// What each request adds to the budget. A window update for every 16 KiB of a 1 MiB answer is 64, on two levels.
const BUDGET_PER_REQUEST: i64 = 130;
/// Resets allowed beyond half of the streams: a person who leaves pages resets some, a rapid reset all.
const MAX_EXTRA_RESETS: u64 = 100;
/// Settings and priorities kept for the fingerprint; clients send up to 8 and 6.
const MAX_FP_ITEMS: usize = 16;

/// Why nothing more can be read of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Http2Error {
    /// No preface, or a frame that breaks the protocol.
    Protocol,
    /// A frame over 16 KiB.
    FrameTooLarge,
    /// A header block over its limits, or too many parts of one.
    ContinuationFlood,
    /// Too many control frames for the requests.
    ControlFlood,
    /// Most streams were reset at once.
    RapidReset,
    /// A header block that cannot be decoded.
    Hpack(HpackError),
}

impl Http2Error {
    /// The name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protocol => "h2_protocol",
            Self::FrameTooLarge => "h2_frame_too_large",
            Self::ContinuationFlood => "h2_continuation_flood",
            Self::ControlFlood => "h2_control_flood",
            Self::RapidReset => "h2_rapid_reset",
            Self::Hpack(_) => "h2_hpack",
        }
    }
}

/// A head with what was known when it began.
#[derive(Debug, PartialEq, Eq)]
pub struct Observed {
    /// The head.
    pub head: RequestHead,
    /// The caller's clock when the first byte of its HEADERS frame was seen.
    pub ts_ns: i64,
    /// Index of the request on its connection, from 0.
    pub index: u32,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    bytes: Vec<u8>,
    n_continuations: u32,
    ts_ns: i64,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Observer {
    /// Preface or frames that are not whole yet: at most one frame and what came with it.
    buffer: Vec<u8>,
    started: bool,
    first_byte_ns: i64,
    decoder: Decoder,
    block: Option<Block>,
    settings: Option<String>,
    window: Option<u32>,
    priorities: Vec<String>,
    waiting: BTreeMap<u32, Observed>,
    last_stream: u32,
    n_requests: u32,
    n_resets: u64,
    control_left: i64,
    unclaimed: u64,
    error: Option<Http2Error>,
}

impl Observer {
    /// Takes the next bytes of the client, at `now_ns`.
    ///
    /// # Errors
    /// The connection must end; the same error comes again from then on.
    pub fn feed(&mut self, now_ns: i64, bytes: &[u8]) -> Result<(), Http2Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.buffer.is_empty() {
            self.first_byte_ns = now_ns;
        }
        self.buffer.extend_from_slice(bytes);
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.take_frames(now_ns, &buffer);
        match result {
            Ok(taken) => {
                buffer.drain(..taken);
                self.buffer = buffer;
                Ok(())
            }
            Err(error) => {
                self.error = Some(error);
                Err(error)
            }
        }
    }

    /// The head of a stream, once.
    pub fn take(&mut self, stream: u32) -> Option<Observed> {
        self.waiting.remove(&stream)
    }

    /// Heads that nobody took and that made room for later ones.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed
    }

    /// Heads that wait, and bytes that are kept until more come.
    pub fn held(&self) -> (usize, usize) {
        let block = self.block.as_ref().map_or(0, |block| block.bytes.len());
        (self.waiting.len(), self.buffer.len() + block)
    }

    /// Returns how many bytes were used.
    fn take_frames(&mut self, now_ns: i64, buffer: &[u8]) -> Result<usize, Http2Error> {
        let mut at = 0;
        if !self.started {
            let len = buffer.len().min(PREFACE.len());
            if buffer[..len] != PREFACE[..len] {
                return Err(Http2Error::Protocol);
            }
            if len < PREFACE.len() {
                return Ok(0);
            }
            self.started = true;
            self.control_left = CONTROL_BUDGET;
            at = len;
        }
        while let Some(head) = buffer[at..].first_chunk::<FRAME_HEAD_BYTES>() {
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if len > MAX_FRAME_BYTES {
                return Err(Http2Error::FrameTooLarge);
            }
            let Some(payload) = buffer[at + FRAME_HEAD_BYTES..].get(..len) else {
                break;
            };
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            self.frame(head[3], head[4], stream, payload)?;
            at += FRAME_HEAD_BYTES + len;
            // The next frame's first byte came with this call.
            self.first_byte_ns = now_ns;
        }
        Ok(at)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), Http2Error> {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const PRIORITY: u8 = 2;
        const RST_STREAM: u8 = 3;
        const SETTINGS: u8 = 4;
        const WINDOW_UPDATE: u8 = 8;
        const CONTINUATION: u8 = 9;
        if self.block.is_some() && kind != CONTINUATION {
            return Err(Http2Error::Protocol);
        }
        match kind {
            DATA if !payload.is_empty() => return Ok(()),
            HEADERS => return self.headers(flags, stream, payload),
            CONTINUATION => return self.continuation(flags, stream, payload),
            PRIORITY if self.n_requests == 0 => self.priority(stream, payload),
            RST_STREAM => {
                self.n_resets += 1;
                if self.n_resets > MAX_EXTRA_RESETS + u64::from(self.n_requests / 2) {
                    return Err(Http2Error::RapidReset);
                }
            }
            SETTINGS if flags & 1 == 0 && self.settings.is_none() => {
                self.settings = Some(settings_text(payload));
            }
            WINDOW_UPDATE if stream == 0 && self.n_requests == 0 => {
                let increment = payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
                self.window = self.window.or_else(|| increment.map(|n| n & 0x7fff_ffff));
            }
            _ => {}
        }
        self.control_left -= 1;
        if self.control_left < 0 {
            return Err(Http2Error::ControlFlood);
        }
        Ok(())
    }

    fn priority(&mut self, stream: u32, payload: &[u8]) {
        let Some([a, b, c, d, weight]) = payload.first_chunk::<5>() else {
            return;
        };
        if self.priorities.len() < MAX_FP_ITEMS {
            let depends = u32::from_be_bytes([a & 0x7f, *b, *c, *d]);
            let weight = u16::from(*weight) + 1;
            self.priorities
                .push(format!("{stream}:{}:{depends}:{weight}", a >> 7));
        }
    }

    fn headers(&mut self, flags: u8, stream: u32, payload: &[u8]) -> Result<(), Http2Error> {
        const PADDED: u8 = 0x08;
        const PRIORITY: u8 = 0x20;
        let mut payload = payload;
        let mut padding = 0;
        if flags & PADDED != 0 {
            let (len, rest) = payload.split_first().ok_or(Http2Error::Protocol)?;
            (padding, payload) = (usize::from(*len), rest);
        }
        if flags & PRIORITY != 0 {
            payload = payload.get(5..).ok_or(Http2Error::Protocol)?;
        }
        let len = payload.len().checked_sub(padding).ok_or(Http2Error::Protocol)?;
        self.block = Some(Block {
            stream,
            bytes: payload[..len].to_vec(),
            n_continuations: 0,
            ts_ns: self.first_byte_ns,
        });
        self.end_block(flags)
    }

    fn continuation(&mut self, flags: u8, stream: u32, payload: &[u8]) -> Result<(), Http2Error> {
        let block = self.block.as_mut().ok_or(Http2Error::Protocol)?;
        if block.stream != stream {
            return Err(Http2Error::Protocol);
        }
        block.n_continuations += 1;
        if block.n_continuations > MAX_CONTINUATIONS || block.bytes.len() + payload.len() > MAX_BLOCK_BYTES {
            return Err(Http2Error::ContinuationFlood);
        }
        block.bytes.extend_from_slice(payload);
        self.end_block(flags)
    }

    fn end_block(&mut self, flags: u8) -> Result<(), Http2Error> {
        const END_HEADERS: u8 = 4;
        if flags & END_HEADERS == 0 {
            return Ok(());
        }
        let Some(block) = self.block.take() else {
            return Err(Http2Error::Protocol);
        };
        let fields = self.decoder.decode(&block.bytes).map_err(Http2Error::Hpack)?;
        // Trailers come on a stream that is known; they are no request.
        if block.stream <= self.last_stream {
            return Ok(());
        }
        self.last_stream = block.stream;
        self.control_left = (self.control_left + BUDGET_PER_REQUEST).min(100 * CONTROL_BUDGET);
        if self.waiting.len() == MAX_WAITING_HEADS {
            self.waiting.pop_first();
            self.unclaimed += 1;
        }
        let (mut head, pseudo) = head_of(fields);
        head.h2_fp = self.fingerprint(&pseudo);
        let observed = Observed {
            head,
            ts_ns: block.ts_ns,
            index: self.n_requests,
        };
        self.n_requests = self.n_requests.saturating_add(1);
        self.waiting.insert(block.stream, observed);
        Ok(())
    }

    fn fingerprint(&self, pseudo: &str) -> String {
        let settings = self.settings.as_deref().unwrap_or_default();
        let priorities = if self.priorities.is_empty() {
            "0".to_owned()
        } else {
            self.priorities.join(",")
        };
        format!("{settings}|{}|{priorities}|{pseudo}", self.window.unwrap_or(0))
    }
}

fn settings_text(payload: &[u8]) -> String {
    let mut text = String::new();
    for item in payload.chunks_exact(6).take(MAX_FP_ITEMS) {
        let id = u16::from_be_bytes([item[0], item[1]]);
        let value = u32::from_be_bytes([item[2], item[3], item[4], item[5]]);
        let separator = if text.is_empty() { "" } else { ";" };
        write!(text, "{separator}{id}:{value}").expect("writing to a String does not fail");
    }
    text
}

/// Splits pseudo-headers off; their order comes back as first letters with commas.
fn head_of(fields: Vec<(Vec<u8>, Vec<u8>)>) -> (RequestHead, String) {
    let mut head = RequestHead {
        version: "2",
        ..RequestHead::default()
    };
    let mut pseudo = Vec::new();
    for (name, value) in fields {
        let (slot, letter) = match name.as_slice() {
            b":method" => (&mut head.method, "m"),
            b":authority" => (&mut head.authority, "a"),
            b":scheme" => (&mut head.scheme, "s"),
            b":path" => (&mut head.target, "p"),
            _ => {
                if head.headers.len() < MAX_HEADERS {
                    head.headers.push((name, value));
                } else {
                    head.is_cut = true;
                }
                continue;
            }
        };
        *slot = value;
        if pseudo.len() < MAX_FP_ITEMS {
            pseudo.push(letter);
        }
    }
    (head, pseudo.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![len[1], len[2], len[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn literal(name: &str, value: &str) -> Vec<u8> {
        let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
        bytes.extend(name.bytes());
        bytes.push(u8::try_from(value.len()).unwrap());
        bytes.extend(value.bytes());
        bytes
    }

    fn opening() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 0, &[0, 1, 0, 1, 0, 0, 0, 4, 0, 0x60, 0, 0]));
        bytes.extend(frame(8, 0, 0, &15_663_105_u32.to_be_bytes()));
        bytes
    }

    #[test]
    fn order_duplicates_and_fingerprint_survive_any_split() {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "GET"),
            (":authority", "h"),
            (":scheme", "https"),
            (":path", "/x?y"),
            ("x-b", "1"),
            ("x-a", "2"),
            ("x-b", "3"),
        ] {
            block.extend(literal(name, value));
        }
        let (first, second) = block.split_at(block.len() / 2);
        let mut bytes = opening();
        bytes.extend(frame(2, 0, 3, &[0x80, 0, 0, 0, 200]));
        bytes.extend(frame(1, 1, 5, first));
        bytes.extend(frame(9, 4, 5, second));
        for step in [1, 2, 7, 1000] {
            let mut observer = Observer::default();
            for part in bytes.chunks(step) {
                observer.feed(42, part).unwrap();
            }
            let head = observer.take(5).unwrap().head;
            assert_eq!(head.h2_fp, "1:65536;4:6291456|15663105|3:1:0:201|m,a,s,p");
            let headers: Vec<_> = head.headers.iter().map(|(n, v)| (&n[..], &v[..])).collect();
            assert_eq!(
                headers,
                [
                    (&b"x-b"[..], &b"1"[..]),
                    (&b"x-a"[..], &b"2"[..]),
                    (&b"x-b"[..], &b"3"[..])
                ]
            );
            assert_eq!((head.host(), head.path_and_query().1), (&b"h"[..], &b"y"[..]));
            assert_eq!(observer.held(), (0, 0));
        }
    }

    #[track_caller]
    fn check_flood(bytes: &[u8], expected: Http2Error) {
        let mut observer = Observer::default();
        observer.feed(0, &opening()).unwrap();
        let failed = (0..100_000).find_map(|_| observer.feed(0, bytes).err());
        assert_eq!(failed, Some(expected));
        let (heads, bytes) = observer.held();
        assert!(heads <= MAX_WAITING_HEADS && bytes <= MAX_BLOCK_BYTES + MAX_FRAME_BYTES + FRAME_HEAD_BYTES);
    }

    #[test]
    fn floods_are_refused() {
        check_flood(&frame(4, 0, 0, &[]), Http2Error::ControlFlood);
        check_flood(&frame(6, 0, 0, &[0; 8]), Http2Error::ControlFlood);
        check_flood(&frame(0, 0, 1, &[]), Http2Error::ControlFlood);
        check_flood(&frame(3, 0, 1, &[0; 4]), Http2Error::RapidReset);
        check_flood(&[0, 0x80, 0, 0, 0, 0, 0, 0, 1], Http2Error::FrameTooLarge);
        check_flood(&frame(9, 0, 1, b"x"), Http2Error::Protocol);
    }

    #[test]
    fn a_header_block_without_end_is_refused() {
        let mut observer = Observer::default();
        observer.feed(0, &opening()).unwrap();
        observer.feed(0, &frame(1, 0, 1, b"")).unwrap();
        let failed = (0..100).find_map(|_| observer.feed(0, &frame(9, 0, 1, b"")).err());
        assert_eq!(failed, Some(Http2Error::ContinuationFlood));
    }

    #[test]
    fn heads_that_nobody_takes_make_room() {
        let mut observer = Observer::default();
        observer.feed(0, &opening()).unwrap();
        for stream in (1..2000).step_by(2) {
            observer.feed(0, &frame(1, 5, stream, &[0x82])).unwrap();
        }
        assert_eq!(observer.held().0, MAX_WAITING_HEADS);
        assert_eq!(observer.unclaimed(), 1000 - MAX_WAITING_HEADS as u64);
    }

    #[test]
    fn what_is_not_http2_is_refused() {
        assert_eq!(
            Observer::default().feed(0, b"GET / HTTP/1.1\r\n"),
            Err(Http2Error::Protocol)
        );
    }
}
