//! Reads just the kind and the number of an event, and checks who it claims to be from. Pure.
//!
//! An event of our own writer starts with the same bytes on every frame of a connection, up to the
//! number: one comparison checks the claims. Any other JSON is read by a parser.

use std::borrow::Cow;

use ja4_model::limits::WIRE_VERSION;
use ja4_model::{BootId, EventKind, Text};
use serde::Deserialize;

use crate::counters::DropReason;

/// How our writer starts an event.
const START: &[u8] = b"{\"v\":1,\"event\":\"";

/// What every event of one connection must claim, if it claims anything.
#[derive(Debug)]
pub(crate) struct Claims {
    source: Vec<u8>,
    node: Vec<u8>,
    boot: BootId,
    /// `","source":"…","node":"…","boot":"…"` as our writer writes it behind the kind.
    written: Vec<u8>,
}

/// The kind and, if the producer counts, the number.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Peeked {
    pub(crate) kind: EventKind,
    /// None for a status and for producers that cannot count.
    pub(crate) seq: Option<u64>,
}

impl Claims {
    pub(crate) fn new(source: &[u8], node: &[u8], boot: BootId) -> Self {
        let mut written = b"\",\"source\":".to_vec();
        ja4_model::json::write_text(&mut written, source);
        written.extend_from_slice(b",\"node\":");
        ja4_model::json::write_text(&mut written, node);
        written.extend_from_slice(format!(",\"boot\":\"{boot}\"").as_bytes());
        Self {
            source: source.to_vec(),
            node: node.to_vec(),
            boot,
            written,
        }
    }

    pub(crate) fn peek(&self, frame: &[u8]) -> Result<Peeked, DropReason> {
        match self.as_written(frame) {
            Some(peeked) => Ok(peeked),
            None => self.by_parsing(frame),
        }
    }

    fn as_written(&self, frame: &[u8]) -> Option<Peeked> {
        let rest = frame.strip_prefix(START)?;
        let kind = EventKind::ALL.into_iter().find(|kind| {
            rest.starts_with(kind.name().as_bytes()) && rest.get(kind.name().len()) == Some(&b'"')
        })?;
        let rest = rest[kind.name().len()..].strip_prefix(&*self.written)?;
        if kind == EventKind::Status {
            return Some(Peeked { kind, seq: None });
        }
        let rest = rest.strip_prefix(b",\"seq\":")?;
        // 19 digits always fit; a longer number takes the parser.
        let n_digits = rest
            .iter()
            .take(20)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if n_digits == 0 || n_digits == 20 || rest.get(n_digits) != Some(&b',') {
            return None;
        }
        let seq = rest[..n_digits]
            .iter()
            .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
        Some(Peeked { kind, seq: Some(seq) })
    }

