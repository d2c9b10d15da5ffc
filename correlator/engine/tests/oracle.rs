//! A brute-force oracle decides each request by scanning everything that arrived before; the engine must agree.
//!
//! The oracle is written from the rules of the join, with lists and full scans, and shares no code with the
//! engine. Ten thousand random histories hold keep-alive, port reuse, skew, loss, reordering, late ends,
//! two sensors, and forged openings, hellos and closes. A history that fails is shrunk and printed with its seed.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{BASE, Harness, Input, MS, Rng, S, at, endpoint, hello, opened, request};
use correlator_engine::{
    CloseReason, Confirmed, ConnUid, ConnectionEvent, ConnectionInput, Contradictions, Endpoint, HttpVersion,
    KeySource, Match, NoneReason, Output, Pair, RequestEnd, Scheme, ServerSide, Settings, Transport,
};

/// What is compared for one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Verdict {
    matched: Match,
    key: KeySource,
    conn: Option<ConnUid>,
    contradictions: Contradictions,
    conn_req_index: u32,
    has_end: bool,
}

/// Inputs in order of arrival, nanoseconds after the tests' zero.
type History = Vec<(i64, Input)>;

mod oracle {
    //! The model: lists, full scans, no index.

    use super::*;

    #[derive(Clone, Debug)]
    struct Conn {
        uids: Vec<ConnUid>,
        node: u32,
        transport: Transport,
        pairs: Vec<Pair>,
        open: i64,
        begin: i64,
        closed: Option<i64>,
        confirmed: bool,
        /// Index of the hello that stands for it.
        hello: Option<u8>,
        hellos: Vec<u8>,
        ja4: Option<u64>,
        random: Option<[u8; 32]>,
        random_shared: bool,
        /// Forgotten at this arrival time, once it is over.
        gone_at: Option<i64>,
        bound: Vec<(u32, u64, u64)>,
        n_requests: u32,
    }

    #[derive(Clone, Debug)]
    struct Waiting {
        request: correlator_engine::RequestInput<u32>,
        arrived: i64,
        verdict: Option<Verdict>,
        end: bool,
        out: bool,
    }

