//! What the tests share: builders of events, a harness that accounts for every payload, a generator of numbers.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use correlator_engine::{
    CloseReason, Confirmed, ConnUid, ConnectionEvent, ConnectionInput, Correction, Endpoint, Engine, Gap,
    Hello, HelloFacts, HttpVersion, Joined, Now, Opened, Output, Pair, RequestEnd, RequestFacts,
    RequestInput, Scheme, Seed, Settings, TlsRow, Transport,
};

/// Nanoseconds of a millisecond.
pub const MS: i64 = 1_000_000;
/// Nanoseconds of a second.
pub const S: i64 = 1_000 * MS;
/// The epoch time of the tests' zero.
pub const BASE: i64 = 1_700_000_000 * S;

/// Both clocks at `t` nanoseconds after the tests' zero.
pub fn at(t: i64) -> Now {
    Now {
        mono_ns: u64::try_from(t + 10_000 * S).expect("tests stay above the zero"),
        wall_ns: BASE + t,
    }
}

pub fn endpoint(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().expect("an address").into()
}

pub fn pair(client: &str, server: &str) -> Pair {
    Pair {
        client: endpoint(client),
        server: endpoint(server),
    }
}

/// The pair that tests use when addresses do not matter.
pub fn usual() -> Pair {
    pair("192.0.2.1:40000", "198.51.100.1:443")
}

/// One input.
#[derive(Clone, Debug)]
pub enum Input {
    Connection(ConnectionInput<u32>),
    Request(RequestInput<u32>),
    End(RequestEnd<u32>),
    Gap(Gap),
}

/// A confirmed hello of sensor node 0 at `ts`; the SYN is a millisecond earlier.
pub fn hello(uid: u128, pair: Pair, ts: i64) -> Hello<u32> {
    let mut random = [0; 32];
    random[..16].copy_from_slice(&uid.to_le_bytes());
    random[31] = 1;
    Hello {
        transport: Transport::Tcp,
        pair,
        views: Vec::new(),
        open_ts_ns: Some(BASE + ts - MS),
        ts_ns: BASE + ts,
        hello_index: 0,
        confirmed: Confirmed::Acked,
        client_random: Some(random),
        facts: HelloFacts::default(),
        weight: 300,
        payload: 0,
    }
}

pub fn opened(pair: Pair, ts: i64) -> Opened<u32> {
    Opened {
        transport: Transport::Tcp,
        pair,
        views: Vec::new(),
        ts_ns: BASE + ts,
        confirmed: Confirmed::Acked,
        weight: 100,
        payload: 0,
    }
}

pub fn event(uid: u128, node: u32, event: ConnectionEvent<u32>) -> Input {
    Input::Connection(ConnectionInput {
        conn_uid: ConnUid(uid),
        node,
        event,
    })
}

pub fn confirm(uid: u128, confirmed: Confirmed) -> Input {
    event(uid, 0, ConnectionEvent::Confirm { confirmed })
}

pub fn close(uid: u128, ts: i64, reason: CloseReason) -> Input {
    event(
        uid,
        0,
        ConnectionEvent::Close {
            ts_ns: BASE + ts,
            reason,
        },
    )
}

/// A request of source 1 on node 0 that started at `ts`.
pub fn request(seq: u64, pair: Pair, ts: i64) -> RequestInput<u32> {
    RequestInput {
        source: 1,
        boot: 1,
        seq,
        node: 0,
        transport: Transport::Tcp,
        pair,
        proxy_client: None,
        ts_ns: BASE + ts,
        resolution_ns: 1,
        duration_ns: 0,
        conn_id: None,
        req_index: None,
        http: HttpVersion::Http1,
        scheme: Scheme::Https,
        client_random: None,
        facts: RequestFacts::default(),
        end_follows: false,
        weight: 1_000,
        payload: 0,
    }
}

/// Settings of most tests: no warm-up, so that a missing connection says why.
pub fn settled() -> Settings {
    Settings {
        warmup: std::time::Duration::ZERO,
        ..Settings::default()
    }
}

/// An engine whose every payload is accounted for.
pub struct Harness {
    pub engine: Engine<u32, u32>,
    pub outputs: Vec<(i64, Output<u32, u32>)>,
    next_payload: u32,
    now: i64,
    /// Payload of a request or end: times that it came out.
    requests_out: BTreeMap<u32, u32>,
    hellos_out: BTreeMap<u32, u32>,
}

impl Harness {
    pub fn new(settings: Settings) -> Self {
        Self::with_seed(settings, Seed([1, 2, 3, 4]))
    }

    pub fn with_seed(settings: Settings, seed: Seed) -> Self {
        Self {
            engine: Engine::new(settings, seed, at(0)),
            outputs: Vec::new(),
            next_payload: 1,
            now: 0,
            requests_out: BTreeMap::new(),
            hellos_out: BTreeMap::new(),
        }
    }

