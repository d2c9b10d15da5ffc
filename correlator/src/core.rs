//! The engine with everything around it that is not I/O: events in, rows out, settlement kept.
//!
//! ```text
//! bytes ─ decode ─ stamp ─ redact ─▶ engine ─▶ rows (store, file, stdout)
//!                     └─ settlement: which events are safe ◀─┘
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;

use correlator_engine::{
    ConnUid, ConnectionEvent, ConnectionInput, Counters, Engine, Gap, Memory, Now, Output, RequestEnd, Seed,
    Settings,
};
use ja4_model::event::EventKind;
use ja4_model::{
    CanonicalAddr, ConnFacts, Correction, Event, EventId, Head, JoinedRequest, Pair, Status, Text, TlsRecord,
    WallNs, decode,
};

use crate::clients::{ClientCount, Clients};
use crate::convert::{self, Stamp};
use crate::derive::Deriver;
use crate::intern::{Facts, Names};
use crate::payload::{Conn, ConnKind, ConnPayload, HttpPayload, Origin, RequestCell};
use crate::redact::Redactor;
use crate::settlement::{Arrival, Mark, Producer, ProducerKey, Settlement};
use crate::totals::Totals;

/// Where rows go. Each call is one row of one table.
pub(crate) trait Rows {
    /// A request with its connection.
    fn request(&mut self, row: &JoinedRequest<'_>);
    /// A hello.
    fn hello(&mut self, row: &TlsRecord<'_>);
    /// A late connection of a request that went out without.
    fn correction(&mut self, row: &Correction<'_>);
    /// What a producer says of itself, beside what was received from it.
    fn status(&mut self, head: &Head<'_>, status: &Status<'_>, producer: &Producer);
    /// The rows of this event, if it has any, are among those given.
    fn settle(&mut self, origin: Origin);
}

/// A producer process as the core knows it.
#[derive(Clone, Debug)]
pub(crate) struct KnownProducer {
    slot: u32,
    key: ProducerKey,
    source_number: u32,
    node_number: u32,
}

impl KnownProducer {
    /// Its number in the settlement.
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    /// Puts its names into a head, whatever the event itself says.
    pub(crate) fn stamp(&self, head: &mut Head<'_>) {
        head.source = self.key.source.clone();
        head.node = self.key.node.clone();
        head.boot = self.key.boot;
    }

    /// Its host.
    pub(crate) fn node(&self) -> Cow<'_, str> {
        self.key.node.to_str_lossy()
    }

    /// True if it greets as this.
    pub(crate) fn is(&self, source: &[u8], node: &[u8], boot: ja4_model::BootId) -> bool {
        self.key.boot == boot && self.key.source.as_bytes() == source && self.key.node.as_bytes() == node
    }
}

/// An event as the receiver hands it over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) json: &'a [u8],
    pub(crate) kind: EventKind,
    pub(crate) seq: u64,
    pub(crate) id_kind: ja4_model::event::IdKind,
    pub(crate) recv_ns: WallNs,
}

/// The engine and its surroundings.
#[derive(Debug)]
pub(crate) struct Core {
    engine: Engine<Conn, HttpPayload>,
    settlement: Settlement,
    names: Names,
    facts: Facts,
    deriver: Deriver,
    redactor: Redactor,
    clients: Clients,
    hasher: ahash::RandomState,
    /// What a crash before this process left, and what this one has given out since.
    pub(crate) totals: Totals,
    /// The totals that a process before left.
    before: Totals,
    /// Events of this process by source, for the ledger.
    arrivals: BTreeMap<String, Arrivals>,
    /// Events that were told again.
    announced: u64,
}

/// Events of one source in this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrivals {
    /// For the first time.
    pub(crate) new: u64,
    /// Again.
    pub(crate) duplicates: u64,
    /// With a number absurdly far ahead: refused.
    pub(crate) too_far: u64,
    /// Statuses that could not be read.
    pub(crate) bad_statuses: u64,
}

impl Core {
    /// A core with what `marks` and `totals` say of the time before.
    pub(crate) fn new(
        settings: Settings,
        seed: [u64; 4],
        now: Now,
        redactor: Redactor,
        before: (Vec<Mark>, Totals),
    ) -> Self {
        let mut settlement = Settlement::default();
        settlement.restore(&before.0);
        let hasher = ahash::RandomState::with_seeds(seed[0], seed[1], seed[2], seed[3]);
        Self {
            engine: Engine::new(settings, Seed(seed), now),
            settlement,
            names: Names::default(),
            facts: Facts::default(),
            deriver: Deriver::default(),
            redactor,
            clients: Clients::new(hasher.clone()),
            hasher,
            totals: before.1.clone(),
            before: before.1,
            arrivals: BTreeMap::new(),
            announced: 0,
        }
    }

