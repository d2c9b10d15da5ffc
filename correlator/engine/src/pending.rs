//! Requests that wait: for their connection, for their end, or for both.
//!
//! Each is in one of three lists, all in order of arrival, so that constant waits need no heap:
//! undecided; decided at arrival; decided when its wait was over.

use ahash::RandomState;

use crate::index::Index;
use crate::none_reason::Arrival;
use crate::output::{ConnRef, Contradictions, KeySource, Match};
use crate::resolve::Query;
use crate::slab::{Handle, List, NIL, Slab};
use crate::streams::StreamId;

/// Identity of a request outside of the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId {
    pub(crate) source: u32,
    pub(crate) boot: u64,
    pub(crate) seq: u64,
}

/// What was decided for a request.
#[derive(Debug)]
pub(crate) struct Decision<C> {
    pub(crate) verdict: Match,
    pub(crate) key_source: KeySource,
    pub(crate) delta_us: Option<i64>,
    pub(crate) conn_req_index: u32,
    pub(crate) contradictions: Contradictions,
    pub(crate) conn: Option<(Handle, ConnRef<C>)>,
}

/// A request that arrived.
#[derive(Debug)]
pub(crate) struct Pending<C, R> {
    pub(crate) query: Query,
    pub(crate) id: RequestId,
    pub(crate) arrival: Arrival,
    /// Counts arrivals: tells the oldest of all lists.
    pub(crate) order: u64,
    pub(crate) waits_for_end: bool,
    pub(crate) decision: Option<Decision<C>>,
    pub(crate) bytes: usize,
    pub(crate) request: R,
    pub(crate) end: Option<R>,
}

/// Which list a request is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Undecided.
    Decision,
    /// For its end; decided at arrival.
    End,
    /// For its end; decided when its wait was over.
    EndAfterDecision,
}

/// All waiting requests.
#[derive(Debug)]
pub(crate) struct PendingRequests<C, R> {
    hasher: RandomState,
    slab: Slab<(Wait, Pending<C, R>)>,
    lists: [List; 3],
    by_id: Index,
    bytes: usize,
}

impl<C, R> PendingRequests<C, R> {
    /// Bytes that a request costs beside its payload.
    pub(crate) const BASE_BYTES: usize = Slab::<(Wait, Pending<C, R>)>::SLOT_BYTES + Index::ENTRY_BYTES;

    pub(crate) fn new(hasher: RandomState) -> Self {
        Self {
            hasher,
            slab: Slab::new(),
            lists: [List::EMPTY; 3],
            by_id: Index::default(),
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, idx: u32) -> &Pending<C, R> {
        &self.slab.get(idx).1
    }

    pub(crate) fn get_mut(&mut self, idx: u32) -> &mut Pending<C, R> {
        &mut self.slab.get_mut(idx).1
    }

    pub(crate) fn insert(&mut self, pending: Pending<C, R>) {
        let wait = if pending.decision.is_some() {
            Wait::End
        } else {
            Wait::Decision
        };
        let (waits_for_end, stream, seq) = (pending.waits_for_end, pending.query.stream, pending.id.seq);
        self.bytes += pending.bytes;
        let idx = self.slab.insert((wait, pending)).idx;
        self.slab.push_back(&mut self.lists[wait as usize], idx);
        if waits_for_end {
            self.by_id
                .put(self.hasher.hash_one((stream, seq)), idx, |_| false);
        }
    }

    /// A request that waits for its end.
    pub(crate) fn find(&self, stream: StreamId, seq: u64) -> Option<u32> {
        self.by_id.find(self.hasher.hash_one((stream, seq)), |idx| {
            let pending = self.get(idx);
            pending.query.stream == stream && pending.id.seq == seq
        })
    }

    /// The oldest of a list.
    pub(crate) fn first(&self, wait: Wait) -> Option<u32> {
        let head = self.lists[wait as usize].head;
        (head != NIL).then_some(head)
    }

    /// The oldest of all.
    pub(crate) fn oldest(&self) -> Option<u32> {
        let heads = [Wait::Decision, Wait::End, Wait::EndAfterDecision].map(|wait| self.first(wait));
        heads.into_iter().flatten().min_by_key(|idx| self.get(*idx).order)
    }

    /// Adds the end of a request.
    pub(crate) fn set_end(&mut self, idx: u32, end: R, bytes: usize) {
        let pending = self.get_mut(idx);
        pending.end = Some(end);
        pending.bytes += bytes;
        self.bytes += bytes;
    }

    /// Notes the decision of the first undecided request and lets it wait for its end.
    pub(crate) fn set_decision(&mut self, idx: u32, decision: Decision<C>) {
        let (wait, pending) = self.slab.get_mut(idx);
        pending.decision = Some(decision);
        let before = *wait;
        *wait = Wait::EndAfterDecision;
        self.slab.unlink(&mut self.lists[before as usize], idx);
        self.slab
            .push_back(&mut self.lists[Wait::EndAfterDecision as usize], idx);
    }

    pub(crate) fn remove(&mut self, idx: u32) -> Option<Pending<C, R>> {
        let (wait, pending) = self.slab.get(idx);
        let (wait, waits_for_end) = (*wait, pending.waits_for_end);
        if waits_for_end {
            let hash = self.hasher.hash_one((pending.query.stream, pending.id.seq));
            self.by_id.remove(hash, |value| value == idx);
        }
        self.slab.unlink(&mut self.lists[wait as usize], idx);
        let (_, pending) = self.slab.remove(idx)?;
        self.bytes -= pending.bytes;
        Some(pending)
    }
}