    /// Hands an input in at `t`; its payload.
    pub fn put(&mut self, t: i64, input: Input) -> u32 {
        let payload = self.next_payload;
        self.next_payload += 1;
        self.now = self.now.max(t);
        match input {
            Input::Connection(mut input) => {
                match &mut input.event {
                    ConnectionEvent::Open(opened) => opened.payload = payload,
                    ConnectionEvent::ClientHello(hello) => {
                        hello.payload = payload;
                        self.hellos_out.insert(payload, 0);
                    }
                    ConnectionEvent::Confirm { .. } | ConnectionEvent::Close { .. } => {}
                }
                self.engine.handle_connection(at(t), input);
            }
            Input::Request(mut input) => {
                input.payload = payload;
                self.requests_out.insert(payload, 0);
                self.engine.handle_request(at(t), input);
            }
            Input::End(mut input) => {
                input.payload = payload;
                self.requests_out.insert(payload, 0);
                self.engine.handle_request_end(at(t), input);
            }
            Input::Gap(gap) => self.engine.handle_gap(at(t), gap),
        }
        self.drain();
        payload
    }

    pub fn hello(&mut self, t: i64, uid: u128, node: u32, hello: Hello<u32>) -> u32 {
        self.put(t, event(uid, node, ConnectionEvent::ClientHello(hello)))
    }

    pub fn open(&mut self, t: i64, uid: u128, opened: Opened<u32>) -> u32 {
        self.put(t, event(uid, 0, ConnectionEvent::Open(opened)))
    }

    pub fn request(&mut self, t: i64, request: RequestInput<u32>) -> u32 {
        self.put(t, Input::Request(request))
    }

    /// Lets time pass, waking the engine exactly at its deadlines.
    pub fn pass(&mut self, until: i64) {
        while let Some(due) = self.engine.next_deadline()
            && due <= at(until).mono_ns
        {
            let due = i64::try_from(due).expect("in range") - 10_000 * S;
            self.now = self.now.max(due);
            self.engine.handle_timeout(at(due));
            self.drain();
        }
        self.now = self.now.max(until);
        self.engine.handle_timeout(at(until));
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_event() {
            match &output {
                Output::Joined(joined) => {
                    *self
                        .requests_out
                        .get_mut(&joined.request)
                        .expect("a known request") += 1;
                    if let Some(end) = joined.end {
                        *self.requests_out.get_mut(&end).expect("a known end") += 1;
                    }
                }
                Output::DroppedRequest { payload, .. } => {
                    *self
                        .requests_out
                        .get_mut(payload)
                        .expect("a known request or end") += 1;
                }
                Output::Tls(row) => *self.hellos_out.get_mut(&row.payload).expect("a known hello") += 1,
                Output::DroppedConnection { payload, .. } => {
                    if let Some(n) = self.hellos_out.get_mut(payload) {
                        *n += 1;
                    }
                }
                Output::Correction(_) => {}
            }
            self.outputs.push((self.now, output));
        }
        let counters = self.engine.counters();
        assert!(counters.requests.balanced(), "requests: {:?}", counters.requests);
        assert!(counters.ends.balanced(), "ends: {:?}", counters.ends);
        assert!(
            counters.connections.balanced(),
            "connections: {:?}",
            counters.connections
        );
    }

    /// Stops the engine and checks that every payload came out exactly once.
    pub fn finish(mut self) -> Finished {
        self.engine.handle_shutdown(at(self.now));
        self.drain();
        let counters = *self.engine.counters();
        for flow in [counters.requests, counters.ends, counters.connections] {
            assert_eq!(flow.pending, 0, "{flow:?}");
        }
        assert!(
            self.requests_out.values().all(|n| *n == 1),
            "requests once each: {:?}",
            self.requests_out
        );
        assert!(
            self.hellos_out.values().all(|n| *n == 1),
            "hellos once each: {:?}",
            self.hellos_out
        );
        let joins = counters.joined;
        let rows = joins.exact + joins.asof + joins.ambiguous + joins.none.iter().sum::<u64>();
        assert_eq!(rows, counters.requests.passed, "each row has a match");
        Finished {
            outputs: self.outputs,
            counters,
        }
    }

    /// The joined row of a request, and when it came out.
    #[track_caller]
    pub fn joined_at(&self, payload: u32) -> (i64, &Joined<u32, u32>) {
        let found = self.outputs.iter().find_map(|(t, output)| match output {
            Output::Joined(joined) if joined.request == payload => Some((*t, joined)),
            _ => None,
        });
        found.expect("the request is out")
    }

    #[track_caller]
    pub fn joined(&self, payload: u32) -> &Joined<u32, u32> {
        self.joined_at(payload).1
    }

    pub fn is_out(&self, payload: u32) -> bool {
        self.outputs
            .iter()
            .any(|(_, output)| matches!(output, Output::Joined(joined) if joined.request == payload))
    }

    pub fn tls_rows(&self) -> Vec<(i64, &TlsRow<u32>)> {
        let rows = self.outputs.iter().filter_map(|(t, output)| match output {
            Output::Tls(row) => Some((*t, row)),
            _ => None,
        });
        rows.collect()
    }

    pub fn corrections(&self) -> Vec<&Correction<u32>> {
        let corrections = self.outputs.iter().filter_map(|(_, output)| match output {
            Output::Correction(correction) => Some(correction),
            _ => None,
        });
        corrections.collect()
    }
}

/// What an engine put out until its end.
pub struct Finished {
    pub outputs: Vec<(i64, Output<u32, u32>)>,
    pub counters: correlator_engine::Counters,
}

/// A small generator of numbers (`SplitMix64`), the same on every machine.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number in `low..high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(high - low).expect("low < high");
        low + i64::try_from(self.next() % span).expect("fits")
    }

    /// An index below `len`.
    pub fn below(&mut self, len: usize) -> usize {
        usize::try_from(self.range(0, i64::try_from(len).expect("fits"))).expect("not negative")
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}