    /// The producer process that greets as this. It is remembered until [`Core::closed`] was called as often.
    pub(crate) fn opened(&mut self, source: &[u8], node: &[u8], boot: ja4_model::BootId) -> KnownProducer {
        let source_number = self.names.number(source);
        let node_number = self.names.number(node);
        let key = ProducerKey {
            source: self.names.text(source_number),
            node: self.names.text(node_number),
            boot,
        };
        let pair_name = [source, b"\0", node].concat();
        KnownProducer {
            slot: self.settlement.connected(key.clone()),
            key,
            source_number: self.names.number(&pair_name),
            node_number,
        }
    }

    /// Notes the end of a connection; true if it was the last one of its producer process.
    pub(crate) fn closed(&mut self, producer: &KnownProducer) -> bool {
        self.settlement.disconnected(producer.slot)
    }

    /// Takes an event in. Whatever is wrong with it is counted by reason, never an error.
    pub(crate) fn handle(
        &mut self,
        now: Now,
        producer: &KnownProducer,
        event: Incoming<'_>,
        rows: &mut impl Rows,
    ) {
        self.handle_read(now, producer, event, None, rows);
    }

    fn stamp(producer: &KnownProducer, event: &Incoming<'_>) -> Stamp {
        Stamp {
            source: producer.key.source.clone(),
            node: producer.key.node.clone(),
            source_number: producer.source_number,
            node_number: producer.node_number,
            boot: producer.key.boot,
            origin: Origin {
                boot: producer.slot,
                seq: event.seq,
            },
            id_kind: event.id_kind,
            recv_ns: event.recv_ns,
        }
    }

    /// The same with the request that the event is, if it was read already.
    pub(crate) fn handle_read(
        &mut self,
        now: Now,
        producer: &KnownProducer,
        event: Incoming<'_>,
        request: Option<RequestCell>,
        rows: &mut impl Rows,
    ) {
        let stamp = Self::stamp(producer, &event);
        let origin = stamp.origin;
        if event.kind == EventKind::Status {
            self.handle_status(&stamp, event.json, rows);
            return;
        }
        let arrival = self.settlement.arrive(origin, event.recv_ns);
        let arrivals = self.arrivals(&stamp);
        match arrival {
            Arrival::New { skipped } => {
                arrivals.new += 1;
                self.note_gap(now, &stamp, skipped);
            }
            Arrival::Duplicate => {
                arrivals.duplicates += 1;
                return;
            }
            Arrival::TooFar => {
                arrivals.too_far += 1;
                return;
            }
        }
        let taken = match event.kind {
            EventKind::Request => request
                .map_or_else(|| RequestCell::read(event.json), Ok)
                .map(|cell| self.handle_request(now, &stamp, cell)),
            kind => self.handle_other(now, &stamp, kind, event.json, rows),
        };
        if let Err(error) = taken {
            tracing::debug!("event {}-{} refused: {error}", stamp.boot, origin.seq);
            self.refuse(&stamp, error.reason());
            rows.settle(origin);
        }
        self.drain(event.recv_ns, rows);
    }

    /// Takes the beginning of a connection that is still open, or its confirmation, told again by a node because this
    /// process may have begun after it. It was settled before: no row comes of it and nothing is acknowledged.
    pub(crate) fn handle_announced(
        &mut self,
        now: Now,
        producer: &KnownProducer,
        event: Incoming<'_>,
        rows: &mut impl Rows,
    ) {
        let stamp = Self::stamp(producer, &event);
        let Ok((mut head, body)) = decode::event(event.json) else {
            self.refuse(&stamp, "announced_malformed");
            return;
        };
        stamp.apply(&mut head);
        let (conn_uid, event) = match body {
            Event::ClientHello(hello) => {
                let tls = self.facts.share(&hello.tls);
                let what = ConnKind::Hello(Box::new(hello.into_owned(tls)));
                self.announced_beginning(&stamp, head.into_owned(), what)
            }
            Event::Open(open) => {
                let what = ConnKind::Open(Box::new(open.conn.into_owned()));
                self.announced_beginning(&stamp, head.into_owned(), what)
            }
            Event::Confirm(confirm) => {
                let confirmed = convert::confirmed(confirm.confirmed);
                (confirm.conn_uid, ConnectionEvent::Confirm { confirmed })
            }
            _ => return,
        };
        self.announced += 1;
        let input = ConnectionInput {
            conn_uid: ConnUid(conn_uid.0),
            node: stamp.node_number,
            event,
        };
        self.engine.handle_connection(now, input);
        self.drain(stamp.recv_ns, rows);
    }

