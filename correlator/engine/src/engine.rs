//! The engine: takes events in, keeps the waits, hands outputs out.
//!
//! Every `handle_*` first does what was due before `now`, in order of the deadlines, so that the
//! result does not depend on how often the caller looks at the clock.

use std::collections::VecDeque;

use ahash::RandomState;

use crate::address::Pair;
use crate::connections::{Connections, NewConn};
use crate::corrections::Orphans;
use crate::counters::{Counters, Memory};
use crate::early::EarlyEvents;
use crate::input::{
    Confirmed, ConnUid, ConnectionEvent, ConnectionInput, Gap, Hello, Now, Opened, RequestEnd, RequestInput,
};
use crate::limits::{CONNECTIONS_MAX, HELLOS_MAX, NODE_PRESENT_NS, VIEWS_MAX};
use crate::none_reason::{Arrival, LetGo, Reasons};
use crate::output::{
    ConnRef, Contradictions, Correction, DropReason, Joined, KeySource, Match, Output, TlsRow,
};
use crate::pending::{Decision, Pending, PendingRequests, RequestId, Wait};
use crate::resolve::{Found, Query, Rules};
use crate::rows::{Row, RowWait, Rows};
use crate::settings::{Seed, Settings, nanos, wall_nanos};
use crate::slab::NIL;
use crate::streams::Streams;

/// Nothing is due.
const IDLE: u64 = u64::MAX;

/// Waits in nanoseconds, as they are compared.
#[derive(Clone, Copy, Debug)]
struct Waits {
    orphan: u64,
    end: u64,
    confirm: u64,
    merge: u64,
    merge_wall: i64,
    correction: u64,
}

/// The nodes that were heard last, to know whether a hello may come again from another one.
#[derive(Clone, Copy, Debug, Default)]
struct Nodes {
    last: Option<(u32, u64)>,
    before: Option<(u32, u64)>,
}

impl Nodes {
    fn hear(&mut self, node: u32, now_mono: u64) {
        match self.last {
            Some((last, _)) if last != node => self.before = self.last,
            _ => {}
        }
        self.last = Some((node, now_mono));
    }

    /// True if more than one node was heard lately.
    fn several(&self, now_mono: u64) -> bool {
        self.before
            .is_some_and(|(_, heard)| now_mono.saturating_sub(heard) <= NODE_PRESENT_NS)
    }
}

/// What comes due, in the order in which equal deadlines are done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    Expiry,
    Early,
    Row(RowOrder),
    Decision,
    End(EndOrder),
}

/// [`RowWait`] with an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum RowOrder {
    Confirm,
    Merge,
}

/// The lists of requests that wait for their end, with an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum EndOrder {
    AtArrival,
    AfterDecision,
}

/// Joins requests with connections. `C` is the payload of a connection and is cloned into each of its
/// requests' rows; `R` is the payload of a request and of its end.
///
/// One thread. The caller hands in events with the time, drains [`Engine::poll_event`], and calls
/// [`Engine::handle_timeout`] at [`Engine::next_deadline`].
///
/// ```
/// use correlator_engine::{Engine, Now, Seed, Settings};
///
/// let mut engine = Engine::<String, Vec<u8>>::new(Settings::default(), Seed([1, 2, 3, 4]), Now::default());
/// engine.handle_timeout(Now { mono_ns: 1, wall_ns: 1 });
/// assert!(engine.poll_event().is_none());
/// assert!(engine.counters().requests.balanced());
/// ```
#[derive(Debug)]
pub struct Engine<C, R> {
    rules: Rules,
    waits: Waits,
    connection_bytes_max: usize,
    pending_bytes_max: usize,
    corrections: bool,
    now_mono: u64,
    /// Nothing is due before; may be too early, never too late.
    quiet_until: u64,
    arrivals: u64,
    nodes: Nodes,
    conns: Connections<C>,
    early: EarlyEvents,
    rows: Rows<C>,
    streams: Streams,
    pending: PendingRequests<C, R>,
    reasons: Reasons,
    orphans: Orphans,
    outputs: VecDeque<Output<C, R>>,
    counters: Counters,
}

