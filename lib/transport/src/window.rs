//! Turns settled events, in any order, into one cumulative acknowledgement. Pure.

use std::collections::VecDeque;

/// The unsettled events of one origin. Numbers arrive ascending (STREAM is in order); those that never
/// arrive were dropped by the producer and are passed over once a later one is there.
#[derive(Debug, Default)]
pub struct AckWindow {
    /// Everything below has arrived or never will.
    next: u64,
    /// Arrived events from the first unsettled one on, and whether they are settled.
    events: VecDeque<(u64, bool)>,
}

impl AckWindow {
    /// A window whose events below `next_unsettled` are settled.
    pub fn new(next_unsettled: u64) -> Self {
        Self {
            next: next_unsettled,
            events: VecDeque::new(),
        }
    }

    /// Notes an arrival; false if the number is not new.
    pub fn received(&mut self, seq: u64) -> bool {
        if seq < self.next {
            return false;
        }
        self.next = seq.saturating_add(1);
        self.events.push_back((seq, false));
        true
    }

    /// Notes that an event is in the store, in the spool or dropped for good. Unknown numbers are ignored.
    pub fn settled(&mut self, seq: u64) {
        if let Ok(idx) = self.events.binary_search_by_key(&seq, |event| event.0) {
            self.events[idx].1 = true;
            while self.events.front().is_some_and(|event| event.1) {
                self.events.pop_front();
            }
        }
    }

    /// First number that is not settled: what the acknowledgement says.
    pub fn ack(&self) -> u64 {
        self.events.front().map_or(self.next, |event| event.0)
    }

    /// Arrived events that are held for their order: unsettled ones and settled ones behind them.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// True if everything that arrived is settled.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_unsettled_event_holds_the_acknowledgement_back() {
        let mut window = AckWindow::new(5);
        assert_eq!(window.ack(), 5);
        assert!(!window.received(4));
        assert!(window.received(5) && window.received(6) && window.received(9));
        window.settled(6);
        window.settled(9);
        assert_eq!(window.ack(), 5);
        window.settled(5);
        assert_eq!((window.ack(), window.len()), (10, 0));
    }

    proptest! {
        #[test]
        fn prop_the_acknowledgement_is_the_least_unsettled_number(
            gaps in proptest::collection::vec(1_u64..4, 1..50),
            order in proptest::collection::vec(0_usize..50, 0..100),
        ) {
            let mut window = AckWindow::new(0);
            let seqs: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            for &seq in &seqs {
                assert!(window.received(seq));
            }
            let mut unsettled: std::collections::BTreeSet<u64> = seqs.iter().copied().collect();
            for idx in order {
                let seq = seqs[idx % seqs.len()];
                unsettled.remove(&seq);
                window.settled(seq);
                let next = seqs.last().unwrap() + 1;
                prop_assert_eq!(window.ack(), unsettled.first().copied().unwrap_or(next));
            }
        }
    }
}
