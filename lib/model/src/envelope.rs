//! An event between our own processes: a small binary key, then the opaque JSON bytes.
//!
//! Whoever passes an event on need not parse it, and whoever joins finds the key at once.
//!
//! ```text
//! offset  bytes  field (integers little-endian)
//!      0      4  length of all that follows
//!      4      1  version of this layout, 1
//!      5      1  kind (EventKind)
//!      6      1  id_kind: 0 producer, 1 receiver
//!      7      1  0
//!      8      8  boot
//!     16      8  seq
//!     24      8  ts_ns
//!     32      8  recv_ns
//!     40     18  client address and port     zero where the event carries none
//!     58     18  server address and port
//!     76      …  JSON
//! ```

use crate::WallNs;
use crate::address::{CanonicalAddr, Endpoint, Pair};
use crate::event::{EventKind, IdKind};
use crate::id::{BootId, EventId};
use crate::limits::MAX_MESSAGE_BYTES;

/// Bytes before the JSON.
pub const PREFIX_BYTES: usize = 76;

const LAYOUT_VERSION: u8 = 1;

/// The binary key of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Kind.
    pub kind: EventKind,
    /// Who counted.
    pub id_kind: IdKind,
    /// Identity.
    pub id: EventId,
    /// When the thing happened.
    pub ts_ns: WallNs,
    /// Arrival at the first of our processes.
    pub recv_ns: WallNs,
    /// Addresses, zero where the event carries none.
    pub pair: Pair,
}

/// A key with its event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// The key.
    pub key: Key,
    /// The event as its producer wrote it.
    pub json: &'a [u8],
}

/// Why bytes are no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvelopeError {
    /// More bytes are needed: at least this many in all.
    NeedMore(usize),
    /// Longer than [`MAX_MESSAGE_BYTES`] or shorter than its prefix.
    Length(usize),
    /// Written by a layout that this version does not know.
    Version(u8),
    /// A kind that this version does not know.
    Kind(u8),
}

impl std::fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NeedMore(n) => write!(f, "envelope is cut: {n} bytes are needed"),
            Self::Length(n) => write!(
                f,
                "envelope of {n} bytes, allowed are {PREFIX_BYTES} to {MAX_ENVELOPE_BYTES}"
            ),
            Self::Version(version) => {
                write!(f, "envelope layout {version} is not known, {LAYOUT_VERSION} is")
            }
            Self::Kind(kind) => write!(f, "event kind {kind} is not known"),
        }
    }
}

impl std::error::Error for EnvelopeError {}

const MAX_ENVELOPE_BYTES: usize = PREFIX_BYTES + MAX_MESSAGE_BYTES;

impl<'a> Envelope<'a> {
    /// Appends the envelope to `out`.
    ///
    /// # Panics
    /// If the JSON is longer than [`MAX_MESSAGE_BYTES`], which every receiver has checked before.
    pub fn write(&self, out: &mut Vec<u8>) {
        assert!(
            self.json.len() <= MAX_MESSAGE_BYTES,
            "the receiver refuses longer messages"
        );
        let length = u32::try_from(PREFIX_BYTES - 4 + self.json.len()).expect("bounded by MAX_MESSAGE_BYTES");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[
            LAYOUT_VERSION,
            self.key.kind as u8,
            u8::from(self.key.id_kind == IdKind::Receiver),
            0,
        ]);
        out.extend_from_slice(&self.key.id.boot.0.to_le_bytes());
        out.extend_from_slice(&self.key.id.seq.to_le_bytes());
        out.extend_from_slice(&self.key.ts_ns.to_le_bytes());
        out.extend_from_slice(&self.key.recv_ns.to_le_bytes());
        for endpoint in [self.key.pair.client, self.key.pair.server] {
            out.extend_from_slice(&endpoint.ip.0);
            out.extend_from_slice(&endpoint.port.to_le_bytes());
        }
        out.extend_from_slice(self.json);
    }

    /// Reads the envelope at the start of `bytes`; gives it and what follows.
    ///
    /// # Errors
    /// [`EnvelopeError::NeedMore`] for a prefix of an envelope, another variant for what can never be one.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), EnvelopeError> {
        let mut reader = Reader(bytes);
        let length = usize::try_from(u32::from_le_bytes(reader.take()?)).unwrap_or(usize::MAX);
        let total = length.saturating_add(4);
        if !(PREFIX_BYTES..=MAX_ENVELOPE_BYTES).contains(&total) {
            return Err(EnvelopeError::Length(total));
        }
        if bytes.len() < total {
            return Err(EnvelopeError::NeedMore(total));
        }
        let [version, kind, id_kind, _] = reader.take::<4>()?;
        if version != LAYOUT_VERSION {
            return Err(EnvelopeError::Version(version));
        }
        let kind = EventKind::from_number(kind).ok_or(EnvelopeError::Kind(kind))?;
        let id_kind = if id_kind == 1 {
            IdKind::Receiver
        } else {
            IdKind::Producer
        };
        let id = EventId {
            boot: BootId(u64::from_le_bytes(reader.take()?)),
            seq: u64::from_le_bytes(reader.take()?),
        };
        let ts_ns = i64::from_le_bytes(reader.take()?);
        let recv_ns = i64::from_le_bytes(reader.take()?);
        let pair = Pair {
            client: reader.endpoint()?,
            server: reader.endpoint()?,
        };
        let (json, rest) = reader.0.split_at(total - PREFIX_BYTES);
        Ok((
            Self {
                key: Key {
                    kind,
                    id_kind,
                    id,
                    ts_ns,
                    recv_ns,
                    pair,
                },
                json,
            },
            rest,
        ))
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], EnvelopeError> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or(EnvelopeError::NeedMore(PREFIX_BYTES))?;
        self.0 = rest;
        Ok(*head)
    }

    fn endpoint(&mut self) -> Result<Endpoint, EnvelopeError> {
        Ok(Endpoint::new(
            CanonicalAddr(self.take()?),
            u16::from_le_bytes(self.take()?),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Key {
        Key {
            kind: EventKind::Request,
            id_kind: IdKind::Receiver,
            id: EventId {
                boot: BootId(7),
                seq: 9,
            },
            ts_ns: -1,
            recv_ns: 5,
            pair: Pair {
                client: Endpoint::new(CanonicalAddr::from_v4([1, 2, 3, 4]), 5),
                server: Endpoint::new(CanonicalAddr([9; 16]), 443),
            },
        }
    }

    #[test]
    fn envelopes_survive_the_round_trip_and_say_what_is_missing() {
        let mut out = Vec::new();
        let envelope = Envelope {
            key: sample(),
            json: b"{}",
        };
        envelope.write(&mut out);
        out.push(b'x');
        assert_eq!(Envelope::read(&out), Ok((envelope, &b"x"[..])));
        for cut in 0..out.len() - 1 {
            assert!(
                matches!(Envelope::read(&out[..cut]), Err(EnvelopeError::NeedMore(_))),
                "{cut}"
            );
        }
    }

    #[test]
    fn absurd_lengths_versions_and_kinds_are_refused() {
        let mut out = Vec::new();
        Envelope {
            key: sample(),
            json: b"{}",
        }
        .write(&mut out);
        for (at, value, expected) in [
            (3, 0xff, None),
            (4, 9, Some(EnvelopeError::Version(9))),
            (5, 99, Some(EnvelopeError::Kind(99))),
        ] {
            let mut bad = out.clone();
            bad[at] = value;
            let error = Envelope::read(&bad).unwrap_err();
            assert!(expected.is_none_or(|expected| expected == error), "{error}");
        }
    }
}
