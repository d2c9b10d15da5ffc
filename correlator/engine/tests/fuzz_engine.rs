//! Any sequence of inputs: no panic, memory under its caps, every payload out exactly once.

mod common;

use std::time::Duration;

use common::{BASE, Rng, usual};
use correlator_engine::{
    Alpn, CloseReason, Confirmed, ConnUid, ConnectionEvent, ConnectionInput, Endpoint, Engine, Gap, Hello,
    HelloFacts, HttpVersion, Now, Opened, Output, Pair, RequestEnd, RequestFacts, RequestInput, Scheme, Seed,
    ServerSide, Settings, Transport,
};

/// Steps of one run at least. The stable runner gives some 32 bytes, two or three steps: too few to join anything.
const STEPS_MIN: usize = 300;

/// Reads small choices from the fuzzer's bytes, and after their end from numbers that they seed.
struct Bytes<'a>(&'a [u8], Rng);

impl<'a> Bytes<'a> {
    fn new(input: &'a [u8]) -> Self {
        let seed = input.iter().fold(0_u64, |seed, byte| {
            seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
        });
        Self(input, Rng(seed))
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return self.1.next().to_le_bytes()[7];
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, n: u8) -> u8 {
        self.byte() % n
    }

    fn bool(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Mostly near now, sometimes at the ends of what fits.
    fn ts(&mut self, now: i64) -> i64 {
        match self.below(32) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => 0,
            n => now.saturating_add((i64::from(n) - 16) * i64::from(self.byte()) * 1_000_000),
        }
    }

    fn endpoint(&mut self) -> Endpoint {
        let mut endpoint = usual().client;
        endpoint.ip[15] = self.below(3);
        endpoint.port = u16::from(self.below(4));
        if self.below(16) == 0 {
            endpoint.ip = [0; 16];
        }
        endpoint
    }

    fn pair(&mut self) -> Pair {
        Pair {
            client: self.endpoint(),
            server: self.endpoint(),
        }
    }

    fn views(&mut self) -> Vec<Pair> {
        let n = if self.below(8) == 0 { self.below(40) } else { 0 };
        (0..n).map(|_| self.pair()).collect()
    }

    fn transport(&mut self) -> Transport {
        if self.below(8) == 0 {
            Transport::Udp
        } else {
            Transport::Tcp
        }
    }

    fn confirmed(&mut self) -> Confirmed {
        [Confirmed::None, Confirmed::Acked, Confirmed::Followed][usize::from(self.below(3))]
    }

    fn random(&mut self) -> Option<[u8; 32]> {
        self.bool().then(|| [self.below(6); 32])
    }

    fn hash(&mut self) -> Option<u64> {
        self.bool().then(|| u64::from(self.below(3)))
    }

    fn weight(&mut self) -> u32 {
        if self.below(64) == 0 {
            u32::MAX
        } else {
            u32::from(self.byte()) * 8
        }
    }
}

fn settings(bytes: &mut Bytes<'_>) -> Settings {
    let wait = |n: u8| Duration::from_millis(u64::from(n) * 10);
    Settings {
        server_side: [ServerSide::Strict, ServerSide::Port, ServerSide::Ignore][usize::from(bytes.below(3))],
        proxy_key: bytes.bool(),
        orphan_wait: wait(bytes.below(60)),
        end_wait: if bytes.below(16) == 0 {
            Duration::MAX
        } else {
            wait(bytes.byte())
        },
        late_retention: wait(bytes.byte()),
        confirm_wait: wait(bytes.below(30)),
        merge_wait: wait(bytes.below(100)),
        warmup: wait(bytes.byte()),
        gap_memory: wait(bytes.byte()),
        connection_bytes_max: 1_000 * usize::from(bytes.byte()),
        pending_bytes_max: 1_000 * usize::from(bytes.byte()),
        corrections: bytes.bool(),
        correction_window: wait(bytes.byte()),
        corrections_max: usize::from(bytes.below(20)),
        evicted_keys_max: usize::from(bytes.below(5)),
        streams_max: usize::from(bytes.below(4)),
        ..Settings::default()
    }
}