    struct Model<'a> {
        settings: &'a Settings,
        conns: Vec<Conn>,
        /// Confirmations and closes without a connection: when, whose, what.
        early: Vec<(i64, ConnUid, Option<Confirmed>, Option<i64>)>,
        waiting: Vec<Waiting>,
        /// `(source, boot, conn_id)` with the peer that was seen, newest last.
        bindings: Vec<((u32, u64, u64), Endpoint, ConnUid)>,
        /// Endpoint and opening of confirmed connections that had no room.
        evicted: Vec<(Transport, Endpoint, i64)>,
        n_rows: usize,
    }

    fn ns(duration: Duration) -> i64 {
        i64::try_from(duration.as_nanos()).expect("short")
    }

    pub(crate) fn run(settings: &Settings, history: &History) -> (BTreeMap<(u32, u64, u64), Verdict>, usize) {
        let mut model = Model {
            settings,
            conns: vec![],
            early: vec![],
            waiting: vec![],
            bindings: vec![],
            evicted: vec![],
            n_rows: 0,
        };
        for (now, input) in history {
            model.decide_until(*now);
            match input {
                Input::Connection(event) => model.connection(*now, event),
                Input::Request(request) => model.request(*now, request),
                Input::End(end) => model.end(*now, end),
                Input::Gap(_) => {}
            }
        }
        model.decide_until(i64::MAX);
        let id = |w: &Waiting| (w.request.source, w.request.boot, w.request.seq);
        let verdicts = model.waiting.iter().map(|w| {
            let mut verdict = w.verdict.expect("all are decided");
            verdict.has_end = w.end;
            (id(w), verdict)
        });
        (verdicts.collect(), model.n_rows)
    }

    impl Model<'_> {
        // ---- connections

        fn forget_old(&mut self, now: i64) {
            self.conns.retain(|c| c.gone_at.is_none_or(|gone| gone > now));
        }

        fn find(&mut self, uid: ConnUid) -> Option<usize> {
            self.conns.iter().position(|c| c.uids.contains(&uid))
        }

        fn connection(&mut self, now: i64, input: &ConnectionInput<u32>) {
            self.forget_old(now);
            let uid = input.conn_uid;
            let retention = ns(self.settings.late_retention);
            match &input.event {
                ConnectionEvent::Confirm { confirmed } => {
                    if let Some(i) = self.find(uid) {
                        self.confirm(i, *confirmed, now);
                    } else {
                        self.early.push((now, uid, Some(*confirmed), None));
                    }
                }
                ConnectionEvent::Close { ts_ns, reason } => {
                    if matches!(reason, CloseReason::Idle | CloseReason::Evicted) {
                        return;
                    }
                    if let Some(i) = self.find(uid) {
                        self.close(i, *ts_ns, now + retention);
                    } else {
                        self.early.push((now, uid, None, Some(*ts_ns)));
                    }
                }
                ConnectionEvent::Open(opened) => {
                    let i = match self.find(uid) {
                        Some(i) => {
                            self.conns[i].open = self.conns[i].open.min(opened.ts_ns);
                            i
                        }
                        None => self.add(
                            uid,
                            input.node,
                            opened.transport,
                            opened.pair,
                            opened.ts_ns,
                            opened.ts_ns,
                        ),
                    };
                    self.views(i, &opened.views);
                    self.after(i, uid, opened.confirmed, now);
                }
                ConnectionEvent::ClientHello(hello) => {
                    let open = hello.open_ts_ns.unwrap_or(hello.ts_ns).min(hello.ts_ns);
                    let i = match self.find(uid).or_else(|| self.merged(uid, input.node, hello)) {
                        Some(i) => i,
                        None => self.add(uid, input.node, hello.transport, hello.pair, open, hello.ts_ns),
                    };
                    self.conns[i].open = self.conns[i].open.min(open);
                    self.views(i, &[hello.pair]);
                    self.random(i, hello.client_random);
                    let conn = &mut self.conns[i];
                    if !conn.hellos.contains(&hello.hello_index) {
                        conn.hellos.push(hello.hello_index);
                        self.n_rows += 1;
                        if conn.hello.is_none_or(|first| hello.hello_index < first) {
                            conn.hello = Some(hello.hello_index);
                            conn.begin = hello.ts_ns;
                            conn.ja4 = hello.facts.ja4_hash;
                        }
                    }
                    self.views(i, &hello.views);
                    self.after(i, uid, hello.confirmed, now);
                }
            }
        }

        fn add(
            &mut self,
            uid: ConnUid,
            node: u32,
            transport: Transport,
            pair: Pair,
            open: i64,
            begin: i64,
        ) -> usize {
            self.conns.push(Conn {
                uids: vec![uid],
                node,
                transport,
                pairs: vec![pair],
                open,
                begin,
                closed: None,
                confirmed: false,
                hello: None,
                hellos: vec![],
                ja4: None,
                random: None,
                random_shared: false,
                gone_at: None,
                bound: vec![],
                n_requests: 0,
            });
            self.conns.len() - 1
        }

        /// The same hello from another node within the time that rows are held for it.
        fn merged(
            &mut self,
            uid: ConnUid,
            node: u32,
            hello: &correlator_engine::Hello<u32>,
        ) -> Option<usize> {
            let random = hello.client_random?;
            let wait = ns(self.settings.merge_wait);
            let i = self.conns.iter().position(|c| {
                c.random == Some(random)
                    && !c.random_shared
                    && c.node != node
                    && c.transport == hello.transport
                    && (c.begin - hello.ts_ns).abs() <= wait
            })?;
            self.conns[i].uids.push(uid);
            Some(i)
        }

        fn random(&mut self, i: usize, random: Option<[u8; 32]>) {
            let Some(random) = random else { return };
            if self.conns[i].random.is_some() {
                return;
            }
            let mut shared = false;
            for other in self.conns.iter_mut().filter(|c| c.random == Some(random)) {
                other.random_shared = true;
                shared = true;
            }
            self.conns[i].random = Some(random);
            self.conns[i].random_shared = shared;
        }

        fn views(&mut self, i: usize, views: &[Pair]) {
            for view in views {
                if !self.conns[i].pairs.contains(view) {
                    self.conns[i].pairs.push(*view);
                }
            }
        }

        fn confirm(&mut self, i: usize, level: Confirmed, now: i64) {
            if level > Confirmed::None && !self.conns[i].confirmed {
                self.conns[i].confirmed = true;
                // Confirmed late, it is kept as long as any other.
                if self.conns[i].gone_at.is_some() {
                    self.conns[i].gone_at = Some(now + ns(self.settings.late_retention));
                }
            }
            self.settle(now);
        }

        fn close(&mut self, i: usize, ts: i64, gone_at: i64) {
            let conn = &mut self.conns[i];
            conn.closed = Some(conn.closed.map_or(ts, |old| old.max(ts)));
            conn.gone_at.get_or_insert(gone_at);
        }

        fn after(&mut self, i: usize, uid: ConnUid, confirmed: Confirmed, now: i64) {
            let kept = ns(self.settings.merge_wait);
            self.early.retain(|(t, ..)| now < t + kept);
            let mine: Vec<_> = self
                .early
                .iter()
                .filter(|(_, whose, ..)| *whose == uid)
                .copied()
                .collect();
            self.early.retain(|(_, whose, ..)| *whose != uid);
            let mut level = confirmed;
            for (_, _, confirmed, closed) in mine {
                level = level.max(confirmed.unwrap_or_default());
                if let Some(ts) = closed {
                    self.close(i, ts, now + ns(self.settings.late_retention));
                }
            }
            self.confirm(i, level, now);
        }

        /// Replacement and the number of generations, looked at for all pairs of connections.
        fn settle(&mut self, now: i64) {
            for i in 0..self.conns.len() {
                let newer = (0..self.conns.len()).any(|j| {
                    self.conns[j].confirmed
                        && self.conns[j].open > self.conns[i].open
                        && self.conns[j].transport == self.conns[i].transport
                        && self.conns[j]
                            .pairs
                            .iter()
                            .any(|p| p.client.is_usable() && self.conns[i].pairs.contains(p))
                });
                if newer && self.conns[i].gone_at.is_none() {
                    self.conns[i].gone_at = Some(now + ns(self.settings.late_retention));
                }
            }
            while let Some(i) = self.one_too_many() {
                let conn = self.conns.remove(i);
                if conn.confirmed {
                    self.evicted
                        .extend(conn.pairs.iter().map(|p| (conn.transport, p.client, conn.open)));
                }
            }
        }

        fn one_too_many(&self) -> Option<usize> {
            for conn in &self.conns {
                for pair in conn.pairs.iter().filter(|p| p.client.is_usable()) {
                    for confirmed in [false, true] {
                        let same = |c: &&(usize, &Conn)| {
                            c.1.transport == conn.transport
                                && c.1.pairs.contains(pair)
                                && c.1.confirmed == confirmed
                        };
                        let all: Vec<_> = self.conns.iter().enumerate().collect();
                        let all: Vec<_> = all.iter().filter(same).collect();
                        if all.len() > 4 {
                            return all
                                .iter()
                                .min_by_key(|(_, c)| (c.open, c.uids[0]))
                                .map(|(i, _)| *i);
                        }
                    }
                }
            }
            None
        }

        // ---- requests

        fn request(&mut self, now: i64, request: &correlator_engine::RequestInput<u32>) {
            let id = (request.source, request.boot, request.seq);
            if self
                .waiting
                .iter()
                .any(|w| (w.request.source, w.request.boot, w.request.seq) == id)
            {
                return;
            }
            self.forget_old(now);
            let mut waiting = Waiting {
                request: request.clone(),
                arrived: now,
                verdict: None,
                end: false,
                out: false,
            };
            if let Some((i, key)) = self.proof(request) {
                waiting.verdict = Some(self.join(i, Match::Exact, key, request, now, Contradictions::NONE));
            } else if !self.usable(request) && request.conn_id.is_none() && request.client_random.is_none() {
                waiting.verdict = Some(none(NoneReason::KeyUnusable));
            }
            waiting.out = waiting.verdict.is_some() && !request.end_follows;
            self.waiting.push(waiting);
        }

        /// An end counts while the row of its request is not out.
        fn end(&mut self, now: i64, end: &RequestEnd<u32>) {
            let end_wait = ns(self.settings.end_wait);
            let id = (end.source, end.boot, end.request_seq);
            for w in &mut self.waiting {
                if (w.request.source, w.request.boot, w.request.seq) != id || !w.request.end_follows {
                    continue;
                }
                let in_time = now < w.arrived + end_wait || w.verdict.is_none();
                if in_time && !w.out {
                    w.end = true;
                    w.out = w.verdict.is_some();
                }
            }
        }

        fn decide_until(&mut self, now: i64) {
            let wait = ns(self.settings.orphan_wait);
            for n in 0..self.waiting.len() {
                let due = self.waiting[n].arrived + wait;
                if self.waiting[n].verdict.is_some() || due > now {
                    continue;
                }
                self.forget_old(due);
                let request = self.waiting[n].request.clone();
                let verdict = self.decide(&request, due, self.waiting[n].arrived);
                self.waiting[n].verdict = Some(verdict);
                self.waiting[n].out |= self.waiting[n].end || !request.end_follows;
            }
        }

        fn usable(&self, request: &correlator_engine::RequestInput<u32>) -> bool {
            request.pair.client.is_usable() || self.proxy(request).is_some()
        }

        fn proxy(&self, request: &correlator_engine::RequestInput<u32>) -> Option<Endpoint> {
            request
                .proxy_client
                .filter(|p| self.settings.proxy_key && p.is_usable())
        }

        fn by_random(&self, request: &correlator_engine::RequestInput<u32>) -> Option<usize> {
            let random = request.client_random?;
            self.conns.iter().position(|c| {
                c.random == Some(random)
                    && !c.random_shared
                    && c.confirmed
                    && c.transport == request.transport
            })
        }

        fn proof(&self, request: &correlator_engine::RequestInput<u32>) -> Option<(usize, KeySource)> {
            if let Some(i) = self.by_random(request) {
                let mut known = self.conns[i]
                    .pairs
                    .iter()
                    .map(|p| p.client)
                    .filter(Endpoint::is_usable);
                if known.any(|c| c == request.pair.client || Some(c) == self.proxy(request)) {
                    return Some((i, KeySource::Random));
                }
            }
            let id = (request.source, request.boot, request.conn_id?);
            let (_, peer, uid) = self.bindings.iter().rev().find(|(bound, ..)| *bound == id)?;
            let i = self
                .conns
                .iter()
                .position(|c| c.uids.contains(uid) && c.bound.contains(&id))?;
            (*peer == request.pair.client).then_some((i, KeySource::Binding))
        }

        fn decide(
            &mut self,
            request: &correlator_engine::RequestInput<u32>,
            now: i64,
            arrived: i64,
        ) -> Verdict {
            if let Some((i, key)) = self.proof(request) {
                return self.join(i, Match::Exact, key, request, now, Contradictions::NONE);
            }
            let by_random = self.by_random(request);
            for confirmed in [true, false] {
                for key in [KeySource::Wire, KeySource::Proxy] {
                    let client = match key {
                        KeySource::Wire => Some(request.pair.client).filter(Endpoint::is_usable),
                        _ => self.proxy(request),
                    };
                    let Some(client) = client else { continue };
                    if let Some((i, matched)) = self.asof(request, client, key, confirmed) {
                        let disagrees = confirmed && by_random.is_some_and(|r| r != i);
                        let mark = if disagrees {
                            Contradictions::RANDOM
                        } else {
                            Contradictions::NONE
                        };
                        return self.join(i, matched, key, request, now, mark);
                    }
                }
                if confirmed && let Some(i) = by_random {
                    return self.join(
                        i,
                        Match::Exact,
                        KeySource::Random,
                        request,
                        now,
                        Contradictions::NONE,
                    );
                }
            }
            none(self.why(request, arrived))
        }

        fn asof(
            &self,
            request: &correlator_engine::RequestInput<u32>,
            client: Endpoint,
            key: KeySource,
            confirmed: bool,
        ) -> Option<(usize, Match)> {
            let ts = request.ts_ns;
            let mut fits: Vec<(usize, bool, bool)> = vec![];
            for (i, conn) in self.conns.iter().enumerate() {
                let skew = if conn.node == request.node {
                    self.settings.skew_same_node
                } else {
                    self.settings.skew_cross_node
                };
                let tolerance = ns(skew).max(i64::try_from(request.resolution_ns).expect("short"));
                let id = (request.source, request.boot);
                let other_id =
                    |b: &(u32, u64, u64)| (b.0, b.1) == id && request.conn_id.is_some_and(|c| c != b.2);
                let pairs: Vec<&Pair> = conn
                    .pairs
                    .iter()
                    .filter(|p| p.client == client)
                    .filter(|p| {
                        key == KeySource::Proxy
                            || match self.settings.server_side {
                                ServerSide::Strict => p.server == request.pair.server,
                                ServerSide::Port => p.server.port == request.pair.server.port,
                                ServerSide::Ignore => true,
                            }
                    })
                    .collect();
                if pairs.is_empty()
                    || conn.transport != request.transport
                    || conn.confirmed != confirmed
                    || conn.bound.iter().any(other_id)
                    || conn.open > ts + tolerance
                {
                    continue;
                }
                let replaced = self.conns.iter().filter(|o| {
                    o.confirmed
                        && o.transport == conn.transport
                        && o.open > conn.open
                        && pairs.iter().any(|p| o.pairs.contains(p))
                });
                let over = replaced.map(|o| o.open).chain(conn.closed).min();
                if over.is_none_or(|over| ts <= over + tolerance) {
                    let server = pairs.iter().any(|p| p.server == request.pair.server);
                    fits.push((i, server, !lowers(conn, request)));
                }
            }
            if fits.iter().any(|f| f.1) {
                fits.retain(|f| f.1);
            }
            if fits.iter().any(|f| f.2) {
                fits.retain(|f| f.2);
            }
            fits.sort_by_key(|f| (self.conns[f.0].open, self.conns[f.0].uids[0]));
            match fits.as_slice() {
                [] => None,
                [only] => Some((only.0, Match::Asof)),
                [.., older, newer] => {
                    let later =
                        request.http == HttpVersion::Http1 && request.req_index.is_some_and(|n| n > 0);
                    Some((if later { older.0 } else { newer.0 }, Match::Ambiguous))
                }
            }
        }

        fn join(
            &mut self,
            i: usize,
            matched: Match,
            key: KeySource,
            request: &correlator_engine::RequestInput<u32>,
            now: i64,
            extra: Contradictions,
        ) -> Verdict {
            let retention = ns(self.settings.late_retention);
            let conn = &mut self.conns[i];
            let lowered = lowers(conn, request);
            let matched = match (lowered, matched) {
                (true, Match::Exact) => Match::Asof,
                (true, Match::Asof) => Match::Ambiguous,
                _ => matched,
            };
            if conn.closed.is_none() && conn.gone_at.is_some() {
                conn.gone_at = Some(now + retention);
            }
            let sure = !lowered && matches!(matched, Match::Exact | Match::Asof) && key != KeySource::Binding;
            let stream = (request.source, request.boot);
            if let Some(conn_id) = request.conn_id
                && sure
                && conn.confirmed
                && !conn.bound.iter().any(|b| (b.0, b.1) == stream)
            {
                let id = (request.source, request.boot, conn_id);
                let uid = conn.uids[0];
                for other in &mut self.conns {
                    other.bound.retain(|b| *b != id);
                }
                self.conns[i].bound.push(id);
                self.bindings.push((id, request.pair.client, uid));
            }
            let conn = &mut self.conns[i];
            let n = conn.n_requests;
            conn.n_requests += 1;
            Verdict {
                matched,
                key,
                conn: Some(conn.uids[0]),
                contradictions: marks(conn, request, extra),
                conn_req_index: n,
                has_end: false,
            }
        }

        fn why(&self, request: &correlator_engine::RequestInput<u32>, arrived: i64) -> NoneReason {
            let tolerance = ns(self.settings.skew_cross_node);
            let ended = request.ts_ns + i64::try_from(request.duration_ns).expect("short");
            let keys = [Some(request.pair.client), self.proxy(request)];
            let evicted = self.evicted.iter().rev();
            if !self.usable(request) {
                NoneReason::KeyUnusable
            } else if request.scheme == Scheme::Http {
                NoneReason::Plaintext
            } else if BASE + arrived - ended > ns(self.settings.late_retention) {
                NoneReason::Late
            } else if keys.iter().flatten().any(|key| {
                // The newest eviction on an endpoint is the one that is known.
                let newest = evicted
                    .clone()
                    .find(|(t, c, _)| *t == request.transport && c == key);
                newest.is_some_and(|(.., open)| *open <= request.ts_ns + tolerance)
            }) {
                NoneReason::Evicted
            } else {
                NoneReason::NoConn
            }
        }
    }

    fn none(reason: NoneReason) -> Verdict {
        Verdict {
            matched: Match::None(reason),
            key: KeySource::None,
            conn: None,
            contradictions: Contradictions::NONE,
            conn_req_index: 0,
            has_end: false,
        }
    }

    fn facts(conn: &Conn, request: &correlator_engine::RequestInput<u32>) -> (bool, bool) {
        let plain = conn.hello.is_none();
        let scheme = match request.scheme {
            Scheme::Http => !plain,
            Scheme::Https => plain,
            Scheme::Unknown => false,
        };
        let ja4 = matches!((conn.ja4, request.facts.ja4_hash), (Some(a), Some(b)) if a != b) && !plain;
        (scheme, ja4)
    }

    fn lowers(conn: &Conn, request: &correlator_engine::RequestInput<u32>) -> bool {
        let (scheme, ja4) = facts(conn, request);
        scheme || ja4
    }

    fn marks(
        conn: &Conn,
        request: &correlator_engine::RequestInput<u32>,
        extra: Contradictions,
    ) -> Contradictions {
        let (scheme, ja4) = facts(conn, request);
        let mut names: Vec<&str> = vec![];
        names.extend(ja4.then_some("ja4"));
        names.extend(scheme.then_some("scheme"));
        names.extend(extra.names());
        let all = [
            Contradictions::NONE,
            Contradictions::JA4,
            Contradictions::SCHEME,
            Contradictions::RANDOM,
            Contradictions::JA4.with(Contradictions::SCHEME),
            Contradictions::JA4.with(Contradictions::RANDOM),
            Contradictions::SCHEME.with(Contradictions::RANDOM),
            Contradictions::JA4
                .with(Contradictions::SCHEME)
                .with(Contradictions::RANDOM),
        ];
        *all.iter()
            .find(|c| c.names().collect::<Vec<_>>() == names)
            .expect("a known set")
    }
}