impl<C: Clone, R> Engine<C, R> {
    /// An engine that knows nothing yet. `now` is the start for the reason `warmup`.
    pub fn new(settings: Settings, seed: Seed, now: Now) -> Self {
        let Seed([k0, k1, k2, k3]) = seed;
        let hasher = RandomState::with_seeds(k0, k1, k2, k3);
        Self {
            rules: Rules::new(&settings),
            waits: Waits {
                orphan: nanos(settings.orphan_wait),
                end: nanos(settings.end_wait),
                confirm: nanos(settings.confirm_wait),
                merge: nanos(settings.merge_wait),
                merge_wall: wall_nanos(settings.merge_wait),
                correction: nanos(settings.correction_window),
            },
            connection_bytes_max: settings.connection_bytes_max,
            pending_bytes_max: settings.pending_bytes_max,
            corrections: settings.corrections,
            now_mono: now.mono_ns,
            quiet_until: IDLE,
            arrivals: 0,
            nodes: Nodes::default(),
            conns: Connections::new(hasher.clone(), nanos(settings.late_retention)),
            early: EarlyEvents::new(hasher.clone()),
            rows: Rows::new(),
            streams: Streams::new(hasher.clone(), settings.streams_max),
            pending: PendingRequests::new(hasher.clone()),
            reasons: Reasons::new(&settings, hasher.clone(), now),
            orphans: Orphans::new(hasher, settings.corrections_max),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// The next output. Drain it after each `handle_*`.
    pub fn poll_event(&mut self) -> Option<Output<C, R>> {
        self.outputs.pop_front()
    }

    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is held now.
    pub fn memory(&self) -> Memory {
        Memory {
            connections: self.conns.len(),
            connection_bytes: self.conns.bytes(),
            pending_requests: self.pending.len(),
            pending_bytes: self.pending.bytes(),
            pending_rows: self.rows.len(),
            orphans: self.orphans.len(),
        }
    }

    // ---- connections

    /// Takes an event of a sensor.
    pub fn handle_connection(&mut self, now: Now, input: ConnectionInput<C>) {
        self.advance(now);
        self.counters.connections.receive();
        self.nodes.hear(input.node, self.now_mono);
        match input.event {
            ConnectionEvent::Open(opened) => self.open(input.conn_uid, input.node, opened),
            ConnectionEvent::ClientHello(hello) => self.hello(input.conn_uid, input.node, hello),
            ConnectionEvent::Confirm { confirmed } => self.confirm(input.conn_uid, confirmed),
            // The sensor stopped watching; the connection may live on.
            ConnectionEvent::Close { reason, .. } if !reason.is_end() => self.counters.connections.pass(1),
            ConnectionEvent::Close { ts_ns, .. } => self.close(input.conn_uid, ts_ns),
        }
        self.make_room();
    }

    /// Forgets connections and lets requests go until the caps are kept.
    fn make_room(&mut self) {
        while self.pending.bytes() > self.pending_bytes_max {
            let Some(oldest) = self.pending.oldest() else {
                break;
            };
            self.counters.overflowed_requests += 1;
            self.release(oldest, LetGo::Overflow);
        }
        while self.conns.bytes() > self.connection_bytes_max || self.conns.len() >= CONNECTIONS_MAX {
            let Some(victim) = self.conns.victim(self.connection_bytes_max) else {
                break;
            };
            self.evict(victim);
        }
    }

    fn open(&mut self, uid: ConnUid, node: u32, opened: Opened<C>) {
        let Opened {
            transport,
            pair,
            views,
            ts_ns,
            confirmed,
            weight,
            payload,
        } = opened;
        if let Some(idx) = self.conns.find_uid(uid) {
            self.drop_connection(payload, DropReason::DuplicateOpen);
            self.conns.get_mut(idx).open_ns = self.conns.get(idx).open_ns.min(ts_ns);
            self.enrich(idx, uid, &views, confirmed);
            return;
        }
        self.counters.connections.pass(1);
        let new = NewConn {
            uid,
            node,
            transport,
            pair,
            open_ns: ts_ns,
            begin_ns: ts_ns,
            confirmed,
            weight,
            payload,
        };
        let idx = self.conns.insert(new, self.now_mono);
        self.enrich(idx, uid, &views, confirmed);
    }

    fn hello(&mut self, uid: ConnUid, node: u32, hello: Hello<C>) {
        if hello.hello_index >= HELLOS_MAX {
            self.drop_connection(hello.payload, DropReason::TooManyHellos);
            return;
        }
        let open_ns = hello.open_ts_ns.unwrap_or(hello.ts_ns).min(hello.ts_ns);
        let known = self.conns.find_uid(uid).or_else(|| {
            let first = self.same_hello_elsewhere(node, &hello)?;
            self.merge(first, uid, &hello);
            Some(first)
        });
        let idx = known.unwrap_or_else(|| {
            let new = NewConn {
                uid,
                node,
                transport: hello.transport,
                pair: hello.pair,
                open_ns,
                begin_ns: hello.ts_ns,
                confirmed: hello.confirmed,
                weight: hello.weight,
                payload: hello.payload.clone(),
            };
            self.conns.insert(new, self.now_mono)
        });
        let conn = self.conns.get_mut(idx);
        conn.open_ns = conn.open_ns.min(open_ns);
        let (views, confirmed) = (hello.views.clone(), hello.confirmed);
        self.note_view(idx, hello.pair);
        if let Some(random) = hello.client_random {
            self.conns.set_random(idx, random);
        }
        if self.conns.get_mut(idx).note_hello(hello.hello_index) {
            self.repeated_hello(idx, uid, hello);
        } else {
            self.first_hello(idx, hello);
        }
        self.enrich(idx, uid, &views, confirmed);
    }

    /// The same hello that a sensor of another node reported a moment ago.
    fn same_hello_elsewhere(&self, node: u32, hello: &Hello<C>) -> Option<u32> {
        let idx = self.conns.find_random(hello.client_random.as_ref()?)?;
        let conn = self.conns.get(idx);
        let is_same = conn.node != node
            && conn.transport == hello.transport
            && conn.random_is_unique()
            && conn.begin_ns.saturating_sub(hello.ts_ns).saturating_abs() <= self.waits.merge_wall
            && self.conns.n_aliases(idx) < VIEWS_MAX;
        is_same.then_some(idx)
    }

    /// Makes a connection known under another node's id and pair. The outermost view is the one that
    /// the other's sensor does not know from outside; failing that, the earlier one.
    fn merge(&mut self, idx: u32, uid: ConnUid, hello: &Hello<C>) {
        let conn = self.conns.get(idx);
        let outer = conn.pair();
        let known_inside = conn.pairs().skip(1).any(|pair| pair == hello.pair);
        let known_outside = hello.views.contains(&outer);
        let earlier = hello.ts_ns < conn.begin_ns;
        self.conns.add_alias(idx, uid);
        self.note_view(idx, hello.pair);
        if !known_inside && (known_outside || earlier) {
            self.conns.make_outermost(idx, hello.pair);
        }
    }

    fn note_view(&mut self, idx: u32, pair: Pair) {
        if self.conns.add_view(idx, pair).is_err() {
            self.counters.views_refused += 1;
        }
    }

    fn repeated_hello(&mut self, idx: u32, uid: ConnUid, hello: Hello<C>) {
        let conn = self.conns.get(idx);
        let reason = if conn.uid == uid {
            DropReason::DuplicateHello
        } else {
            DropReason::MergedHello
        };
        let mut at = conn.rows;
        while at != NIL {
            let row = self.rows.get_mut(at);
            if row.hello_index == hello.hello_index {
                row.repeats += 1;
            }
            at = row.next;
        }
        self.drop_connection(hello.payload, reason);
    }

    fn first_hello(&mut self, idx: u32, hello: Hello<C>) {
        if self.conns.get(idx).is_earlier_hello(hello.hello_index) {
            let payload = hello.payload.clone();
            self.conns.set_hello(
                idx,
                hello.hello_index,
                hello.ts_ns,
                hello.facts,
                payload,
                hello.weight,
            );
        }
        let (wait, after) = if self.nodes.several(self.now_mono) {
            (RowWait::Merge, self.waits.merge)
        } else {
            (RowWait::Confirm, self.waits.confirm)
        };
        let due_mono = self.now_mono.saturating_add(after);
        let next = self.conns.get(idx).rows;
        let bytes = Rows::<C>::BASE_BYTES + hello.weight as usize;
        self.conns.charge(idx, bytes);
        let row = Row {
            payload: hello.payload,
            conn: idx,
            hello_index: hello.hello_index,
            repeats: 0,
            bytes,
            wait,
            due_mono,
            next,
        };
        self.conns.get_mut(idx).rows = self.rows.insert(row);
        self.wake_at(due_mono);
    }

    /// Applies what every opening and hello may bring, and what came before it.
    fn enrich(&mut self, idx: u32, uid: ConnUid, views: &[Pair], confirmed: Confirmed) {
        for view in views {
            self.note_view(idx, *view);
        }
        let early = self.early.take(uid).unwrap_or_default();
        self.counters.connections.pass(early.n_events);
        if let Some(close_ns) = early.close_ns {
            self.conns.close(idx, close_ns, self.now_mono);
            self.wake_for_expiry();
        }
        self.raise(idx, confirmed.max(early.confirmed));
        self.settle(idx);
    }

    /// Raises the confirmation; true if it rose from nothing.
    fn raise(&mut self, idx: u32, level: Confirmed) -> bool {
        let rose = self.conns.confirm(idx, level, self.now_mono);
        if self.conns.get(idx).confirmed == Confirmed::Followed {
            self.emit_rows(idx, Some(RowWait::Confirm));
        }
        rose
    }

    /// Does what follows when a connection is new, is newly confirmed or has new addresses. It may be gone
    /// afterwards.
    fn settle(&mut self, idx: u32) {
        self.conns.retire_replaced(idx, self.now_mono);
        self.wake_for_expiry();
        if self.corrections && self.conns.get(idx).is_confirmed() {
            self.correct(idx);
        }
        let handle = self.conns.handle(idx);
        while self.conns.live(handle).is_some()
            && let Some(victim) = self.conns.surplus(idx)
        {
            self.evict(victim);
        }
    }

    fn confirm(&mut self, uid: ConnUid, level: Confirmed) {
        if let Some(idx) = self.conns.find_uid(uid) {
            self.counters.connections.pass(1);
            if self.raise(idx, level) {
                self.settle(idx);
            }
        } else {
            self.note_early(uid, |early| early.confirmed = early.confirmed.max(level));
        }
    }

    fn close(&mut self, uid: ConnUid, ts_ns: i64) {
        if let Some(idx) = self.conns.find_uid(uid) {
            self.counters.connections.pass(1);
            self.conns.close(idx, ts_ns, self.now_mono);
            self.wake_for_expiry();
        } else {
            self.note_early(uid, |early| {
                early.close_ns = Some(early.close_ns.map_or(ts_ns, |old| old.max(ts_ns)));
            });
        }
    }

    fn note_early(&mut self, uid: ConnUid, change: impl FnOnce(&mut crate::early::Early)) {
        let due_mono = self.now_mono.saturating_add(self.waits.merge);
        let gone = self.early.note(uid, due_mono, change);
        self.counters.connections.drop(DropReason::UnknownConn, gone);
        self.wake_at(due_mono);
    }

    fn drop_connection(&mut self, payload: C, reason: DropReason) {
        self.counters.connections.drop(reason, 1);
        self.outputs
            .push_back(Output::DroppedConnection { payload, reason });
    }

    /// Emits the rows of a connection, all or those that wait for one thing, in order of arrival.
    fn emit_rows(&mut self, idx: u32, only: Option<RowWait>) {
        let mut found = [NIL; HELLOS_MAX as usize];
        let mut n_found = 0;
        let mut at = self.conns.get(idx).rows;
        while at != NIL {
            let row = self.rows.get(at);
            if only.is_none_or(|wait| row.wait == wait) {
                found[n_found] = at;
                n_found += 1;
            }
            at = row.next;
        }
        for &row in found[..n_found].iter().rev() {
            self.emit_row(row);
        }
    }

    fn emit_row(&mut self, row_idx: u32) {
        let Some(row) = self.rows.remove(row_idx) else {
            return;
        };
        self.conns.refund(row.conn, row.bytes);
        let conn = self.conns.get_mut(row.conn);
        if conn.rows == row_idx {
            conn.rows = row.next;
        } else {
            let mut at = conn.rows;
            while at != NIL {
                let next = self.rows.get(at).next;
                if next == row_idx {
                    self.rows.get_mut(at).next = row.next;
                    break;
                }
                at = next;
            }
        }
        let conn = self.conns.get(row.conn);
        let mut pairs = conn.pairs();
        let pair = pairs.next().unwrap_or_default();
        let views = pairs.collect();
        let tls = TlsRow {
            payload: row.payload,
            conn_uid: conn.uid,
            confirmed: conn.confirmed,
            pair,
            views,
            repeats: row.repeats,
        };
        self.counters.connections.pass(1);
        self.counters.tls_rows += 1;
        self.outputs.push_back(Output::Tls(tls));
    }

    /// Forgets a connection for lack of room. Its rows go out first.
    fn evict(&mut self, idx: u32) {
        let conn = self.conns.get(idx);
        if conn.is_confirmed() {
            self.counters.evicted_connections += 1;
            for pair in conn.pairs() {
                self.reasons
                    .note_evicted(conn.transport, pair.client, conn.open_ns);
            }
        } else {
            self.counters.evicted_unconfirmed += 1;
        }
        self.forget(idx);
    }

    fn forget(&mut self, idx: u32) {
        self.emit_rows(idx, None);
        self.conns.remove(idx);
    }

    // ---- requests

    /// Takes a request.
    pub fn handle_request(&mut self, now: Now, input: RequestInput<R>) {
        self.advance(now);
        self.counters.requests.receive();
        let Some(stream) = self.streams.accept(input.source, input.boot, input.seq) else {
            self.counters.requests.drop(DropReason::DuplicateRequest, 1);
            let (payload, reason) = (input.payload, DropReason::DuplicateRequest);
            self.outputs.push_back(Output::DroppedRequest { payload, reason });
            return;
        };
        let query = Query::new(&input, stream);
        let at = Now {
            mono_ns: self.now_mono,
            wall_ns: now.wall_ns,
        };
        self.arrivals += 1;
        let mut pending = Pending {
            query,
            id: RequestId {
                source: input.source,
                boot: input.boot,
                seq: input.seq,
            },
            arrival: Arrival {
                at,
                duration_ns: input.duration_ns,
            },
            order: self.arrivals,
            waits_for_end: input.end_follows && self.waits.end > 0,
            decision: None,
            bytes: PendingRequests::<C, R>::BASE_BYTES + input.weight as usize,
            request: input.payload,
            end: None,
        };
        if let Some(found) = self.rules.prove(&self.conns, &query) {
            pending.decision = Some(self.join(&query, found));
        } else if self.cannot_be_found(&query) || self.waits.orphan == 0 {
            pending.decision = Some(self.decide(&query, pending.id, pending.arrival, LetGo::WaitOver));
        }
        if pending.decision.is_some() && !pending.waits_for_end {
            self.emit_joined(pending);
        } else {
            let wait = if pending.decision.is_some() {
                self.waits.end
            } else {
                self.waits.orphan
            };
            self.wake_at(self.now_mono.saturating_add(wait));
            self.pending.insert(pending);
        }
        self.make_room();
    }

    /// No later event can give it a connection.
    fn cannot_be_found(&self, query: &Query) -> bool {
        !query.pair.client.is_usable()
            && self.rules.proxy(query).is_none()
            && query.conn_id.is_none()
            && query.client_random.is_none()
    }

    /// Takes the end of a request.
    pub fn handle_request_end(&mut self, now: Now, end: RequestEnd<R>) {
        self.advance(now);
        self.counters.ends.receive();
        let stream = self.streams.find(end.source, end.boot);
        let waiting = stream.and_then(|stream| self.pending.find(stream, end.request_seq));
        let reason = match waiting {
            None => DropReason::NoRequest,
            Some(idx) if self.pending.get(idx).end.is_some() => DropReason::DuplicateEnd,
            Some(idx) => {
                self.pending.set_end(idx, end.payload, end.weight as usize);
                if self.pending.get(idx).decision.is_some() {
                    self.emit_pending(idx);
                }
                self.make_room();
                return;
            }
        };
        self.counters.ends.drop(reason, 1);
        self.outputs.push_back(Output::DroppedRequest {
            payload: end.payload,
            reason,
        });
    }

    /// Emits a request now, decided or not, with or without its end.
    fn release(&mut self, idx: u32, let_go: LetGo) {
        let Some(mut pending) = self.pending.remove(idx) else {
            return;
        };
        if pending.decision.is_none() {
            pending.decision = Some(self.decide(&pending.query, pending.id, pending.arrival, let_go));
        }
        self.emit_joined(pending);
    }

    fn emit_pending(&mut self, idx: u32) {
        if let Some(pending) = self.pending.remove(idx) {
            self.emit_joined(pending);
        }
    }

    fn decide(&mut self, query: &Query, id: RequestId, arrival: Arrival, let_go: LetGo) -> Decision<C> {
        if let Some(found) = self.rules.decide(&self.conns, query) {
            return self.join(query, found);
        }
        let proxy = self.rules.proxy(query);
        let reason = self.reasons.reason(query, proxy, arrival, let_go);
        if self.corrections && let_go != LetGo::Shutdown {
            let until = self.now_mono.saturating_add(self.waits.correction);
            self.orphans.expire(self.now_mono);
            self.orphans.add(*query, id, proxy, until);
        }
        Decision {
            verdict: Match::None(reason),
            key_source: KeySource::None,
            delta_us: None,
            conn_req_index: 0,
            contradictions: Contradictions::NONE,
            conn: None,
        }
    }

    /// Records on the connection that a request was joined to it.
    fn join(&mut self, query: &Query, found: Found) -> Decision<C> {
        self.conns.touch(found.conn, self.now_mono);
        self.wake_for_expiry();
        self.bind(query, found);
        let conn = self.conns.get_mut(found.conn);
        let conn_req_index = conn.n_requests;
        conn.n_requests = conn_req_index.saturating_add(1);
        Decision {
            verdict: found.verdict,
            key_source: found.key_source,
            delta_us: Some(query.ts_ns.saturating_sub(conn.begin_ns) / 1_000),
            conn_req_index,
            contradictions: found.contradictions,
            conn: Some((self.conns.handle(found.conn), self.conn_ref(found.conn))),
        }
    }

    fn bind(&mut self, query: &Query, found: Found) {
        let Some(conn_id) = query.conn_id.filter(|_| found.binds) else {
            return;
        };
        let conn = self.conns.get(found.conn);
        if !conn.is_confirmed() || conn.bound_to(query.stream).is_some() {
            return;
        }
        if self
            .conns
            .bind(found.conn, query.stream, conn_id, query.pair.client)
            .is_err()
        {
            self.counters.bindings_refused += 1;
        }
    }

    fn conn_ref(&self, idx: u32) -> ConnRef<C> {
        let conn = self.conns.get(idx);
        ConnRef {
            conn_uid: conn.uid,
            payload: conn.payload.clone(),
            has_hello: conn.has_hello(),
            confirmed: conn.confirmed,
            pair: conn.pair(),
        }
    }

    fn emit_joined(&mut self, pending: Pending<C, R>) {
        let Some(decision) = pending.decision else { return };
        let conn = decision.conn.map(|(handle, mut conn)| {
            if let Some(idx) = self.conns.live(handle) {
                let known = self.conns.get(idx);
                conn.confirmed = known.confirmed;
                // Another node may have told of a view further out since.
                conn.pair = known.pair();
            }
            conn
        });
        self.counters.requests.pass(1);
        self.counters.joined.count(decision.verdict);
        if pending.end.is_some() {
            self.counters.ends.pass(1);
        } else if pending.waits_for_end {
            self.counters.ends_missed += 1;
        }
        self.outputs.push_back(Output::Joined(Joined {
            request: pending.request,
            end: pending.end,
            verdict: decision.verdict,
            key_source: decision.key_source,
            delta_us: decision.delta_us,
            conn_req_index: decision.conn_req_index,
            conn,
            contradictions: decision.contradictions,
        }));
    }

    /// Looks whether requests that went out without a connection belong to this confirmed one.
    fn correct(&mut self, idx: u32) {
        self.orphans.expire(self.now_mono);
        if self.orphans.len() == 0 {
            return;
        }
        let conn = self.conns.get(idx);
        let transport = conn.transport;
        let clients: Vec<_> = conn.pairs().map(|pair| pair.client).collect();
        for client in clients {
            for (handle, orphan) in self.orphans.on_endpoint(transport, client) {
                let found = self.rules.decide(&self.conns, &orphan.query);
                let Some(found) = found.filter(|found| self.conns.get(found.conn).is_confirmed()) else {
                    continue;
                };
                self.orphans.remove(handle);
                let decision = self.join(&orphan.query, found);
                let Some((_, conn)) = decision.conn else { continue };
                self.counters.corrections += 1;
                self.outputs.push_back(Output::Correction(Correction {
                    source: orphan.id.source,
                    boot: orphan.id.boot,
                    seq: orphan.id.seq,
                    ts_ns: orphan.query.ts_ns,
                    verdict: decision.verdict,
                    key_source: decision.key_source,
                    delta_us: decision.delta_us,
                    conn,
                }));
            }
        }
    }

    // ---- time

    /// Remembers that a sensor lost events, for the reason `sensor_gap`.
    pub fn handle_gap(&mut self, now: Now, gap: Gap) {
        self.advance(now);
        self.reasons.note_gap(gap);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
    }

    /// Nothing is due before this time on the monotonic clock. Cheaper than [`Engine::next_deadline`] and at times
    /// earlier, for callers who ask with each event.
    pub fn quiet_until(&self) -> u64 {
        self.quiet_until
    }

    /// When [`Engine::handle_timeout`] has something to do, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<u64> {
        self.earliest().map(|(due, _)| due)
    }

    /// Decides and emits all that waits. Connections stay; the engine can go on.
    pub fn handle_shutdown(&mut self, now: Now) {
        self.advance(now);
        while let Some(idx) = self.pending.oldest() {
            self.release(idx, LetGo::Shutdown);
        }
        for wait in [RowWait::Confirm, RowWait::Merge] {
            while let Some(row) = self.rows.first(wait) {
                self.emit_row(row);
            }
        }
        while self.early.next_due().is_some() {
            let gone = self.early.pop();
            self.counters.connections.drop(DropReason::UnknownConn, gone);
        }
    }

    fn wake_at(&mut self, due_mono: u64) {
        self.quiet_until = self.quiet_until.min(due_mono);
    }

    fn wake_for_expiry(&mut self) {
        if let Some(due) = self.conns.next_expiry() {
            self.wake_at(due);
        }
    }

    fn advance(&mut self, now: Now) {
        let target = now.mono_ns.max(self.now_mono);
        if target >= self.quiet_until {
            self.quiet_until = loop {
                match self.earliest() {
                    Some((due_mono, due)) if due_mono <= target => {
                        self.now_mono = self.now_mono.max(due_mono);
                        self.fire(due);
                        self.make_room();
                    }
                    next => break next.map_or(IDLE, |(due_mono, _)| due_mono),
                }
            };
        }
        self.now_mono = target;
    }

    /// The first deadline and what it is for.
    fn earliest(&self) -> Option<(u64, Due)> {
        let row = |wait, order| Some((self.rows.get(self.rows.first(wait)?).due_mono, Due::Row(order)));
        let request = |wait, after: u64, due| {
            let pending = self.pending.get(self.pending.first(wait)?);
            Some((pending.arrival.at.mono_ns.saturating_add(after), due))
        };
        let all = [
            self.conns.next_expiry().map(|due| (due, Due::Expiry)),
            self.early.next_due().map(|due| (due, Due::Early)),
            row(RowWait::Confirm, RowOrder::Confirm),
            row(RowWait::Merge, RowOrder::Merge),
            request(Wait::Decision, self.waits.orphan, Due::Decision),
            request(Wait::End, self.waits.end, Due::End(EndOrder::AtArrival)),
            request(
                Wait::EndAfterDecision,
                self.waits.end,
                Due::End(EndOrder::AfterDecision),
            ),
        ];
        let mut earliest: Option<(u64, Due)> = None;
        for due in all {
            earliest = match (earliest, due) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        earliest
    }

    fn fire(&mut self, due: Due) {
        match due {
            Due::Expiry => {
                if let Some(idx) = self.conns.expired(self.now_mono) {
                    self.counters.expired_connections += 1;
                    self.forget(idx);
                }
            }
            Due::Early => {
                let gone = self.early.pop();
                self.counters.connections.drop(DropReason::UnknownConn, gone);
            }
            Due::Row(order) => {
                let wait = if order == RowOrder::Confirm {
                    RowWait::Confirm
                } else {
                    RowWait::Merge
                };
                if let Some(row) = self.rows.first(wait) {
                    self.emit_row(row);
                }
            }
            Due::Decision => self.fire_decision(),
            Due::End(order) => {
                let wait = if order == EndOrder::AtArrival {
                    Wait::End
                } else {
                    Wait::EndAfterDecision
                };
                if let Some(idx) = self.pending.first(wait) {
                    self.emit_pending(idx);
                }
            }
        }
    }

    /// The wait of the oldest undecided request is over.
    fn fire_decision(&mut self) {
        let Some(idx) = self.pending.first(Wait::Decision) else {
            return;
        };
        let pending = self.pending.get(idx);
        let still_waits = pending.waits_for_end
            && pending.end.is_none()
            && pending.arrival.at.mono_ns.saturating_add(self.waits.end) > self.now_mono;
        if !still_waits {
            self.release(idx, LetGo::WaitOver);
            return;
        }
        let (query, id, arrival) = (pending.query, pending.id, pending.arrival);
        let decision = self.decide(&query, id, arrival, LetGo::WaitOver);
        self.pending.set_decision(idx, decision);
    }
}
