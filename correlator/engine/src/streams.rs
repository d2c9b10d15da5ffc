//! Producer processes: a short number for each, and which of their sequence numbers were seen.

use ahash::RandomState;

use crate::index::Index;
use crate::limits::SEQ_WINDOW;

const WORDS: usize = (SEQ_WINDOW / 64) as usize;

/// Short number of a producer process. Never used again, so that a stale one means nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct StreamId(pub(crate) u32);

#[derive(Debug)]
struct Stream {
    source: u32,
    boot: u64,
    id: StreamId,
    /// Counts lookups, for forgetting the least recently heard of.
    last_used: u64,
    /// Number above the highest seen; bits below it tell which were seen.
    end: u64,
    seen: Box<[u64; WORDS]>,
}

/// All producer processes.
#[derive(Debug)]
pub(crate) struct Streams {
    hasher: RandomState,
    index: Index,
    known: Vec<Stream>,
    max: usize,
    next_id: u32,
    clock: u64,
}

impl Streams {
    pub(crate) fn new(hasher: RandomState, max: usize) -> Self {
        Self {
            hasher,
            index: Index::default(),
            known: Vec::new(),
            max: max.max(1),
            next_id: 0,
            clock: 0,
        }
    }

    fn hash(&self, source: u32, boot: u64) -> u64 {
        self.hasher.hash_one((source, boot))
    }

    fn position(&self, source: u32, boot: u64) -> Option<u32> {
        self.index.find(self.hash(source, boot), |at| {
            let stream = &self.known[at as usize];
            stream.source == source && stream.boot == boot
        })
    }

    /// The producer's number, if it is known.
    pub(crate) fn find(&self, source: u32, boot: u64) -> Option<StreamId> {
        self.position(source, boot).map(|at| self.known[at as usize].id)
    }

    /// Notes an event; none if it was seen before.
    pub(crate) fn accept(&mut self, source: u32, boot: u64, seq: u64) -> Option<StreamId> {
        self.clock += 1;
        let at = match self.position(source, boot) {
            Some(at) => at as usize,
            None => self.add(source, boot),
        };
        let clock = self.clock;
        let stream = &mut self.known[at];
        stream.last_used = clock;
        stream.mark(seq).then_some(stream.id)
    }

    fn add(&mut self, source: u32, boot: u64) -> usize {
        let stream = Stream {
            source,
            boot,
            id: StreamId(self.next_id),
            last_used: self.clock,
            end: 0,
            seen: Box::new([0; WORDS]),
        };
        self.next_id = self.next_id.wrapping_add(1);
        let hash = self.hash(source, boot);
        let at = if self.known.len() < self.max {
            self.known.push(stream);
            self.known.len() - 1
        } else {
            let at = self.least_recent();
            let old = std::mem::replace(&mut self.known[at], stream);
            self.index
                .remove(self.hash(old.source, old.boot), |value| value as usize == at);
            at
        };
        let value = u32::try_from(at).expect("streams_max is far below 2^32");
        self.index.put(hash, value, |_| false);
        at
    }

    fn least_recent(&self) -> usize {
        let oldest = self
            .known
            .iter()
            .enumerate()
            .min_by_key(|(_, stream)| stream.last_used);
        oldest.map_or(0, |(at, _)| at)
    }
}

impl Stream {
    /// Notes a number; false if it was seen. A number below the window cannot be told and counts as new:
    /// losing a request is worse than a row that the store deduplicates.
    fn mark(&mut self, seq: u64) -> bool {
        if seq >= self.end {
            self.advance(seq);
        } else if self.end - seq > SEQ_WINDOW {
            return true;
        }
        let word = &mut self.seen[(seq % SEQ_WINDOW / 64) as usize];
        let bit = 1 << (seq % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Moves the window so that it ends above `seq`; what enters it is unseen.
    fn advance(&mut self, seq: u64) {
        if seq - self.end >= SEQ_WINDOW {
            self.seen.fill(0);
        } else {
            self.clear(self.end, seq);
        }
        self.end = seq.saturating_add(1);
    }

    /// Clears the bits `from..=to`, whole words at once: a jump costs a thousand steps at most.
    fn clear(&mut self, from: u64, to: u64) {
        let mut at = from;
        while at <= to {
            let whole = at.is_multiple_of(64) && to - at >= 63;
            let word = &mut self.seen[(at % SEQ_WINDOW / 64) as usize];
            *word &= if whole { 0 } else { !(1 << (at % 64)) };
            let Some(next) = at.checked_add(if whole { 64 } else { 1 }) else {
                break;
            };
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(max: usize) -> Streams {
        Streams::new(RandomState::with_seeds(1, 2, 3, 4), max)
    }

    #[test]
    fn a_number_is_accepted_once_in_any_order() {
        let mut s = streams(4);
        for seq in [5, 3, 4, 0, 70_000, 69_999, 5_000, 200_000] {
            assert!(s.accept(1, 1, seq).is_some(), "{seq}");
            assert!(s.accept(1, 1, seq).is_none(), "{seq} again");
        }
    }

    #[test]
    fn numbers_of_another_boot_are_their_own() {
        let mut s = streams(4);
        let first = s.accept(1, 1, 0).unwrap();
        let second = s.accept(1, 2, 0).unwrap();
        assert_ne!(first, second);
        assert_eq!(s.find(1, 1), Some(first));
    }

    #[test]
    fn the_least_recently_heard_of_is_forgotten() {
        let mut s = streams(2);
        s.accept(1, 1, 0);
        s.accept(2, 1, 0);
        s.accept(1, 1, 1);
        s.accept(3, 1, 0);
        assert!(s.find(2, 1).is_none());
        assert!(s.find(1, 1).is_some());
        assert!(s.find(3, 1).is_some());
        assert_eq!(s.index.len(), 2);
    }

    #[test]
    fn a_jump_forgets_only_what_leaves_the_window() {
        let mut s = streams(4);
        for seq in 0..300 {
            s.accept(1, 1, seq);
        }
        s.accept(1, 1, 65_600);
        assert!(s.accept(1, 1, 299).is_none(), "still inside and seen");
        assert!(s.accept(1, 1, 400).is_some(), "inside and not seen");
        assert!(s.accept(1, 1, 65_599).is_some());
        assert!(s.accept(1, 1, 0).is_some(), "below the window: cannot be told");
    }

    #[test]
    fn highest_number_does_not_overflow() {
        let mut s = streams(2);
        assert!(s.accept(1, 1, u64::MAX).is_some());
        assert!(s.accept(1, 1, u64::MAX - 1).is_some());
        assert!(s.accept(1, 1, 0).is_some());
    }
}