mod histories {
    //! Random traffic: the truth, and what sensors, sources and attackers make of it.

    use super::*;

    /// What may go wrong.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Trouble {
        /// Events are lost, percent.
        pub(crate) loss: u64,
        /// Largest delay of an arrival.
        pub(crate) delay: i64,
        /// Clocks disagree by up to this.
        pub(crate) skew: i64,
        /// Shortest time between two connections on one port.
        pub(crate) port_rest: i64,
        /// Events that are wrong by themselves: contradicting facts, shared randoms, reused ids.
        pub(crate) odd: u64,
    }

    pub(crate) const ROUGH: Trouble = Trouble {
        loss: 6,
        delay: 900 * MS,
        skew: 400 * MS,
        port_rest: 0,
        odd: 5,
    };
    pub(crate) const MILD: Trouble = Trouble {
        loss: 0,
        delay: 499 * MS,
        skew: 2 * MS,
        port_rest: 600 * MS,
        odd: 0,
    };

    /// Inputs in order of arrival; for each request the connection it was really made on.
    #[derive(Clone, Debug)]
    pub(crate) struct Generated {
        pub(crate) settings: Settings,
        pub(crate) history: History,
        pub(crate) truth: BTreeMap<(u32, u64, u64), u128>,
        /// Ids that are one connection, by the sensor that saw it.
        pub(crate) same: BTreeMap<u128, u128>,
    }

    pub(crate) struct Generator {
        rng: Rng,
        /// Delays come from their own numbers, so that the same traffic can arrive in another order.
        delays: Rng,
        trouble: Trouble,
        out: Vec<(i64, Input)>,
        truth: BTreeMap<(u32, u64, u64), u128>,
        same: BTreeMap<u128, u128>,
        next_uid: u128,
        next_seq: [u64; 3],
        next_conn_id: u64,
        sensor_skew: [i64; 2],
        source_skew: i64,
        two_sensors: bool,
        randoms: Vec<[u8; 32]>,
    }

    pub(crate) fn settings(rng: &mut Rng) -> Settings {
        let side = [
            ServerSide::Ignore,
            ServerSide::Ignore,
            ServerSide::Port,
            ServerSide::Strict,
        ];
        let side = side[usize::try_from(rng.range(0, 4)).expect("small")];
        Settings {
            server_side: side,
            proxy_key: !rng.chance(10),
            warmup: Duration::ZERO,
            skew_cross_node: Duration::from_millis(50),
            end_wait: Duration::from_secs(2),
            late_retention: if rng.chance(50) {
                Duration::from_secs(3)
            } else {
                Duration::from_secs(30)
            },
            ..Settings::default()
        }
    }

    pub(crate) fn generate(seed: u64, trouble: Trouble, delays: u64) -> Generated {
        let mut rng = Rng(seed);
        let settings = settings(&mut rng);
        let skew = trouble.skew;
        let sensor_skew = [rng.range(-skew, skew + 1) / 2, rng.range(-skew, skew + 1) / 2];
        let source_skew = if rng.chance(30) {
            rng.range(-skew, skew + 1) / 2
        } else {
            0
        };
        let mut generator = Generator {
            two_sensors: rng.chance(30),
            rng,
            delays: Rng(delays),
            trouble,
            out: vec![],
            truth: BTreeMap::new(),
            same: BTreeMap::new(),
            next_uid: 1,
            next_seq: [0; 3],
            next_conn_id: 100,
            sensor_skew,
            source_skew,
            randoms: vec![],
        };
        for client in 0..generator.rng.range(1, 4) {
            generator.client(client);
        }
        let Generator {
            mut out, truth, same, ..
        } = generator;
        out.sort_by_key(|(t, _)| *t);
        Generated {
            settings,
            history: out,
            truth,
            same,
        }
    }

    impl Generator {
        fn send(&mut self, t: i64, input: Input) {
            if self.rng.chance(self.trouble.loss) {
                return;
            }
            let short = self.trouble.delay.min(40 * MS);
            let delay = if self.delays.chance(70) {
                self.delays.range(0, short)
            } else {
                self.delays.range(0, self.trouble.delay)
            };
            self.out.push((t.max(0) + delay, input));
        }

        /// One client port: connections one after the other.
        fn client(&mut self, client: i64) {
            let rough = self.trouble.odd > 0 && self.rng.chance(80);
            let server = if rough || client % 2 == 0 {
                "198.51.100.1:443"
            } else {
                "198.51.100.1:8443"
            };
            let pair = Pair {
                client: endpoint(&format!("192.0.2.{}:40000", 1 + client / 2)),
                server: endpoint(server),
            };
            let mut t = self.rng.range(0, 2_000) * MS;
            for _ in 0..self.rng.range(1, 5) {
                t = self.connection(t, pair);
                let rest = if self.rng.chance(30) {
                    0
                } else {
                    self.rng.range(0, 4_000) * MS
                };
                t += rest.max(self.trouble.port_rest);
            }
        }

        fn random_bytes(&mut self) -> [u8; 32] {
            if self.rng.chance(self.trouble.odd) && !self.randoms.is_empty() {
                let n = self.rng.below(self.randoms.len());
                return self.randoms[n];
            }
            let mut random = [0; 32];
            random[..8].copy_from_slice(&self.rng.next().to_le_bytes());
            self.randoms.push(random);
            random
        }

        /// A connection with its requests; when it ends.
        fn connection(&mut self, t: i64, pair: Pair) -> i64 {
            let uid = self.next_uid;
            self.next_uid += 10;
            let random = self.random_bytes();
            let plain = self.rng.chance(8);
            let http = [HttpVersion::Http1, HttpVersion::Http2][usize::from(self.rng.chance(40))];
            let begin = t + self.rng.range(0, 3) * MS;
            let conn_ids = [
                self.rng.chance(70).then(|| self.conn_id()),
                self.rng.chance(30).then(|| self.conn_id()),
            ];
            let mut end = begin + 2 * MS;
            let mut requests = vec![];
            for index in 0..self.rng.range(0, 6) {
                let gap = if self.rng.chance(10) {
                    self.rng.range(0, 8_000)
                } else {
                    self.rng.range(1, 200)
                };
                let start = end + gap * MS;
                let lasts = if self.rng.chance(10) {
                    self.rng.range(0, 3_000) * MS
                } else {
                    self.rng.range(0, 30) * MS
                };
                end = if http == HttpVersion::Http1 {
                    start + lasts
                } else {
                    start
                };
                requests.push((index, start, lasts));
            }
            let last = requests
                .iter()
                .map(|(_, start, lasts)| start + lasts)
                .max()
                .unwrap_or(end);
            let over = last.max(end) + self.rng.range(0, 300) * MS;
            self.seen_by_sensors(uid, pair, random, plain, t, begin, over);
            for (index, start, lasts) in requests {
                self.made(uid, pair, random, plain, http, conn_ids, index, start, lasts);
            }
            if self.rng.chance(25) {
                self.forged(pair, t, over);
            }
            over
        }

        fn conn_id(&mut self) -> u64 {
            if self.rng.chance(self.trouble.odd) {
                return 100;
            }
            self.next_conn_id += 1;
            self.next_conn_id
        }

        #[expect(clippy::too_many_arguments, reason = "the facts of one connection, used once")]
        fn seen_by_sensors(
            &mut self,
            uid: u128,
            pair: Pair,
            random: [u8; 32],
            plain: bool,
            t: i64,
            begin: i64,
            over: i64,
        ) {
            let n = if self.two_sensors && self.rng.chance(60) {
                2
            } else {
                1
            };
            let fin = self.rng.chance(80) || self.trouble.loss == 0;
            let inner = Pair {
                client: endpoint("10.0.0.1:50000"),
                server: endpoint("10.0.0.2:8443"),
            };
            let inner = Pair {
                client: Endpoint {
                    port: 50_000 + u16::try_from(uid % 10_000).expect("small"),
                    ..inner.client
                },
                ..inner
            };
            for node in 0..n {
                let skew = self.sensor_skew[node as usize];
                let seen_uid = uid + u128::from(node);
                self.same.insert(seen_uid, uid);
                let pair = if node == 1 && self.rng.chance(50) {
                    inner
                } else {
                    pair
                };
                let level = [Confirmed::None, Confirmed::Acked][usize::from(self.rng.chance(50))];
                if plain {
                    if node == 1 {
                        continue;
                    }
                    let mut opened = opened(pair, t + skew);
                    opened.confirmed = level;
                    self.send(t, common::event(seen_uid, node, ConnectionEvent::Open(opened)));
                } else {
                    let mut hello = hello(seen_uid, pair, begin + skew);
                    hello.open_ts_ns = self.rng.chance(80).then_some(BASE + t + skew);
                    hello.client_random = Some(random);
                    hello.confirmed = level;
                    hello.facts.ja4_hash = Some(7);
                    if self.rng.chance(20) {
                        hello.views.push(inner);
                    }
                    if self.rng.chance(10) {
                        self.send(
                            begin + 4 * MS,
                            common::event(seen_uid, node, ConnectionEvent::ClientHello(hello.clone())),
                        );
                    }
                    if self.rng.chance(10) {
                        let mut second = hello.clone();
                        second.hello_index = 1;
                        second.ts_ns += MS;
                        self.send(
                            begin + MS,
                            common::event(seen_uid, node, ConnectionEvent::ClientHello(second)),
                        );
                    }
                    self.send(
                        begin,
                        common::event(seen_uid, node, ConnectionEvent::ClientHello(hello)),
                    );
                }
                if level == Confirmed::None || self.rng.chance(50) {
                    let level = [Confirmed::Acked, Confirmed::Followed][usize::from(self.rng.chance(50))];
                    let confirm = ConnectionEvent::Confirm { confirmed: level };
                    self.send(begin + MS, common::event(seen_uid, node, confirm));
                }
                if self.rng.chance(10) {
                    let idle = ConnectionEvent::Close {
                        ts_ns: BASE + begin + skew,
                        reason: CloseReason::Idle,
                    };
                    self.send(begin + 2 * MS, common::event(seen_uid, node, idle));
                }
                if fin {
                    let reason = [CloseReason::Fin, CloseReason::Rst][usize::from(self.rng.chance(30))];
                    let close = ConnectionEvent::Close {
                        ts_ns: BASE + over + skew,
                        reason,
                    };
                    self.send(over, common::event(seen_uid, node, close));
                }
            }
        }

        #[expect(clippy::too_many_arguments, reason = "the facts of one request, used once")]
        fn made(
            &mut self,
            uid: u128,
            pair: Pair,
            random: [u8; 32],
            plain: bool,
            http: HttpVersion,
            conn_ids: [Option<u64>; 2],
            index: i64,
            start: i64,
            lasts: i64,
        ) {
            for (source, conn_id) in conn_ids.into_iter().enumerate() {
                if source == 1 && !self.rng.chance(20) {
                    continue;
                }
                let seq = self.next_seq[source];
                self.next_seq[source] += 1;
                let mut made = request(seq, pair, start + self.source_skew);
                made.source = u32::try_from(source).expect("small");
                made.boot = 1 + u64::from(self.rng.chance(self.trouble.odd));
                made.http = http;
                made.conn_id = conn_id;
                made.req_index = self.rng.chance(60).then(|| u32::try_from(index).expect("small"));
                made.scheme = if plain { Scheme::Http } else { Scheme::Https };
                made.facts.ja4_hash = Some(if self.rng.chance(self.trouble.odd) { 8 } else { 7 })
                    .filter(|_| self.rng.chance(30));
                made.duration_ns = u64::try_from(lasts).expect("positive");
                if self.rng.chance(5) {
                    made.resolution_ns = 1_000_000;
                }
                if !plain && self.rng.chance(10) {
                    made.client_random = Some(random);
                }
                if self.rng.chance(self.trouble.odd) && !self.randoms.is_empty() {
                    let n = self.rng.below(self.randoms.len());
                    made.client_random = Some(self.randoms[n]);
                }
                if self.rng.chance(10) {
                    made.proxy_client = Some(pair.client);
                    made.pair.client = endpoint("203.0.113.1:33000");
                }
                if self.rng.chance(self.trouble.odd) {
                    made.pair.client.port = 0;
                }
                made.end_follows = self.rng.chance(30);
                let late = if self.rng.chance(self.trouble.odd) {
                    4 * S
                } else {
                    0
                };
                let arrives = start + late + if made.end_follows { 0 } else { lasts };
                self.truth.insert((made.source, made.boot, made.seq), uid);
                let end = RequestEnd {
                    source: made.source,
                    boot: made.boot,
                    request_seq: seq,
                    weight: 50,
                    payload: 0,
                };
                if self.rng.chance(5) {
                    self.send(arrives, Input::Request(made.clone()));
                }
                let follows = made.end_follows;
                self.send(arrives, Input::Request(made));
                if follows {
                    self.send(start + lasts, Input::End(end.clone()));
                }
                if self.rng.chance(5) {
                    self.send(start + lasts, Input::End(end));
                }
            }
        }

        /// What someone off the path can send: an opening or hello that nothing confirms, ends of unknown connections.
        fn forged(&mut self, pair: Pair, from: i64, to: i64) {
            for _ in 0..self.rng.range(1, 4) {
                let uid = self.next_uid;
                self.next_uid += 10;
                let t = self.rng.range(from - 200 * MS, to + 400 * MS).max(0);
                let kind = self.rng.range(0, 4);
                let mut random = [9; 32];
                random[..8].copy_from_slice(&self.rng.next().to_le_bytes());
                match kind {
                    0 => {
                        let mut opened = opened(pair, t);
                        opened.confirmed = Confirmed::None;
                        self.send(t, common::event(uid, 0, ConnectionEvent::Open(opened)));
                    }
                    1 | 2 => {
                        let mut hello = hello(uid, pair, t);
                        hello.confirmed = Confirmed::None;
                        hello.client_random = Some(random);
                        hello.facts.ja4_hash = Some(666);
                        self.send(t, common::event(uid, 0, ConnectionEvent::ClientHello(hello)));
                    }
                    _ => {}
                }
                if kind >= 2 {
                    let close = ConnectionEvent::Close {
                        ts_ns: BASE + t,
                        reason: CloseReason::Rst,
                    };
                    self.send(t, common::event(uid, 0, close));
                }
            }
        }
    }
}