    fn announced_beginning(
        &self,
        stamp: &Stamp,
        head: Head<'static>,
        what: ConnKind,
    ) -> (ja4_model::ConnUid, ConnectionEvent<Conn>) {
        let payload = Conn::new(ConnPayload {
            origin: stamp.origin,
            announced: true,
            head,
            what,
        });
        let event = convert::connection_event(&payload, &self.hasher);
        (payload.conn().conn_uid, event)
    }

    /// Beginnings and confirmations that nodes have told again.
    pub(crate) fn announced(&self) -> u64 {
        self.announced
    }

    fn handle_request(&mut self, now: Now, stamp: &Stamp, mut cell: RequestCell) {
        let (mut clamped, mut session) = (false, 0);
        cell.with_dependent_mut(|_, parsed| {
            clamped = stamp.apply(&mut parsed.head);
            session = self.redactor.redact(&mut parsed.request);
        });
        self.totals.clamped += u64::from(clamped);
        let input = convert::request_input(stamp, cell.borrow_dependent(), &self.hasher);
        let weight = cell.weight();
        let payload = HttpPayload::Request {
            cell: Box::new(cell),
            session,
            origin: stamp.origin,
        };
        self.engine
            .handle_request(now, convert::with_payload(&input, weight, payload));
    }

    fn handle_other(
        &mut self,
        now: Now,
        stamp: &Stamp,
        kind: EventKind,
        json: &[u8],
        rows: &mut impl Rows,
    ) -> Result<(), decode::DecodeError> {
        let (mut head, event) = decode::event(json)?;
        if event.kind() != kind {
            // What a peer may send was judged by the kind that it named first.
            return Err(decode::DecodeError::Kind("another than its key says".to_owned()));
        }
        self.totals.clamped += u64::from(stamp.apply(&mut head));
        self.settlement.note_time(stamp.origin, head.ts_ns);
        let event = match event {
            Event::ClientHello(hello) => {
                let tls = self.facts.share(&hello.tls);
                let what = ConnKind::Hello(Box::new(hello.into_owned(tls)));
                let payload = Conn::new(ConnPayload {
                    origin: stamp.origin,
                    announced: false,
                    head: head.into_owned(),
                    what,
                });
                (
                    payload.conn().conn_uid,
                    convert::connection_event(&payload, &self.hasher),
                )
            }
            Event::Open(open) => {
                let what = ConnKind::Open(Box::new(open.conn.into_owned()));
                let payload = Conn::new(ConnPayload {
                    origin: stamp.origin,
                    announced: false,
                    head: head.into_owned(),
                    what,
                });
                rows.settle(stamp.origin);
                (
                    payload.conn().conn_uid,
                    convert::connection_event(&payload, &self.hasher),
                )
            }
            Event::Confirm(confirm) => {
                rows.settle(stamp.origin);
                let confirmed = convert::confirmed(confirm.confirmed);
                (confirm.conn_uid, ConnectionEvent::Confirm { confirmed })
            }
            Event::Close(close) => {
                rows.settle(stamp.origin);
                let reason = convert::close_reason(close.reason);
                (
                    close.conn_uid,
                    ConnectionEvent::Close {
                        ts_ns: head.ts_ns,
                        reason,
                    },
                )
            }
            Event::End(end) => {
                let payload = HttpPayload::End(end, stamp.origin);
                let weight = u32::try_from(size_of::<HttpPayload>()).unwrap_or(u32::MAX);
                self.engine.handle_request_end(
                    now,
                    RequestEnd {
                        source: stamp.source_number,
                        boot: stamp.boot.0,
                        request_seq: end.request_seq,
                        weight,
                        payload,
                    },
                );
                return Ok(());
            }
            Event::Request(_) | Event::Status(_) => {
                return Err(decode::DecodeError::Kind(
                    "another than its greeting said".to_owned(),
                ));
            }
        };
        let (conn_uid, event) = event;
        self.engine.handle_connection(
            now,
            ConnectionInput {
                conn_uid: ConnUid(conn_uid.0),
                node: stamp.node_number,
                event,
            },
        );
        Ok(())
    }

