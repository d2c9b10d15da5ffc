//! Which events of which producer are settled: stored, spooled or counted as dropped.
//!
//! An event is *in flight* from its arrival until the rows made of it are sealed. The settled
//! prefix of a producer process is what may be acknowledged; prefix and holes together (the
//! *marks*) go into every sealed batch, so that after a crash an event that is sent again is
//! recognised.

use std::collections::VecDeque;

use hashbrown::HashMap;
use ja4_model::{BootId, Status, Text};
use serde::{Deserialize, Serialize};

use crate::payload::Origin;

/// Most producer processes remembered. Each restart of a producer is a new one; the longest silent of those that
/// are not connected goes first. Connected ones stay, whatever their number: the receiver limits that.
/// Over a hop those of all nodes are here, and those that are not connected must outlast a break of their node's stream.
const MAX_BOOTS: usize = 1 << 14;

/// Most numbers between the settled prefix and the newest event of one process. At 5 seconds of
/// waiting for ends this is 200 000 events/s of one producer; a jump over more is a lie or a bug.
const MAX_WINDOW: u64 = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Missing,
    InFlight,
    Settled,
}

/// What an arriving event is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// Seen for the first time; this many numbers before it were skipped.
    New { skipped: u64 },
    /// Seen before.
    Duplicate,
    /// Absurdly far ahead.
    TooFar,
}

/// One producer process.
#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) key: ProducerKey,
    /// Every number below is settled or was skipped.
    settled_upto: u64,
    /// States from `settled_upto` on.
    window: VecDeque<State>,
    /// Events that are settled, each once.
    settled: u64,
    in_flight: u64,
    /// Numbers that were skipped: dropped by the producer or lost on the way.
    skipped: u64,
    pub(crate) duplicates: u64,
    /// Time of its newest event, for gaps; nanoseconds since the epoch.
    pub(crate) last_ts_ns: i64,
    /// Arrival of its newest event, for forgetting the longest silent.
    last_seen_ns: i64,
    /// Connections now. A connected producer is spoken of by its number, which must not become another's.
    connections: u32,
    changed: bool,
    /// As the producer's last status says.
    pub(crate) next_seq: u64,
    /// Dropped by the producer, as its last status says.
    pub(crate) dropped: u64,
}

/// A producer process in the marks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark {
    boot: u64,
    source: String,
    node: String,
    settled_upto: u64,
    /// Settled runs beyond: first number and length.
    holes: Vec<(u64, u64)>,
    settled: u64,
    skipped: u64,
    duplicates: u64,
    last_seen_ns: i64,
}

/// All producer processes.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    producers: Vec<Option<Producer>>,
    by_key: HashMap<ProducerKey, u32, ahash::RandomState>,
}

/// A producer process as it greets. The boot alone would let one producer speak as another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ProducerKey {
    /// Kind of producer.
    pub(crate) source: Text<'static>,
    /// Its host.
    pub(crate) node: Text<'static>,
    /// Its process.
    pub(crate) boot: BootId,
}

impl Settlement {
    /// The number of a producer process; a new one is taken up, in place of the longest silent if need be.
    fn producer(&mut self, key: ProducerKey) -> u32 {
        if let Some(slot) = self.by_key.get(&key) {
            return *slot;
        }
        self.take_up(Producer {
            key,
            settled_upto: 0,
            window: VecDeque::new(),
            settled: 0,
            in_flight: 0,
            skipped: 0,
            duplicates: 0,
            last_ts_ns: i64::MIN,
            last_seen_ns: 0,
            connections: 0,
            changed: false,
            next_seq: 0,
            dropped: 0,
        })
    }

