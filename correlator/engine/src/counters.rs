//! Counts of what came, went, was dropped and waits: the engine's part of the ledger.

use crate::output::{DropReason, Match, NoneReason};

/// One equation of the ledger: `received = passed + dropped + pending`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// Came in.
    pub received: u64,
    /// Went out, or did its work inside.
    pub passed: u64,
    /// Waits.
    pub pending: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl Flow {
    /// Counts by reason, those that are not zero.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .into_iter()
            .zip(self.dropped)
            .filter(|(_, n)| *n > 0)
    }

    /// Count of one reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Sum over all reasons.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// True if nothing is unaccounted for.
    pub fn balanced(&self) -> bool {
        self.received == self.passed + self.dropped_total() + self.pending
    }

    pub(crate) fn receive(&mut self) {
        self.received += 1;
        self.pending += 1;
    }

    pub(crate) fn pass(&mut self, n: u64) {
        self.passed += n;
        self.pending -= n;
    }

    pub(crate) fn drop(&mut self, reason: DropReason, n: u64) {
        self.dropped[reason as usize] += n;
        self.pending -= n;
    }
}

/// Requests that went out, by match.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JoinCounts {
    /// [`Match::Exact`].
    pub exact: u64,
    /// [`Match::Asof`].
    pub asof: u64,
    /// [`Match::Ambiguous`].
    pub ambiguous: u64,
    /// [`Match::None`] in the order of [`NoneReason::ALL`].
    pub none: [u64; NoneReason::ALL.len()],
}

impl JoinCounts {
    pub(crate) fn count(&mut self, verdict: Match) {
        match verdict {
            Match::Exact => self.exact += 1,
            Match::Asof => self.asof += 1,
            Match::Ambiguous => self.ambiguous += 1,
            Match::None(reason) => self.none[reason as usize] += 1,
        }
    }

    /// Count of one reason.
    pub fn none_for(&self, reason: NoneReason) -> u64 {
        self.none[reason as usize]
    }
}

/// All counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Requests; passed = joined rows.
    pub requests: Flow,
    /// Ends of requests; passed = part of a joined row.
    pub ends: Flow,
    /// Connection events; passed = rows of hellos, and openings, confirmations and closes that were applied.
    pub connections: Flow,
    /// Rows of hellos.
    pub tls_rows: u64,
    /// Corrections.
    pub corrections: u64,
    /// Joined rows by match.
    pub joined: JoinCounts,
    /// Confirmed connections forgotten for lack of memory.
    pub evicted_connections: u64,
    /// Unconfirmed connections forgotten for lack of memory or of room on their addresses.
    pub evicted_unconfirmed: u64,
    /// Closed connections forgotten after `late_retention`.
    pub expired_connections: u64,
    /// Address pairs of a connection beyond [`crate::limits::VIEWS_MAX`].
    pub views_refused: u64,
    /// Joins that did not bind because the connection has [`crate::limits::BINDINGS_MAX`] bindings.
    pub bindings_refused: u64,
    /// Requests let go early because of `pending_bytes_max`, joined or not.
    pub overflowed_requests: u64,
    /// Requests whose end did not come in time.
    pub ends_missed: u64,
}

/// What the engine holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Connections.
    pub connections: usize,
    /// Bytes that they are counted with.
    pub connection_bytes: usize,
    /// Waiting requests.
    pub pending_requests: usize,
    /// Bytes that they are counted with, ends included.
    pub pending_bytes: usize,
    /// Hellos whose row waits.
    pub pending_rows: usize,
    /// Requests remembered for corrections.
    pub orphans: usize,
}