/// What the engine makes of a history.
fn engine(settings: &Settings, history: &History) -> (BTreeMap<(u32, u64, u64), Verdict>, usize) {
    let mut harness = Harness::new(*settings);
    let mut ids = BTreeMap::new();
    for (t, input) in history {
        let payload = harness.put(*t, input.clone());
        if let Input::Request(request) = input {
            ids.insert(payload, (request.source, request.boot, request.seq));
        }
    }
    harness.pass(history.last().map_or(0, |(t, _)| *t) + 100 * S);
    let finished = harness.finish();
    let mut verdicts = BTreeMap::new();
    let mut n_rows = 0;
    for (_, output) in &finished.outputs {
        match output {
            Output::Joined(joined) => {
                let verdict = Verdict {
                    matched: joined.verdict,
                    key: joined.key_source,
                    conn: joined.conn.as_ref().map(|c| c.conn_uid),
                    contradictions: joined.contradictions,
                    conn_req_index: joined.conn_req_index,
                    has_end: joined.end.is_some(),
                };
                assert!(
                    verdicts.insert(ids[&joined.request], verdict).is_none(),
                    "one row for each request"
                );
            }
            Output::Tls(_) => n_rows += 1,
            _ => {}
        }
    }
    (verdicts, n_rows)
}

fn agrees(settings: &Settings, history: &History) -> bool {
    engine(settings, history) == oracle::run(settings, history)
}