    fn handle_status(&mut self, stamp: &Stamp, json: &[u8], rows: &mut impl Rows) {
        match decode::event(json) {
            Ok((mut head, Event::Status(status))) => {
                stamp.apply(&mut head);
                head.seq = status.next_seq;
                if let Some(producer) = self.settlement.note_status(stamp.origin.boot, &status) {
                    rows.status(&head, &status, producer);
                }
            }
            Ok(_) | Err(_) => self.arrivals(stamp).bad_statuses += 1,
        }
    }

    /// A gap of a sensor may hide the connection of a request: the engine then says so.
    fn note_gap(&mut self, now: Now, stamp: &Stamp, skipped: u64) {
        let from_ns = self
            .settlement
            .get(stamp.origin.boot)
            .map_or(i64::MIN, |producer| producer.last_ts_ns);
        if skipped > 0 && from_ns != i64::MIN {
            self.engine.handle_gap(
                now,
                Gap {
                    from_ns,
                    to_ns: stamp.recv_ns,
                },
            );
        }
    }

    fn arrivals(&mut self, stamp: &Stamp) -> &mut Arrivals {
        let source = stamp.source.to_str_lossy();
        if !self.arrivals.contains_key(&*source) {
            self.arrivals
                .insert(source.clone().into_owned(), Arrivals::default());
        }
        self.arrivals.get_mut(&*source).expect("it was inserted just now")
    }

    fn refuse(&mut self, stamp: &Stamp, reason: &str) {
        self.totals
            .input
            .entry(source_name(stamp))
            .or_default()
            .drop_for(reason, 1);
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout(&mut self, now: Now, rows: &mut impl Rows) {
        self.engine.handle_timeout(now);
        self.drain(now.wall_ns, rows);
    }

    /// Gives out all that waits.
    pub(crate) fn handle_shutdown(&mut self, now: Now, rows: &mut impl Rows) {
        self.engine.handle_shutdown(now);
        self.drain(now.wall_ns, rows);
    }

    /// Time need not pass before this on the monotonic clock.
    pub(crate) fn quiet_until(&self) -> u64 {
        self.engine.quiet_until()
    }

    /// When time must pass next, on the monotonic clock.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.engine.next_deadline()
    }

    pub(crate) fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    pub(crate) fn settlement_mut(&mut self) -> &mut Settlement {
        &mut self.settlement
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.engine.counters()
    }

    pub(crate) fn memory(&self) -> Memory {
        self.engine.memory()
    }

    /// Different clients that this process has seen.
    pub(crate) fn clients(&self) -> ClientCount {
        self.clients.count()
    }

    pub(crate) fn arrivals_by_source(&self) -> &BTreeMap<String, Arrivals> {
        &self.arrivals
    }

    /// The totals that a process before left.
    pub(crate) fn before(&self) -> &Totals {
        &self.before
    }

    /// The totals as of now, as they go into a sealed batch.
    pub(crate) fn totals_now(&self) -> Totals {
        let mut totals = self.totals.clone();
        let flow = &self.engine.counters().connections;
        totals.connections = self.before.connections.clone();
        totals.connections.passed += flow.passed;
        for (reason, n) in flow.dropped() {
            totals.connections.drop_for(reason.name(), n);
        }
        totals
    }

    /// Counts events as settled, by source: they are in the batch that is being sealed.
    pub(crate) fn count_settled(&mut self, origins: &[Origin]) {
        for origin in origins {
            let Some(producer) = self.settlement.get(origin.boot) else {
                continue;
            };
            let source = producer.key.source.to_str_lossy();
            match self.totals.input.get_mut(&*source) {
                Some(flow) => flow.passed += 1,
                None => self.totals.input.entry(source.into_owned()).or_default().passed += 1,
            }
        }
    }

    fn drain(&mut self, now_ns: WallNs, rows: &mut impl Rows) {
        while let Some(output) = self.engine.poll_event() {
            match output {
                Output::Joined(joined) => self.give_request(joined, rows),
                // Its row was written when the hello came first.
                Output::Tls(row) if row.payload.announced => {}
                Output::DroppedConnection { payload, .. } if payload.announced => {}
                Output::Tls(row) => {
                    let origin = row.payload.origin;
                    self.give_hello(&row, rows);
                    rows.settle(origin);
                }
                Output::Correction(correction) => give_correction(&correction, now_ns, rows),
                Output::DroppedRequest { payload, reason } => {
                    if matches!(payload, HttpPayload::Request { .. }) {
                        self.totals.requests.drop_for(reason.name(), 1);
                    }
                    rows.settle(payload.origin());
                }
                Output::DroppedConnection { payload, reason } => {
                    tracing::trace!("connection event dropped: {}", reason.name());
                    rows.settle(payload.origin);
                }
            }
        }
    }

