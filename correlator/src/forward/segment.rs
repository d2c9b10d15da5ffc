//! What a forwarder seals: events as they will be sent, and what a restart must know.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes, BytesMut};
use ja4_model::envelope::Envelope;
use ja4_transport::Role;
use ja4_transport::remote::proto::{Batch, Part, ROLE_HTTP, ROLE_NETWORK};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::payload::Origin;
use crate::settlement::{Mark, ProducerKey};
use crate::totals::Flow;

/// A message is closed when it has this many bytes; with the longest event behind it it is still within the hop's limit.
const MESSAGE_BYTES: usize = 32 << 10;

/// What a sealed segment says of itself. A new field needs a default: after an upgrade the segments of the version
/// before are read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ForwardMeta {
    /// Producers, as of the sealing.
    pub(crate) marks: Vec<Mark>,
    /// Counts, as of the sealing.
    pub(crate) totals: ForwardTotals,
    /// Whose events are in it; a part's slot is an index here.
    pub(crate) producers: Vec<SegmentProducer>,
    /// When it was sealed, nanoseconds since the epoch.
    pub(crate) sealed_ns: i64,
}

/// Counts that outlive the process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ForwardTotals {
    /// Events by source: passed = sealed, dropped by reason.
    pub(crate) input: BTreeMap<String, Flow>,
    /// Sealed events by source: dropped by reason; passed is not used.
    pub(crate) spool: BTreeMap<String, Flow>,
}

/// One producer of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentProducer {
    pub(crate) source: String,
    pub(crate) node: String,
    pub(crate) boot: u64,
    /// As on the hop.
    pub(crate) role: u32,
    /// Numbered events of it in the segment.
    pub(crate) events: u64,
    /// Statuses of it.
    pub(crate) statuses: u64,
    /// Its lowest number here.
    pub(crate) first: u64,
    /// Its highest number here plus one; 0 if there are statuses only.
    pub(crate) upto: u64,
}

impl SegmentProducer {
    pub(crate) fn name(&self) -> ProducerName {
        ProducerName {
            source: self.source.clone(),
            boot: self.boot,
        }
    }
}

/// A producer process of this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProducerName {
    pub(crate) source: String,
    pub(crate) boot: u64,
}

impl ForwardMeta {
    /// Events by source.
    pub(crate) fn events_by_source(&self) -> BTreeMap<&str, u64> {
        let mut events = BTreeMap::new();
        for producer in &self.producers {
            *events.entry(producer.source.as_str()).or_insert(0) += producer.events;
        }
        events
    }

    pub(crate) fn has_statuses(&self) -> bool {
        self.producers.iter().any(|producer| producer.statuses > 0)
    }
}

/// The number of a role on the hop.
pub(crate) const fn role_number(role: Role) -> u32 {
    match role {
        Role::Network => ROLE_NETWORK,
        Role::Http => ROLE_HTTP,
    }
}

/// Events that are not sealed yet.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    producers: Vec<SegmentProducer>,
    index: BTreeMap<u32, usize>,
    /// In order of arrival: index of the producer, number (none for a status), where the envelope is.
    events: Vec<(usize, Option<u64>, std::ops::Range<usize>)>,
    bytes: Vec<u8>,
    origins: Vec<Origin>,
    /// A producer's number came after a higher one.
    is_unordered: bool,
    /// When the first event came, on the monotonic clock.
    pub(crate) opened_mono_ns: Option<u64>,
}

/// A bundle on its way to the disk.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) producers: Vec<SegmentProducer>,
    pub(crate) payload: Vec<u8>,
    pub(crate) origins: Vec<Origin>,
}

