//! Counts that outlive the process: they go into every sealed batch and are taken up after a crash.
//!
//! Only what is sealed is counted here. What a crash loses from memory was never acknowledged; it
//! is sent again or shows as lost at its producer.

use std::collections::BTreeMap;

use ja4_model::Match;
use serde::{Deserialize, Serialize};

/// Passed on and dropped by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) passed: u64,
    pub(crate) dropped: BTreeMap<String, u64>,
}

impl Flow {
    pub(crate) fn drop_for(&mut self, reason: &str, n: u64) {
        if n == 0 {
            return;
        }
        match self.dropped.get_mut(reason) {
            Some(count) => *count += n,
            None => {
                self.dropped.insert(reason.to_owned(), n);
            }
        }
    }

    pub(crate) fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }
}

/// Requests by match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) exact: u64,
    pub(crate) asof: u64,
    pub(crate) ambiguous: u64,
    pub(crate) none: BTreeMap<String, u64>,
}

impl Joined {
    pub(crate) fn count(&mut self, verdict: Match) {
        match verdict {
            Match::Exact => self.exact += 1,
            Match::Asof => self.asof += 1,
            Match::Ambiguous => self.ambiguous += 1,
            Match::None(reason) => *self.none.entry(reason.name().to_owned()).or_insert(0) += 1,
        }
    }

    /// Requests in all.
    pub(crate) fn total(&self) -> u64 {
        self.exact + self.asof + self.ambiguous + self.none.values().sum::<u64>()
    }
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Events by source: passed = settled, whether rows came of them or they were refused by reason.
    pub(crate) input: BTreeMap<String, Flow>,
    /// Requests: passed = rows made.
    pub(crate) requests: Flow,
    /// Connection events: passed = rows made or state changed.
    pub(crate) connections: Flow,
    /// Rows of hellos made.
    pub(crate) hellos: u64,
    pub(crate) joined: Joined,
    /// Rows by table: passed = sealed for the store.
    pub(crate) tables: BTreeMap<String, Flow>,
    /// Events whose time was clamped to a day around their arrival.
    pub(crate) clamped: u64,
}