    fn give_request(&mut self, joined: correlator_engine::Joined<Conn, HttpPayload>, rows: &mut impl Rows) {
        let HttpPayload::Request {
            cell,
            session,
            origin,
        } = joined.request
        else {
            // The engine gives requests back as requests; an end here would be its bug, and is counted as one.
            self.totals.requests.drop_for("not_a_request", 1);
            rows.settle(joined.request.origin());
            return;
        };
        let end = match &joined.end {
            Some(HttpPayload::End(end, _)) => Some(end),
            _ => None,
        };
        let parsed = cell.borrow_dependent();
        let conn = joined.conn.as_ref();
        let contradictions: Vec<&'static str> = joined.contradictions.names().collect();
        let verdict = convert::verdict_back(joined.verdict);
        let hello = conn
            .filter(|conn| conn.has_hello)
            .and_then(|conn| conn.payload.hello());
        let facts = conn.map(|conn| conn.payload.conn());
        // The sensor of another node may have seen it further out than the one that told of it first.
        let outer = conn
            .map(|conn| convert::pair_back(&conn.pair))
            .filter(|pair| facts.is_some_and(|facts| facts.pair != *pair));
        let hello = hello.map(|hello| at_pair(hello, outer, |hello| &mut hello.conn));
        let facts = facts.map(|facts| at_pair(facts, outer, |facts| facts));
        let row = JoinedRequest {
            head: &parsed.head,
            request: &parsed.request,
            end,
            hello: hello.as_deref(),
            conn: facts.as_deref(),
            confirmed: conn.map_or(ja4_model::Confirmed::None, |conn| {
                convert::confirmed_back(conn.confirmed)
            }),
            verdict,
            delta_us: joined.delta_us,
            conn_req_index: joined.conn_req_index,
            contradictions: &contradictions,
            derived: self.deriver.derive(&parsed.request, session),
        };
        self.clients.see(&row);
        rows.request(&row);
        self.totals.joined.count(verdict);
        self.totals.requests.passed += 1;
        rows.settle(origin);
        if let Some(end) = joined.end {
            rows.settle(end.origin());
        }
    }

    fn give_hello(&mut self, row: &correlator_engine::TlsRow<Conn>, rows: &mut impl Rows) {
        let Some(hello) = row.payload.hello() else { return };
        let views: Vec<_> = row.views.iter().map(convert::pair_back).collect();
        let pair = convert::pair_back(&row.pair);
        let confirmed = convert::confirmed_back(row.confirmed);
        self.totals.hellos += 1;
        if hello.conn.views == views && hello.conn.pair == pair {
            rows.hello(&TlsRecord {
                head: &row.payload.head,
                hello,
                confirmed,
            });
        } else {
            let mut merged = hello.clone();
            merged.conn.views = views;
            merged.conn.pair = pair;
            rows.hello(&TlsRecord {
                head: &row.payload.head,
                hello: &merged,
                confirmed,
            });
        }
    }
}

/// The facts of a connection, or what holds them, with another pair of addresses.
fn at_pair<T: Clone>(
    facts: &T,
    pair: Option<Pair>,
    conn: impl Fn(&mut T) -> &mut ConnFacts<'static>,
) -> Cow<'_, T> {
    let Some(pair) = pair else {
        return Cow::Borrowed(facts);
    };
    let mut moved = facts.clone();
    conn(&mut moved).pair = pair;
    Cow::Owned(moved)
}

/// The request itself is gone by then: its client is the connection's, its host stays empty and is found by its id.
fn give_correction(correction: &correlator_engine::Correction<Conn>, now_ns: WallNs, rows: &mut impl Rows) {
    let conn = &correction.conn;
    rows.correction(&Correction {
        request_id: EventId {
            boot: ja4_model::BootId(correction.boot),
            seq: correction.seq,
        },
        request_ts_ns: correction.ts_ns,
        corrected_ns: now_ns,
        src_ip: CanonicalAddr(conn.pair.client.ip),
        host: Text::EMPTY,
        conn_uid: ja4_model::ConnUid(conn.conn_uid.0),
        verdict: convert::verdict_back(correction.verdict),
        hello: conn.payload.hello(),
    });
}

fn source_name(stamp: &Stamp) -> String {
    stamp.source.to_str_lossy().into_owned()
}