/// What went in and what must come out.
#[derive(Default)]
struct Account {
    hellos: u64,
    openings: u64,
    requests: u64,
    hellos_out: u64,
    openings_out: u64,
    requests_out: u64,
}

const OPENING: u32 = 1;

fn drain(engine: &mut Engine<u32, ()>, account: &mut Account) {
    while let Some(output) = engine.poll_event() {
        match output {
            Output::Joined(joined) => account.requests_out += 1 + u64::from(joined.end.is_some()),
            Output::DroppedRequest { .. } => account.requests_out += 1,
            Output::DroppedConnection { payload: OPENING, .. } => account.openings_out += 1,
            Output::Tls(_) | Output::DroppedConnection { .. } => account.hellos_out += 1,
            Output::Correction(correction) => assert!(correction.conn.confirmed > Confirmed::None),
        }
    }
}

fn step(engine: &mut Engine<u32, ()>, bytes: &mut Bytes<'_>, now: Now, account: &mut Account) {
    let uid = ConnUid(u128::from(bytes.below(24)));
    let node = u32::from(bytes.below(3));
    let connection = |event| ConnectionInput {
        conn_uid: uid,
        node,
        event,
    };
    match bytes.below(9) {
        0 => {
            account.openings += 1;
            let opened = Opened {
                transport: bytes.transport(),
                pair: bytes.pair(),
                views: bytes.views(),
                ts_ns: bytes.ts(now.wall_ns),
                confirmed: bytes.confirmed(),
                weight: bytes.weight(),
                payload: OPENING,
            };
            engine.handle_connection(now, connection(ConnectionEvent::Open(opened)));
        }
        1 | 2 => {
            account.hellos += 1;
            let hello = Hello {
                transport: bytes.transport(),
                pair: bytes.pair(),
                views: bytes.views(),
                open_ts_ns: bytes.bool().then(|| bytes.ts(now.wall_ns)),
                ts_ns: bytes.ts(now.wall_ns),
                hello_index: if bytes.below(4) == 0 { bytes.byte() } else { 0 },
                confirmed: bytes.confirmed(),
                client_random: bytes.random(),
                facts: HelloFacts {
                    ja4_hash: bytes.hash(),
                    sni_hash: bytes.hash(),
                    ech: bytes.bool(),
                    alpn: [Alpn::UNKNOWN, Alpn::HTTP2][usize::from(bytes.bool())],
                },
                weight: bytes.weight(),
                payload: 0,
            };
            engine.handle_connection(now, connection(ConnectionEvent::ClientHello(hello)));
        }
        3 => {
            let event = ConnectionEvent::Confirm {
                confirmed: bytes.confirmed(),
            };
            engine.handle_connection(now, connection(event));
        }
        4 => {
            let reason =
                [CloseReason::Fin, CloseReason::Idle, CloseReason::Replaced][usize::from(bytes.below(3))];
            let event = ConnectionEvent::Close {
                ts_ns: bytes.ts(now.wall_ns),
                reason,
            };
            engine.handle_connection(now, connection(event));
        }
        5 | 6 => {
            account.requests += 1;
            let request = RequestInput {
                source: node,
                boot: u64::from(bytes.below(2)),
                seq: u64::from(bytes.byte()),
                node,
                transport: bytes.transport(),
                pair: bytes.pair(),
                proxy_client: bytes.bool().then(|| bytes.endpoint()),
                ts_ns: bytes.ts(now.wall_ns),
                resolution_ns: if bytes.below(32) == 0 { u64::MAX } else { 1 },
                duration_ns: if bytes.below(32) == 0 { u64::MAX } else { 0 },
                conn_id: bytes.bool().then(|| u64::from(bytes.below(4))),
                req_index: bytes.bool().then(|| u32::from(bytes.below(3))),
                http: [HttpVersion::Unknown, HttpVersion::Http1, HttpVersion::Http2]
                    [usize::from(bytes.below(3))],
                scheme: [Scheme::Unknown, Scheme::Http, Scheme::Https][usize::from(bytes.below(3))],
                client_random: bytes.random(),
                facts: RequestFacts {
                    ja4_hash: bytes.hash(),
                    sni_hash: bytes.hash(),
                    host_hash: bytes.hash(),
                },
                end_follows: bytes.bool(),
                weight: bytes.weight(),
                payload: (),
            };
            engine.handle_request(now, request);
        }
        7 => {
            account.requests += 1;
            let end = RequestEnd {
                source: node,
                boot: u64::from(bytes.below(2)),
                request_seq: u64::from(bytes.byte()),
                weight: bytes.weight(),
                payload: (),
            };
            engine.handle_request_end(now, end);
        }
        _ => engine.handle_gap(
            now,
            Gap {
                from_ns: bytes.ts(now.wall_ns),
                to_ns: bytes.ts(now.wall_ns),
            },
        ),
    }
}

fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let mut n_steps = 0;
    let settings = settings(&mut bytes);
    let mut now = Now {
        mono_ns: 1_000_000_000,
        wall_ns: BASE,
    };
    let mut engine = Engine::new(settings, Seed([1, 2, 3, 4]), now);
    let mut account = Account::default();
    while n_steps < STEPS_MIN || !bytes.0.is_empty() {
        n_steps += 1;
        let passes = match bytes.below(64) {
            0 => u64::MAX / 4,
            1 => 0_u64.wrapping_sub(1_000_000),
            n => u64::from(n) * 200_000,
        };
        now.mono_ns = now.mono_ns.wrapping_add(passes).max(1);
        now.wall_ns = bytes.ts(now.wall_ns).clamp(BASE - 1_000_000_000, i64::MAX / 2);
        step(&mut engine, &mut bytes, now, &mut account);
        drain(&mut engine, &mut account);
        if bytes.below(8) == 0 {
            if let Some(due) = engine.next_deadline() {
                now.mono_ns = now.mono_ns.max(due);
            }
            engine.handle_timeout(now);
            drain(&mut engine, &mut account);
        }
        check(&engine, &settings);
    }
    engine.handle_shutdown(now);
    drain(&mut engine, &mut account);
    let counters = engine.counters();
    for flow in [counters.requests, counters.ends, counters.connections] {
        assert_eq!(flow.pending, 0, "{flow:?}");
    }
    assert_eq!(account.hellos, account.hellos_out, "each hello is out");
    assert_eq!(
        account.requests, account.requests_out,
        "each request and end is out"
    );
    assert!(account.openings_out <= account.openings);
}

fn check(engine: &Engine<u32, ()>, settings: &Settings) {
    let counters = engine.counters();
    for flow in [counters.requests, counters.ends, counters.connections] {
        assert!(flow.balanced(), "{flow:?}");
    }
    let memory = engine.memory();
    assert!(
        memory.connection_bytes <= settings.connection_bytes_max,
        "{memory:?}"
    );
    assert!(memory.pending_bytes <= settings.pending_bytes_max, "{memory:?}");
    assert!(memory.orphans <= settings.corrections_max, "{memory:?}");
    let due = engine.next_deadline();
    assert!(
        due.is_some() || memory.pending_requests + memory.pending_rows == 0,
        "what waits has a deadline"
    );
    assert!(
        engine.quiet_until() <= due.unwrap_or(u64::MAX),
        "never quiet past a deadline"
    );
}

#[test]
fn any_inputs_keep_the_books_and_the_caps() {
    bolero::check!()
        .with_test_time(Duration::from_secs(10))
        .with_max_len(4_096)
        .for_each(run);
}