    fn by_parsing(&self, frame: &[u8]) -> Result<Peeked, DropReason> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            v: u64,
            #[serde(borrow)]
            event: Cow<'a, str>,
            #[serde(borrow)]
            source: Option<Text<'a>>,
            #[serde(borrow)]
            node: Option<Text<'a>>,
            #[serde(borrow)]
            boot: Option<Cow<'a, str>>,
            seq: Option<u64>,
        }
        let wire: Wire<'_> = serde_json::from_slice(frame).map_err(|_| DropReason::Malformed)?;
        if wire.v != u64::from(WIRE_VERSION) {
            return Err(DropReason::Version);
        }
        let kind = EventKind::from_name(&wire.event).ok_or(DropReason::UnknownKind)?;
        let differs = |claim: &Option<Text<'_>>, truth: &[u8]| {
            claim
                .as_ref()
                .is_some_and(|claim| !claim.is_empty() && claim.as_bytes() != truth)
        };
        if differs(&wire.source, &self.source) || differs(&wire.node, &self.node) {
            return Err(DropReason::Claim);
        }
        match (&wire.boot, wire.seq) {
            (Some(boot), _) if boot.parse() != Ok(self.boot) => Err(DropReason::Claim),
            (Some(_), Some(_)) if kind == EventKind::Status => Ok(Peeked { kind, seq: None }),
            (Some(_), None) if kind != EventKind::Status => Err(DropReason::Malformed),
            (None, Some(_)) => Err(DropReason::Malformed),
            (_, seq) => Ok(Peeked { kind, seq }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ja4_model::{Confirm, Confirmed, ConnUid, Event, EventId, Head, Status};

    fn frame(source: &str, node: &str, boot: u64, seq: u64, event: &Event<'_>) -> Vec<u8> {
        let id = EventId {
            boot: BootId(boot),
            seq,
        };
        let mut json = Vec::new();
        event.write_json(&Head::new(Text::from(source), Text::from(node), id, 1), &mut json);
        json
    }

    fn confirm() -> Event<'static> {
        Event::Confirm(Confirm {
            conn_uid: ConnUid(1),
            confirmed: Confirmed::Acked,
        })
    }

    #[test]
    fn both_readers_agree_on_what_our_writer_writes() {
        for (source, node) in [("sensor", "web-1"), ("a\"b\\\u{1}", "ü")] {
            let claims = Claims::new(source.as_bytes(), node.as_bytes(), BootId(7));
            for seq in [0, 9, 12_345, u64::MAX / 10, u64::MAX] {
                let frame = frame(source, node, 7, seq, &confirm());
                let expected = Peeked {
                    kind: EventKind::Confirm,
                    seq: Some(seq),
                };
                assert_eq!(claims.by_parsing(&frame), Ok(expected));
                assert_eq!(claims.as_written(&frame).unwrap_or(expected), expected);
            }
            let status = frame(source, node, 7, 3, &Event::Status(Status::default()));
            let expected = Peeked {
                kind: EventKind::Status,
                seq: None,
            };
            assert_eq!(claims.as_written(&status), Some(expected));
            assert_eq!(claims.by_parsing(&status), Ok(expected));
        }
        let claims = Claims::new(b"sensor", b"web-1", BootId(7));
        assert!(
            claims
                .as_written(&frame("sensor", "web-1", 7, 1, &confirm()))
                .is_some()
        );
    }

    #[test]
    fn a_claim_that_differs_is_refused() {
        let claims = Claims::new(b"sensor", b"web-1", BootId(7));
        for (source, node, boot) in [
            ("apache", "web-1", 7),
            ("sensor", "web-2", 7),
            ("sensor", "web-1", 8),
        ] {
            let frame = frame(source, node, boot, 1, &confirm());
            assert_eq!(claims.peek(&frame), Err(DropReason::Claim));
        }
    }

    #[test]
    fn what_is_no_event_is_named() {
        let claims = Claims::new(b"s", b"n", BootId(7));
        let cases: [(&str, DropReason); 8] = [
            ("", DropReason::Malformed),
            ("{}", DropReason::Malformed),
            ("[1]", DropReason::Malformed),
            ("{\"v\":2,\"event\":\"open\"}", DropReason::Version),
            ("{\"v\":1,\"event\":\"opened\"}", DropReason::UnknownKind),
            ("{\"v\":1,\"event\":\"open\",\"seq\":1}", DropReason::Malformed),
            (
                "{\"v\":1,\"event\":\"open\",\"boot\":\"0000000000000007\"}",
                DropReason::Malformed,
            ),
            (
                "{\"v\":1,\"event\":\"open\",\"boot\":\"7\",\"seq\":1}",
                DropReason::Claim,
            ),
        ];
        for (json, reason) in cases {
            assert_eq!(claims.peek(json.as_bytes()), Err(reason), "{json}");
        }
    }

    #[test]
    fn a_producer_that_cannot_count_needs_no_claims() {
        let claims = Claims::new(b"nginx", b"n", BootId(7));
        let peeked = claims.peek(b"{\"event\":\"request\",\"ts_ns\":1,\"v\":1}");
        assert_eq!(
            peeked,
            Ok(Peeked {
                kind: EventKind::Request,
                seq: None
            })
        );
    }
}