    fn take_up(&mut self, producer: Producer) -> u32 {
        if self.by_key.len() >= MAX_BOOTS {
            self.forget_longest_silent();
        }
        let slot = self
            .producers
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.producers.push(None);
                self.producers.len() - 1
            });
        let number =
            u32::try_from(slot).expect("bounded by MAX_BOOTS and the receiver's limit of connections");
        self.by_key.insert(producer.key.clone(), number);
        self.producers[slot] = Some(producer);
        number
    }

    /// Only processes that are not connected and have nothing in flight can go: connections and payloads name them by number.
    fn forget_longest_silent(&mut self) {
        let oldest = (0_u32..)
            .zip(&self.producers)
            .filter_map(|(slot, producer)| Some((producer.as_ref()?, slot)))
            .filter(|(producer, _)| producer.in_flight == 0 && producer.connections == 0)
            .min_by_key(|(producer, _)| producer.last_seen_ns)
            .map(|(producer, slot)| (producer.key.clone(), slot));
        if let Some((key, slot)) = oldest {
            self.by_key.remove(&key);
            self.producers[slot as usize] = None;
        }
    }

    /// Notes a connection of a producer process; gives its number, which is its own until as many are closed.
    pub(crate) fn connected(&mut self, key: ProducerKey) -> u32 {
        let slot = self.producer(key);
        if let Some(producer) = self.get_mut(slot) {
            producer.connections += 1;
        }
        slot
    }

    /// Notes the end of a connection; true if it was the last one of its process.
    pub(crate) fn disconnected(&mut self, slot: u32) -> bool {
        self.get_mut(slot).is_some_and(|producer| {
            producer.connections = producer.connections.saturating_sub(1);
            producer.connections == 0
        })
    }

    /// True if the process is remembered.
    pub(crate) fn knows(&self, key: &ProducerKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// A producer by its number.
    pub(crate) fn get(&self, slot: u32) -> Option<&Producer> {
        self.producers.get(slot as usize)?.as_ref()
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Producer> {
        self.producers.get_mut(slot as usize)?.as_mut()
    }

    /// All producers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Producer> {
        self.producers.iter().flatten()
    }

    /// Notes the arrival of an event.
    pub(crate) fn arrive(&mut self, origin: Origin, recv_ns: i64) -> Arrival {
        let Some(producer) = self.get_mut(origin.boot) else {
            return Arrival::TooFar;
        };
        producer.last_seen_ns = producer.last_seen_ns.max(recv_ns);
        let arrival = producer.arrive(origin.seq);
        producer.duplicates += u64::from(arrival == Arrival::Duplicate);
        arrival
    }

    /// Notes when an event that has arrived says that its thing happened.
    pub(crate) fn note_time(&mut self, origin: Origin, ts_ns: i64) {
        if let Some(producer) = self.get_mut(origin.boot) {
            producer.last_ts_ns = producer.last_ts_ns.max(ts_ns);
        }
    }

    /// Notes what a producer says of itself.
    pub(crate) fn note_status(&mut self, slot: u32, status: &Status<'_>) -> Option<&Producer> {
        let producer = self.get_mut(slot)?;
        producer.next_seq = producer.next_seq.max(status.next_seq);
        // A status may come again after a newer one, over a hop.
        producer.dropped = producer.dropped.max(status.dropped.iter().map(|(_, n)| *n).sum());
        Some(producer)
    }

    /// Notes that the rows of an event are safe. Idempotent.
    pub(crate) fn settle(&mut self, origin: Origin) {
        if let Some(producer) = self.get_mut(origin.boot) {
            producer.settle(origin.seq);
        }
    }

    /// Settles many.
    pub(crate) fn settle_all(&mut self, origins: &[Origin]) {
        for origin in origins {
            self.settle(*origin);
        }
    }

    /// First number that is not settled; 0 for an unknown process.
    #[cfg(test)]
    fn next_unsettled(&self, key: &ProducerKey) -> u64 {
        let slot = self.by_key.get(key).copied();
        slot.and_then(|slot| self.get(slot))
            .map_or(0, |producer| producer.settled_upto)
    }

    /// The prefixes that have grown since the last call.
    pub(crate) fn take_changed(&mut self) -> impl Iterator<Item = (u32, &ProducerKey, u64)> {
        (0_u32..).zip(&mut self.producers).filter_map(|(slot, producer)| {
            let producer = producer.as_mut()?;
            std::mem::take(&mut producer.changed).then_some((slot, &producer.key, producer.settled_upto))
        })
    }

    /// The marks, as they would be if the events of `sealing` were settled already: they go into the
    /// very batch whose sealing settles them.
    pub(crate) fn marks_after(&self, sealing: &[Origin]) -> Vec<Mark> {
        let mut by_slot: HashMap<u32, Vec<u64>, ahash::RandomState> = HashMap::default();
        for origin in sealing {
            by_slot.entry(origin.boot).or_default().push(origin.seq);
        }
        (0_u32..)
            .zip(&self.producers)
            .filter_map(|(slot, producer)| {
                let sealing = by_slot.get(&slot).map_or(&[][..], Vec::as_slice);
                Some(producer.as_ref()?.mark_after(sealing))
            })
            .collect()
    }

    /// Takes up what a crash left behind.
    pub(crate) fn restore(&mut self, marks: &[Mark]) {
        for mark in marks {
            let mut producer = Producer {
                key: ProducerKey {
                    boot: BootId(mark.boot),
                    source: mark.source.clone().into(),
                    node: mark.node.clone().into(),
                },
                settled_upto: mark.settled_upto,
                window: VecDeque::new(),
                settled: mark.settled,
                in_flight: 0,
                skipped: mark.skipped,
                duplicates: mark.duplicates,
                last_ts_ns: i64::MIN,
                last_seen_ns: mark.last_seen_ns,
                connections: 0,
                // Whoever connects must be told the prefix.
                changed: true,
                next_seq: 0,
                dropped: 0,
            };
            for &(first, length) in &mark.holes {
                let Some(offset) = first.checked_sub(mark.settled_upto) else {
                    continue;
                };
                let end = offset.saturating_add(length).min(MAX_WINDOW);
                let (offset, end) = (to_index(offset), to_index(end));
                if producer.window.len() < end {
                    producer.window.resize(end, State::Missing);
                }
                producer
                    .window
                    .range_mut(offset.min(end)..end)
                    .for_each(|state| *state = State::Settled);
            }
            self.take_up(producer);
        }
    }
}

