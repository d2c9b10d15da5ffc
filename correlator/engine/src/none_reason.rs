//! Says why a request has no connection.

use std::collections::VecDeque;

use ahash::RandomState;
use hashbrown::HashMap;

use crate::address::{Endpoint, Transport};
use crate::input::{Gap, Now, Scheme};
use crate::limits::GAPS_MAX;
use crate::output::NoneReason;
use crate::resolve::Query;
use crate::settings::{Settings, nanos, wall_nanos};

/// What a request is let go for before its wait is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LetGo {
    /// The wait is over.
    WaitOver,
    /// There is no room for it.
    Overflow,
    /// The engine stops.
    Shutdown,
}

/// When a request arrived, and how long it had taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Now,
    pub(crate) duration_ns: u64,
}

/// Memory of what explains a missing connection.
#[derive(Debug)]
pub(crate) struct Reasons {
    started: Now,
    warmup_ns: u64,
    late_retention_ns: i64,
    tolerance_ns: i64,
    gap_memory_ns: i64,
    gaps: VecDeque<Gap>,
    evicted_max: usize,
    /// Serial number and opening time of the newest eviction on an endpoint.
    evicted: HashMap<(Transport, Endpoint), (u64, i64), RandomState>,
    evicted_order: VecDeque<(u64, Transport, Endpoint)>,
    serial: u64,
}

impl Reasons {
    pub(crate) fn new(settings: &Settings, hasher: RandomState, started: Now) -> Self {
        Self {
            started,
            warmup_ns: nanos(settings.warmup),
            late_retention_ns: wall_nanos(settings.late_retention),
            tolerance_ns: wall_nanos(settings.skew_same_node.max(settings.skew_cross_node)),
            gap_memory_ns: wall_nanos(settings.gap_memory),
            gaps: VecDeque::new(),
            evicted_max: settings.evicted_keys_max,
            evicted: HashMap::with_hasher(hasher),
            evicted_order: VecDeque::new(),
            serial: 0,
        }
    }

    /// Remembers a gap; over the limit it widens the last one.
    pub(crate) fn note_gap(&mut self, gap: Gap) {
        // What ended before all that is remembered can matter no more.
        let horizon = gap.to_ns.saturating_sub(self.gap_memory_ns.saturating_mul(2));
        while self.gaps.front().is_some_and(|old| old.to_ns < horizon) {
            self.gaps.pop_front();
        }
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push_back(gap);
        } else if let Some(last) = self.gaps.back_mut() {
            last.from_ns = last.from_ns.min(gap.from_ns);
            last.to_ns = last.to_ns.max(gap.to_ns);
        }
    }

    /// Remembers where a confirmed connection was forgotten.
    pub(crate) fn note_evicted(&mut self, transport: Transport, client: Endpoint, open_ns: i64) {
        if self.evicted_max == 0 || !client.is_usable() {
            return;
        }
        while self.evicted_order.len() >= self.evicted_max {
            let Some((serial, transport, client)) = self.evicted_order.pop_front() else {
                break;
            };
            if self
                .evicted
                .get(&(transport, client))
                .is_some_and(|(newest, _)| *newest == serial)
            {
                self.evicted.remove(&(transport, client));
            }
        }
        self.serial += 1;
        self.evicted_order.push_back((self.serial, transport, client));
        self.evicted.insert((transport, client), (self.serial, open_ns));
    }

    /// The first reason that applies; what is known for sure comes before what may be.
    pub(crate) fn reason(
        &self,
        query: &Query,
        proxy: Option<Endpoint>,
        arrival: Arrival,
        let_go: LetGo,
    ) -> NoneReason {
        if !query.pair.client.is_usable() && proxy.is_none() {
            return NoneReason::KeyUnusable;
        }
        match let_go {
            LetGo::WaitOver => {}
            LetGo::Overflow => return NoneReason::Overflow,
            LetGo::Shutdown => return NoneReason::Shutdown,
        }
        if query.scheme == Scheme::Http {
            NoneReason::Plaintext
        } else if self.is_late(query, arrival) {
            NoneReason::Late
        } else if self.is_evicted(query, proxy) {
            NoneReason::Evicted
        } else if self.is_in_gap(query) {
            NoneReason::SensorGap
        } else if self.is_warmup(query, arrival) {
            NoneReason::Warmup
        } else {
            NoneReason::NoConn
        }
    }

    fn is_late(&self, query: &Query, arrival: Arrival) -> bool {
        let duration = i64::try_from(arrival.duration_ns).unwrap_or(i64::MAX);
        let end = query.ts_ns.saturating_add(duration);
        arrival.at.wall_ns.saturating_sub(end) > self.late_retention_ns
    }

    fn is_evicted(&self, query: &Query, proxy: Option<Endpoint>) -> bool {
        let after = |client: Endpoint| {
            let evicted = self.evicted.get(&(query.transport, client));
            evicted.is_some_and(|(_, open)| *open <= query.ts_ns.saturating_add(self.tolerance_ns))
        };
        after(query.pair.client) || proxy.is_some_and(after)
    }

    fn is_in_gap(&self, query: &Query) -> bool {
        self.gaps.iter().any(|gap| {
            gap.from_ns <= query.ts_ns.saturating_add(self.tolerance_ns)
                && query.ts_ns <= gap.to_ns.saturating_add(self.gap_memory_ns)
        })
    }

    /// The first request of a connection, started after this process, is no reason to look further back.
    fn is_warmup(&self, query: &Query, arrival: Arrival) -> bool {
        let young = arrival.at.mono_ns.saturating_sub(self.started.mono_ns) < self.warmup_ns;
        let began_here = query.req_index == Some(0)
            && query.ts_ns > self.started.wall_ns.saturating_add(self.tolerance_ns);
        young && !began_here
    }
}
