//! Prints what the engine costs, as JSON lines: CPU nanoseconds per event and bytes per connection (payload left out),
//! at 100 000 and 1 000 000 live connections.
//!
//! One turn is what a short keep-alive connection causes: hello, confirmation, four requests (the first joined by
//! address after its wait, the others by binding), close of the oldest. Times come from the events: a
//! million events a second. Payloads are an `Arc` and a number: copying bytes is not the engine's.

#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::sync::Arc;

use correlator_engine::{
    CloseReason, Confirmed, ConnUid, ConnectionEvent, ConnectionInput, Endpoint, Engine, Hello, HelloFacts,
    HttpVersion, Now, Output, Pair, RequestFacts, RequestInput, Scheme, Seed, Settings, Transport,
};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds between events.
const STEP_NS: u64 = 1_000;
const REQUESTS_PER_CONNECTION: u64 = 4;
const TURNS: u64 = 300_000;
const BASE_NS: u64 = 1_700_000_000_000_000_000;

type Payload = Arc<[u8; 256]>;

/// CPU nanoseconds of this thread.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Anonymous resident bytes of this process.
fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

struct Load {
    engine: Engine<Payload, u64>,
    payload: Payload,
    events: u64,
    next_conn: u64,
    next_seq: u64,
    joined: u64,
}

impl Load {
    fn new() -> Self {
        let settings = Settings {
            connection_bytes_max: 8 << 30,
            pending_bytes_max: 2 << 30,
            ..Settings::default()
        };
        Self {
            engine: Engine::new(
                settings,
                Seed([1, 2, 3, 4]),
                Now {
                    mono_ns: 0,
                    wall_ns: 0,
                },
            ),
            payload: Arc::new([0; 256]),
            events: 0,
            next_conn: 0,
            next_seq: 0,
            joined: 0,
        }
    }

    fn now(&mut self) -> Now {
        self.events += 1;
        let mono_ns = self.events * STEP_NS;
        Now {
            mono_ns,
            wall_ns: i64::try_from(BASE_NS + mono_ns).unwrap_or(0),
        }
    }

    fn pair(n: u64) -> Pair {
        let mut ip = [0; 16];
        ip[10] = 0xff;
        ip[11] = 0xff;
        ip[12..].copy_from_slice(&u32::try_from(n / 20_000 + 1).unwrap_or(1).to_be_bytes());
        let client = Endpoint {
            ip,
            port: u16::try_from(n % 20_000 + 1_024).unwrap_or(1),
        };
        let mut server = Endpoint { ip, port: 443 };
        server.ip[12..].copy_from_slice(&[198, 51, 100, 1]);
        Pair { client, server }
    }

    fn connection(&mut self, n: u64, event: ConnectionEvent<Payload>) {
        let now = self.now();
        self.engine.handle_connection(
            now,
            ConnectionInput {
                conn_uid: ConnUid(u128::from(n)),
                node: 0,
                event,
            },
        );
        self.drain();
    }

    fn open(&mut self) -> u64 {
        let n = self.next_conn;
        self.next_conn += 1;
        let ts_ns = i64::try_from(BASE_NS + self.events * STEP_NS).unwrap_or(0);
        let mut random = [0; 32];
        random[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let hello = Hello {
            transport: Transport::Tcp,
            pair: Self::pair(n),
            views: Vec::new(),
            open_ts_ns: Some(ts_ns),
            ts_ns,
            hello_index: 0,
            confirmed: Confirmed::None,
            client_random: Some(random),
            facts: HelloFacts::default(),
            weight: 256,
            payload: Arc::clone(&self.payload),
        };
        self.connection(n, ConnectionEvent::ClientHello(hello));
        self.connection(
            n,
            ConnectionEvent::Confirm {
                confirmed: Confirmed::Followed,
            },
        );
        n
    }

    fn close(&mut self, n: u64) {
        let ts_ns = i64::try_from(BASE_NS + self.events * STEP_NS).unwrap_or(0);
        self.connection(
            n,
            ConnectionEvent::Close {
                ts_ns,
                reason: CloseReason::Fin,
            },
        );
    }

    fn request(&mut self, n: u64) {
        let now = self.now();
        let seq = self.next_seq;
        self.next_seq += 1;
        self.engine.handle_request(
            now,
            RequestInput {
                source: 0,
                boot: 1,
                seq,
                node: 0,
                transport: Transport::Tcp,
                pair: Self::pair(n),
                proxy_client: None,
                ts_ns: now.wall_ns,
                resolution_ns: 1,
                duration_ns: 0,
                conn_id: Some(n),
                req_index: None,
                http: HttpVersion::Http1,
                scheme: Scheme::Https,
                client_random: None,
                facts: RequestFacts::default(),
                end_follows: false,
                weight: 1_000,
                payload: seq,
            },
        );
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_event() {
            if let Output::Joined(joined) = output {
                self.joined += u64::from(joined.conn.is_some());
            }
        }
    }
}

fn measure(live: u64) {
    let mut load = Load::new();
    let before = anonymous_bytes();
    let cpu = cpu_ns();
    for _ in 0..live {
        load.open();
    }
    let fill_ns = (cpu_ns() - cpu) as f64 / (2 * live) as f64;
    let memory = load.engine.memory();
    let counted = memory.connection_bytes / memory.connections;
    let resident = anonymous_bytes().saturating_sub(before) / memory.connections;

    let events = load.events;
    let cpu = cpu_ns();
    for turn in 0..TURNS {
        load.open();
        // A stride that is coprime to the number of connections: each request misses the cache.
        for k in 0..REQUESTS_PER_CONNECTION {
            let distance = ((turn / 3 + k) * 7_919) % (live / 2);
            load.request(load.next_conn - 1 - distance);
        }
        load.close(turn);
    }
    let spent = cpu_ns() - cpu;
    let events = load.events - events;
    let ns = spent as f64 / events as f64;
    let joins = load.engine.counters().joined;
    println!(
        "{{\"live\":{live},\"fill_ns_per_event\":{fill_ns:.0},\"ns_per_event\":{ns:.0},\"events_per_cpu_second\":{:.0},\
         \"bytes_per_connection\":{},\"resident_bytes_per_connection\":{resident},\"exact\":{},\"asof\":{},\"none\":{}}}",
        1e9 / ns,
        counted - 256,
        joins.exact,
        joins.asof,
        joins.none.iter().sum::<u64>(),
    );
    assert!(load.engine.counters().requests.balanced());
}

/// Each size in a process of its own, so that its memory is its own.
fn main() -> std::io::Result<()> {
    if let Some(live) = std::env::args().nth(1).and_then(|live| live.parse().ok()) {
        measure(live);
        return Ok(());
    }
    for live in ["100000", "1000000"] {
        std::process::Command::new(std::env::current_exe()?)
            .arg(live)
            .status()?;
    }
    Ok(())
}