fn to_index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Producer {
    /// Events that came in, each once: settled ones and those in flight.
    pub(crate) const fn received(&self) -> u64 {
        self.settled + self.in_flight
    }

    pub(crate) const fn settled(&self) -> u64 {
        self.settled
    }

    /// Numbers that were given out and neither arrived nor were dropped by the producer, as of its last status.
    pub(crate) const fn lost(&self) -> u64 {
        self.next_seq
            .saturating_sub(self.received())
            .saturating_sub(self.dropped)
    }

    fn arrive(&mut self, seq: u64) -> Arrival {
        let Some(offset) = seq.checked_sub(self.settled_upto) else {
            return Arrival::Duplicate;
        };
        if offset >= MAX_WINDOW && !self.window.is_empty() {
            return Arrival::TooFar;
        }
        if self.window.is_empty() && offset > 0 {
            // Nothing is in flight: a jump of any size is a gap.
            self.settled_upto = seq;
            self.skipped += offset;
            self.changed = true;
            self.window.push_back(State::InFlight);
            self.in_flight += 1;
            return Arrival::New { skipped: offset };
        }
        let at = to_index(offset);
        let before = self.window.len();
        if at < before {
            return match self.window[at] {
                State::Missing => {
                    // It was taken for skipped and came late, over another connection.
                    self.window[at] = State::InFlight;
                    self.in_flight += 1;
                    self.skipped = self.skipped.saturating_sub(1);
                    Arrival::New { skipped: 0 }
                }
                State::InFlight | State::Settled => Arrival::Duplicate,
            };
        }
        self.window.resize(at, State::Missing);
        self.window.push_back(State::InFlight);
        self.in_flight += 1;
        let skipped = (at - before) as u64;
        self.skipped += skipped;
        Arrival::New { skipped }
    }

    fn settle(&mut self, seq: u64) {
        let Some(state) = seq
            .checked_sub(self.settled_upto)
            .and_then(|offset| self.window.get_mut(to_index(offset)))
        else {
            return;
        };
        if *state != State::InFlight {
            return;
        }
        *state = State::Settled;
        self.in_flight -= 1;
        self.settled += 1;
        self.advance();
    }

    /// Moves the prefix over what is settled, and over what was skipped before it: a number that was
    /// passed over does not come any more on a connection that keeps order.
    fn advance(&mut self) {
        while self.window.front().is_some_and(|state| *state != State::InFlight) {
            self.window.pop_front();
            self.settled_upto = self.settled_upto.saturating_add(1);
            self.changed = true;
        }
    }

    fn mark_after(&self, sealing: &[u64]) -> Mark {
        let mut states = self.window.clone();
        let mut settled = self.settled;
        for seq in sealing {
            let state = seq
                .checked_sub(self.settled_upto)
                .and_then(|offset| states.get_mut(to_index(offset)));
            if let Some(state) = state.filter(|state| **state == State::InFlight) {
                *state = State::Settled;
                settled += 1;
            }
        }
        let mut settled_upto = self.settled_upto;
        while states.front().is_some_and(|state| *state != State::InFlight) {
            states.pop_front();
            settled_upto = settled_upto.saturating_add(1);
        }
        let mut holes: Vec<(u64, u64)> = Vec::new();
        for (seq, state) in (settled_upto..).zip(&states) {
            if *state == State::InFlight {
                continue;
            }
            match holes.last_mut() {
                Some((first, length)) if *first + *length == seq => *length += 1,
                _ => holes.push((seq, 1)),
            }
        }
        Mark {
            boot: self.key.boot.0,
            source: self.key.source.to_str_lossy().into_owned(),
            node: self.key.node.to_str_lossy().into_owned(),
            settled_upto,
            holes,
            settled,
            skipped: self.skipped,
            duplicates: self.duplicates,
            last_seen_ns: self.last_seen_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settlement() -> (Settlement, u32) {
        let mut settlement = Settlement::default();
        let slot = settlement.producer(key(1));
        (settlement, slot)
    }

    fn key(boot: u64) -> ProducerKey {
        ProducerKey {
            source: "sensor".into(),
            node: "n".into(),
            boot: BootId(boot),
        }
    }

    fn at(boot: u32, seq: u64) -> Origin {
        Origin { boot, seq }
    }

    #[test]
    fn the_prefix_grows_only_over_what_is_settled() {
        let (mut settlement, slot) = settlement();
        for seq in 0..4 {
            assert_eq!(settlement.arrive(at(slot, seq), 0), Arrival::New { skipped: 0 });
        }
        settlement.settle(at(slot, 1));
        settlement.settle(at(slot, 2));
        assert_eq!(settlement.next_unsettled(&key(1)), 0);
        settlement.settle(at(slot, 0));
        assert_eq!(
            settlement
                .take_changed()
                .map(|(_, _, upto)| upto)
                .collect::<Vec<_>>(),
            [3]
        );
        assert_eq!(settlement.take_changed().count(), 0);
    }

    #[test]
    fn what_comes_again_is_a_duplicate_settled_or_not() {
        let (mut settlement, slot) = settlement();
        settlement.arrive(at(slot, 0), 0);
        assert_eq!(settlement.arrive(at(slot, 0), 0), Arrival::Duplicate);
        settlement.settle(at(slot, 0));
        assert_eq!(settlement.arrive(at(slot, 0), 0), Arrival::Duplicate);
        assert_eq!(settlement.get(slot).unwrap().received(), 1);
    }

    #[test]
    fn skipped_numbers_are_counted_and_do_not_hold_the_prefix() {
        let (mut settlement, slot) = settlement();
        assert_eq!(settlement.arrive(at(slot, 5), 0), Arrival::New { skipped: 5 });
        assert_eq!(settlement.arrive(at(slot, 8), 0), Arrival::New { skipped: 2 });
        settlement.settle(at(slot, 8));
        settlement.settle(at(slot, 5));
        assert_eq!(settlement.next_unsettled(&key(1)), 9);
        let status = Status {
            next_seq: 9,
            dropped: vec![("full".into(), 3)],
            last: false,
        };
        let producer = settlement.note_status(slot, &status).unwrap();
        assert_eq!(
            (producer.received(), producer.skipped, producer.lost()),
            (2, 7, 4)
        );
    }

    #[test]
    fn marks_tell_after_a_crash_what_was_sealed() {
        let (mut settlement, slot) = settlement();
        for seq in 0..6 {
            settlement.arrive(at(slot, seq), 7);
        }
        settlement.settle(at(slot, 0));
        let marks = settlement.marks_after(&[at(slot, 1), at(slot, 4)]);
        let mut restored = Settlement::default();
        restored.restore(&marks);
        assert_eq!(restored.next_unsettled(&key(1)), 2);
        let slot = restored.producer(key(1));
        let arrivals: Vec<_> = (2..6).map(|seq| restored.arrive(at(slot, seq), 0)).collect();
        let new = Arrival::New { skipped: 0 };
        assert_eq!(arrivals, [new, new, Arrival::Duplicate, new]);
        assert_eq!(restored.get(slot).unwrap().received(), 6);
        assert_eq!(restored.get(slot).unwrap().skipped, 0);
    }

    #[test]
    fn an_absurd_number_does_not_grow_the_process() {
        let (mut settlement, slot) = settlement();
        settlement.arrive(at(slot, 0), 0);
        assert_eq!(settlement.arrive(at(slot, u64::MAX), 0), Arrival::TooFar);
        assert_eq!(
            settlement.arrive(at(slot, MAX_WINDOW - 1), 0),
            Arrival::New {
                skipped: MAX_WINDOW - 2
            }
        );
    }

    #[test]
    fn the_longest_silent_processes_are_forgotten_first() {
        let mut settlement = Settlement::default();
        for boot in 0..=MAX_BOOTS as u64 {
            let slot = settlement.producer(key(boot));
            settlement.arrive(at(slot, 0), i64::try_from(boot).unwrap());
            settlement.settle(at(slot, 0));
        }
        assert_eq!(settlement.iter().count(), MAX_BOOTS);
        assert_eq!(settlement.next_unsettled(&key(0)), 0);
        assert_eq!(settlement.next_unsettled(&key(1)), 1);
    }

    #[test]
    fn a_connected_process_keeps_its_number_however_silent_it_is() {
        let mut settlement = Settlement::default();
        let silent = settlement.connected(key(0));
        for boot in 1..=2 * MAX_BOOTS as u64 {
            let slot = settlement.connected(key(boot));
            assert_ne!(slot, silent);
            assert!(settlement.disconnected(slot));
        }
        assert_eq!(settlement.iter().count(), MAX_BOOTS);
        assert!(settlement.knows(&key(0)) && !settlement.knows(&key(1)));
        settlement.arrive(at(silent, 7), 0);
        settlement.settle(at(silent, 7));
        assert_eq!(settlement.next_unsettled(&key(0)), 8);
        // Twice connected, once closed: still there.
        settlement.connected(key(0));
        assert!(!settlement.disconnected(silent));
        assert!(settlement.disconnected(silent));
    }
}