/// Takes out of a failing history what it fails without.
fn shrink(settings: &Settings, mut history: History, fails: impl Fn(&Settings, &History) -> bool) -> History {
    let mut size = history.len() / 2;
    while size > 0 {
        let mut from = 0;
        while from < history.len() {
            let mut shorter = history.clone();
            shorter.drain(from..(from + size).min(history.len()));
            if fails(settings, &shorter) {
                history = shorter;
            } else {
                from += size;
            }
        }
        size /= 2;
    }
    history
}

fn report(seed: u64, settings: &Settings, history: &History) -> String {
    use std::fmt::Write as _;
    let (engine, engine_rows) = engine(settings, history);
    let (oracle, oracle_rows) = oracle::run(settings, history);
    let mut text = format!("seed {seed}, {settings:?}\n");
    for (t, input) in history {
        writeln!(text, "{:>9.3} ms {input:?}", *t as f64 / 1e6).expect("a string takes it");
    }
    for (id, verdict) in &oracle {
        if engine.get(id) != Some(verdict) {
            writeln!(
                text,
                "{id:?}\n  oracle {verdict:?}\n  engine {:?}",
                engine.get(id)
            )
            .expect("a string takes it");
        }
    }
    writeln!(text, "rows: oracle {oracle_rows}, engine {engine_rows}").expect("a string takes it");
    text
}

