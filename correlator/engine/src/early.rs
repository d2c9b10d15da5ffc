//! Confirmations and closes that came before their connection, kept for a moment.

use std::collections::VecDeque;

use ahash::RandomState;
use hashbrown::HashMap;

use crate::input::{Confirmed, ConnUid};
use crate::limits::EARLY_MAX;

/// What is known of a connection that did not come yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Early {
    pub(crate) confirmed: Confirmed,
    pub(crate) close_ns: Option<i64>,
    /// Events that it is made of.
    pub(crate) n_events: u64,
}

/// All of them, in order of their deadlines.
#[derive(Debug)]
pub(crate) struct EarlyEvents {
    by_uid: HashMap<ConnUid, Early, RandomState>,
    /// A uid stands here once while it is in the map, and perhaps again, stale, after it was taken.
    order: VecDeque<(u64, ConnUid)>,
}

impl EarlyEvents {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self {
            by_uid: HashMap::with_hasher(hasher),
            order: VecDeque::new(),
        }
    }

    /// Notes an event. Returns the number of events that had to go for it.
    pub(crate) fn note(&mut self, uid: ConnUid, due_mono: u64, change: impl FnOnce(&mut Early)) -> u64 {
        let mut gone = 0;
        if !self.by_uid.contains_key(&uid) {
            while self.order.len() >= EARLY_MAX {
                gone += self.pop();
            }
            self.order.push_back((due_mono, uid));
        }
        let early = self.by_uid.entry(uid).or_default();
        early.n_events += 1;
        change(early);
        gone
    }

    /// What was noted for a connection that is here now.
    pub(crate) fn take(&mut self, uid: ConnUid) -> Option<Early> {
        if self.by_uid.is_empty() {
            None
        } else {
            self.by_uid.remove(&uid)
        }
    }

    /// When the first is given up.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.order.front().map(|(due, _)| *due)
    }

    /// Gives the first up; the number of its events.
    pub(crate) fn pop(&mut self) -> u64 {
        let Some((_, uid)) = self.order.pop_front() else {
            return 0;
        };
        self.by_uid.remove(&uid).map_or(0, |early| early.n_events)
    }
}