impl Bundle {
    /// Adds an event of the producer with this number in the settlement.
    pub(crate) fn push(
        &mut self,
        slot: u32,
        key: &ProducerKey,
        role: Role,
        envelope: &Envelope<'_>,
        mono_ns: u64,
    ) {
        self.opened_mono_ns.get_or_insert(mono_ns);
        let producers = &mut self.producers;
        let idx = *self.index.entry(slot).or_insert_with(|| {
            producers.push(SegmentProducer {
                source: key.source.to_str_lossy().into_owned(),
                node: key.node.to_str_lossy().into_owned(),
                boot: key.boot.0,
                role: role_number(role),
                events: 0,
                statuses: 0,
                first: u64::MAX,
                upto: 0,
            });
            producers.len() - 1
        });
        let producer = &mut self.producers[idx];
        let seq = envelope.key.id.seq;
        let is_status = envelope.key.kind == ja4_model::EventKind::Status;
        if is_status {
            producer.statuses += 1;
        } else {
            self.is_unordered |= seq < producer.upto;
            producer.events += 1;
            producer.first = producer.first.min(seq);
            producer.upto = producer.upto.max(seq.saturating_add(1));
            self.origins.push(Origin { boot: slot, seq });
        }
        let start = self.bytes.len();
        envelope.write(&mut self.bytes);
        self.events
            .push((idx, (!is_status).then_some(seq), start..self.bytes.len()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Events by source, without statuses.
    pub(crate) fn events_by_source(&self) -> BTreeMap<String, u64> {
        let mut events = BTreeMap::new();
        for producer in &self.producers {
            *events.entry(producer.source.clone()).or_insert(0) += producer.events;
        }
        events
    }

    /// Ends the bundle and begins a new one.
    pub(crate) fn close(&mut self) -> Closed {
        let mut bundle = std::mem::take(self);
        if bundle.is_unordered {
            bundle.order();
        }
        let mut payload = Vec::with_capacity(bundle.bytes.len() + bundle.bytes.len() / 64 + 64);
        let mut batch = Batch::default();
        let mut part: Option<(usize, BytesMut)> = None;
        let mut length = 0;
        for (idx, _, range) in bundle.events {
            if length >= MESSAGE_BYTES {
                flush(&mut batch, &mut part, &mut payload);
                length = 0;
            }
            let event = &bundle.bytes[range];
            length += event.len();
            match &mut part {
                Some((of, bytes)) if *of == idx => bytes.extend_from_slice(event),
                _ => {
                    end_part(&mut batch, &mut part);
                    part = Some((idx, BytesMut::from(event)));
                }
            }
        }
        flush(&mut batch, &mut part, &mut payload);
        Closed {
            producers: bundle.producers,
            payload,
            origins: bundle.origins,
        }
    }

    /// Puts the events of each producer into the order of their numbers, in the places that they have: over the hop
    /// a number that comes after a higher one is taken for one that comes again.
    fn order(&mut self) {
        for idx in 0..self.producers.len() {
            let places: Vec<usize> = (0..self.events.len())
                .filter(|at| self.events[*at].0 == idx && self.events[*at].1.is_some())
                .collect();
            let mut events: Vec<_> = places.iter().map(|at| self.events[*at].clone()).collect();
            events.sort_by_key(|(_, seq, _)| *seq);
            for (place, event) in places.into_iter().zip(events) {
                self.events[place] = event;
            }
        }
    }
}

fn end_part(batch: &mut Batch, part: &mut Option<(usize, BytesMut)>) {
    if let Some((idx, bytes)) = part.take() {
        batch.parts.push(Part {
            slot: u32::try_from(idx).expect("a bundle has fewer producers than events"),
            envelopes: bytes.freeze(),
        });
    }
}

fn flush(batch: &mut Batch, part: &mut Option<(usize, BytesMut)>, payload: &mut Vec<u8>) {
    end_part(batch, part);
    if !batch.parts.is_empty() {
        batch
            .encode_length_delimited(payload)
            .expect("a Vec grows as needed");
        batch.parts.clear();
    }
}

/// The messages of a payload.
///
/// # Errors
/// If it is no payload; its checksum was right, so another version wrote it.
pub(crate) fn messages(payload: Bytes) -> Result<Vec<Batch>, prost::DecodeError> {
    let mut rest = payload;
    let mut messages = Vec::new();
    while rest.has_remaining() {
        messages.push(Batch::decode_length_delimited(&mut rest)?);
    }
    Ok(messages)
}

/// The envelopes of a part from number `base` on; statuses stay.
pub(crate) fn from_number(envelopes: &Bytes, base: u64) -> Bytes {
    let is_needed = |envelope: &Envelope<'_>| {
        envelope.key.kind == ja4_model::EventKind::Status || envelope.key.id.seq >= base
    };
    let mut kept = BytesMut::new();
    let mut rest = &envelopes[..];
    while let Ok((envelope, after)) = Envelope::read(rest) {
        if is_needed(&envelope) {
            kept.extend_from_slice(&rest[..rest.len() - after.len()]);
        }
        rest = after;
    }
    kept.freeze()
}

#[cfg(test)]
mod tests {
    use ja4_model::envelope::Key;
    use ja4_model::{BootId, EventId, EventKind, IdKind, Pair};

    use super::*;

    fn push(bundle: &mut Bundle, slot: u32, seq: u64, kind: EventKind, json: &[u8]) {
        let key = ProducerKey {
            source: format!("s{slot}").into(),
            node: "n".into(),
            boot: BootId(u64::from(slot)),
        };
        let envelope = Envelope {
            key: Key {
                kind,
                id_kind: IdKind::Producer,
                id: EventId { boot: key.boot, seq },
                ts_ns: 0,
                recv_ns: 0,
                pair: Pair::default(),
            },
            json,
        };
        bundle.push(slot, &key, Role::Http, &envelope, 7);
    }

    fn numbers(payload: Vec<u8>, base: u64) -> Vec<(u32, u64)> {
        let mut numbers = Vec::new();
        for part in messages(payload.into())
            .unwrap()
            .into_iter()
            .flat_map(|batch| batch.parts)
        {
            let kept = from_number(&part.envelopes, base);
            let mut rest = &kept[..];
            while let Ok((envelope, after)) = Envelope::read(rest) {
                numbers.push((part.slot, envelope.key.id.seq));
                rest = after;
            }
        }
        numbers
    }

    #[test]
    fn events_keep_their_order_and_each_producer_that_of_its_numbers() {
        let mut bundle = Bundle::default();
        for (slot, seq) in [(5, 10), (5, 12), (9, 0), (5, 11), (9, 1)] {
            push(&mut bundle, slot, seq, EventKind::Request, b"{}");
        }
        push(&mut bundle, 5, 13, EventKind::Status, b"{}");
        let closed = bundle.close();
        assert!(bundle.is_empty() && closed.origins.len() == 5);
        let limits: Vec<_> = closed
            .producers
            .iter()
            .map(|p| (p.first, p.upto, p.events, p.statuses))
            .collect();
        assert_eq!(limits, [(10, 13, 3, 1), (0, 2, 2, 0)]);
        let all = [(0, 10), (0, 11), (1, 0), (0, 12), (1, 1), (0, 13)];
        assert_eq!(numbers(closed.payload.clone(), 0), all);
        // A status stays, whatever its number.
        assert_eq!(numbers(closed.payload, 20), [(0, 13)]);
    }

    #[test]
    fn messages_stay_within_the_limit_of_the_hop() {
        let mut bundle = Bundle::default();
        let long = vec![b' '; ja4_model::limits::MAX_MESSAGE_BYTES];
        for seq in 0..40 {
            let json = if seq % 7 == 0 { &long[..] } else { &long[..2000] };
            push(
                &mut bundle,
                u32::try_from(seq % 3).unwrap(),
                seq,
                EventKind::Request,
                json,
            );
        }
        let found = messages(bundle.close().payload.into()).unwrap();
        assert!(found.len() > 3);
        for message in found {
            assert!(
                message.encoded_len() < ja4_transport::remote::proto::MAX_MESSAGE,
                "{}",
                message.encoded_len()
            );
        }
    }
}