/// Number of histories; `ORACLE_HISTORIES` sets another for a long run.
fn n_histories(default: u64) -> u64 {
    let wanted = std::env::var("ORACLE_HISTORIES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn check_histories(trouble: histories::Trouble, seeds: std::ops::Range<u64>) -> BTreeMap<String, u64> {
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for seed in seeds {
        let generated = histories::generate(seed, trouble, seed ^ 0xdead);
        let (verdicts, _) = engine(&generated.settings, &generated.history);
        for verdict in verdicts.values() {
            *kinds
                .entry(format!("{:?} by {:?}", verdict.matched, verdict.key))
                .or_default() += 1;
        }
        if !agrees(&generated.settings, &generated.history) {
            let short = shrink(&generated.settings, generated.history, |s, h| !agrees(s, h));
            panic!("{}", report(seed, &generated.settings, &short));
        }
    }
    kinds
}

#[test]
fn oracle_agrees_on_rough_histories() {
    let kinds = check_histories(histories::ROUGH, 0..n_histories(7_000));
    println!("{kinds:#?}");
    for kind in [
        "Exact by Binding",
        "Exact by Random",
        "Asof by Wire",
        "Asof by Proxy",
        "Ambiguous by Wire",
        "None(Late) by None",
        "None(Evicted) by None",
    ] {
        assert!(
            kinds.get(kind).is_some_and(|n| *n > 100),
            "{kind} is exercised: {kinds:?}"
        );
    }
}

#[test]
fn oracle_agrees_on_mild_histories() {
    check_histories(histories::MILD, 1_000_000..1_000_000 + n_histories(3_000));
}

#[test]
fn mild_histories_join_every_request_to_its_own_connection() {
    let mut n_joined = 0_u64;
    let mut n_requests = 0_u64;
    for seed in 0..3_000 {
        let generated = histories::generate(seed, histories::MILD, seed);
        let (verdicts, _) = engine(&generated.settings, &generated.history);
        for (id, verdict) in verdicts {
            n_requests += 1;
            let Some(ConnUid(uid)) = verdict.conn else {
                continue;
            };
            n_joined += 1;
            assert_eq!(
                generated.same.get(&uid),
                generated.truth.get(&id),
                "seed {seed}, request {id:?}, {verdict:?}"
            );
        }
    }
    assert!(n_joined * 100 > n_requests * 80, "{n_joined} of {n_requests}");
}

#[test]
fn order_of_arrival_within_orphan_wait_changes_no_join() {
    for seed in 0..3_000 {
        let one = histories::generate(seed, histories::MILD, 1);
        let two = histories::generate(seed, histories::MILD, 2);
        let joined = |g: &histories::Generated| -> BTreeMap<_, _> {
            let (verdicts, _) = engine(&g.settings, &g.history);
            let class = |v: Verdict| v.conn.map(|uid| g.same[&uid.0]);
            verdicts.into_iter().map(|(id, v)| (id, class(v))).collect()
        };
        assert_eq!(joined(&one), joined(&two), "seed {seed}");
    }
}

#[test]
fn same_inputs_give_the_same_outputs_under_any_hash_seed() {
    for seed in 0..200 {
        let generated = histories::generate(seed, histories::ROUGH, seed);
        let run = |hash_seed: u64| {
            let seed = correlator_engine::Seed([hash_seed, 2, 3, hash_seed]);
            let mut harness = Harness::with_seed(generated.settings, seed);
            for (t, input) in &generated.history {
                harness.put(*t, input.clone());
            }
            harness.finish().outputs
        };
        assert_eq!(run(1), run(99), "seed {seed}");
    }
}

#[test]
fn waking_at_every_deadline_or_never_gives_the_same_outputs() {
    for seed in 0..500 {
        let generated = histories::generate(seed, histories::ROUGH, seed);
        let run = |wakes: bool| {
            let mut harness = Harness::new(generated.settings);
            for (t, input) in &generated.history {
                if wakes {
                    harness.pass(*t);
                }
                harness.put(*t, input.clone());
            }
            let outputs = harness.finish().outputs;
            outputs.into_iter().map(|(_, output)| output).collect::<Vec<_>>()
        };
        assert_eq!(run(true), run(false), "seed {seed}");
    }
}

#[test]
fn clock_of_the_tests_is_the_engines() {
    assert_eq!(at(5).wall_ns, BASE + 5);
    assert_eq!(at(7).mono_ns - at(5).mono_ns, 2);
}
