//! `ja4-correlator bench`: JSON events a CPU second through decoding, redaction, join and rows, beside the floors.
//!
//! The load is what a busy HTTPS site causes: each connection has a hello, a confirmation, four requests with nine
//! headers, a close; 100 000 live connections at most. It is made in memory, so that no disk and no socket is measured.

use std::fmt::Write as _;
use std::io::{Cursor, Write};
use std::sync::Arc;

use correlator_engine::{ConnectionEvent, ConnectionInput, Engine, Now, Seed};
use ja4_common::exit::Failure;
use ja4_model::event::{EventKind, IdKind};
use ja4_model::{Event, WallNs, decode};
use rustix::time::{ClockId, clock_gettime};

use crate::batch::Batch;
use crate::config::CorrelatorConfig;
use crate::convert::{self, Stamp};
use crate::core::{Core, Incoming, Rows};
use crate::payload::{Conn, ConnKind, ConnPayload, Origin, RequestCell};
use crate::redact::Redactor;
use crate::replay::{Lines, replay_lines};

/// Requests on each connection.
const REQUESTS: u64 = 4;
/// Hello, confirmation, requests, close.
const EVENTS_PER_CONNECTION: u64 = REQUESTS + 3;
/// Connections that are open at the same time.
const LIVE: u64 = 20_000;
/// Time between two connections: 20 000 connections a second, 140 000 events a second.
const STEP_NS: u64 = 50_000;
const BASE_NS: u64 = 1_800_000_000_000_000_000;
/// Rows of a batch, as in the default configuration.
const BATCH_ROWS: usize = 50_000;

/// The two inputs of a replay.
struct Load {
    tls: Vec<u8>,
    http: Vec<u8>,
    n_events: u64,
}

/// Measures; the result is one JSON line on `out`.
pub(crate) fn run(n_events: u64, loops: u32, out: &mut dyn Write) -> Result<(), Failure> {
    let load = Load::new(n_events.div_ceil(EVENTS_PER_CONNECTION).max(1));
    let config = CorrelatorConfig::default();
    let mut best = Figures::default();
    for _ in 0..loops.max(1) {
        best.keep_better(&Figures {
            decode: decode_only(&load),
            engine: engine_only(&load, &config),
            replay: whole_replay(&load, &config)?,
            rows: rows_for_the_store(&load, &config),
        });
    }
    let per_second = |seconds: f64| {
        if seconds > 0.0 {
            (load.n_events as f64 / seconds).round()
        } else {
            0.0
        }
    };
    writeln!(
        out,
        "{{\"events\":{},\"bytes\":{},\"replay_events_per_cpu_second\":{},\"store_events_per_cpu_second\":{},\"floor_decode_events_per_cpu_second\":{},\"floor_engine_events_per_cpu_second\":{}}}",
        load.n_events,
        load.tls.len() + load.http.len(),
        per_second(best.replay),
        per_second(best.rows),
        per_second(best.decode),
        per_second(best.engine),
    )
    .map_err(Failure::failed)
}

/// CPU seconds of one pass each.
#[derive(Debug, Clone, Copy)]
struct Figures {
    decode: f64,
    engine: f64,
    replay: f64,
    rows: f64,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            decode: f64::INFINITY,
            engine: f64::INFINITY,
            replay: f64::INFINITY,
            rows: f64::INFINITY,
        }
    }
}

impl Figures {
    /// Noise only ever slows down.
    fn keep_better(&mut self, other: &Self) {
        self.decode = self.decode.min(other.decode);
        self.engine = self.engine.min(other.engine);
        self.replay = self.replay.min(other.replay);
        self.rows = self.rows.min(other.rows);
    }
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn measured<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = cpu_seconds();
    let result = work();
    (cpu_seconds() - started, result)
}

/// Floor: every line decoded and thrown away.
fn decode_only(load: &Load) -> f64 {
    let (seconds, n) = measured(|| {
        load.lines()
            .filter(|line| {
                decode::event(line).is_ok_and(|event| std::hint::black_box(event).0.seq != u64::MAX)
            })
            .count()
    });
    debug_assert_eq!(n as u64, load.n_events);
    seconds
}

/// Floor: the join alone, its inputs decoded before.
fn engine_only(load: &Load, config: &CorrelatorConfig) -> f64 {
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let mut inputs: Vec<(WallNs, EngineInput)> = load
        .lines()
        .filter_map(|line| engine_input(line, &hasher))
        .collect();
    inputs.sort_by_key(|(ts_ns, _)| *ts_ns);
    let start_ns = inputs.first().map_or(0, |(ts_ns, _)| *ts_ns);
    let now = |ts_ns: WallNs| Now {
        mono_ns: u64::try_from(ts_ns - start_ns).unwrap_or(0),
        wall_ns: ts_ns,
    };
    let mut engine: Engine<Conn, u64> =
        Engine::new(config.join.settings(), Seed([1, 2, 3, 4]), now(start_ns));
    let (seconds, ()) = measured(|| {
        for (ts_ns, input) in inputs {
            match input {
                EngineInput::Request(request) => engine.handle_request(now(ts_ns), request),
                EngineInput::Connection(connection) => engine.handle_connection(now(ts_ns), connection),
            }
            while let Some(output) = engine.poll_event() {
                std::hint::black_box(output);
            }
        }
    });
    seconds
}

enum EngineInput {
    Request(correlator_engine::RequestInput<u64>),
    Connection(ConnectionInput<Conn>),
}

fn engine_input(line: &[u8], hasher: &ahash::RandomState) -> Option<(WallNs, EngineInput)> {
    let (mut head, event) = decode::event(line).ok()?;
    let ts_ns = head.ts_ns;
    let stamp = Stamp {
        source: head.source.clone().into_owned(),
        node: head.node.clone().into_owned(),
        source_number: 0,
        node_number: 0,
        boot: head.boot,
        origin: Origin {
            boot: 0,
            seq: head.seq,
        },
        id_kind: IdKind::Producer,
        recv_ns: ts_ns,
    };
    stamp.apply(&mut head);
    let (conn_uid, event) = match event {
        Event::ClientHello(hello) => {
            let tls = Arc::new((*hello.tls).clone().into_owned());
            let payload = Arc::new(ConnPayload {
                origin: stamp.origin,
                announced: false,
                head: head.into_owned(),
                what: ConnKind::Hello(Box::new(hello.into_owned(tls))),
            });
            (
                payload.conn().conn_uid,
                convert::connection_event(&payload, hasher),
            )
        }
        Event::Confirm(confirm) => (
            confirm.conn_uid,
            ConnectionEvent::Confirm {
                confirmed: convert::confirmed(confirm.confirmed),
            },
        ),
        Event::Close(close) => (
            close.conn_uid,
            ConnectionEvent::Close {
                ts_ns,
                reason: convert::close_reason(close.reason),
            },
        ),
        Event::Request(_) => {
            let cell = RequestCell::read(line).ok()?;
            let input = convert::request_input(&stamp, cell.borrow_dependent(), hasher);
            let request = convert::with_payload(&input, cell.weight(), stamp.origin.seq);
            return Some((ts_ns, EngineInput::Request(request)));
        }
        Event::Open(_) | Event::End(_) | Event::Status(_) => return None,
    };
    let input = ConnectionInput {
        conn_uid: correlator_engine::ConnUid(conn_uid.0),
        node: 0,
        event,
    };
    Some((ts_ns, EngineInput::Connection(input)))
}

/// What `replay` does, without its files.
fn whole_replay(load: &Load, config: &CorrelatorConfig) -> Result<f64, Failure> {
    let files = [&load.tls, &load.http].map(|bytes| Lines::new("bench".to_owned(), Cursor::new(bytes)));
    let (seconds, core) = measured(|| replay_lines(files, std::io::sink(), config));
    let joined = core?.map_or(0, |core| core.totals.joined.exact + core.totals.joined.asof);
    debug_assert_eq!(joined, load.n_events / EVENTS_PER_CONNECTION * REQUESTS);
    Ok(seconds)
}

/// Rows into blocks of the store.
struct Blocks(Batch);

impl Rows for Blocks {
    fn request(&mut self, row: &ja4_model::JoinedRequest<'_>) {
        self.0.request(row);
    }
    fn hello(&mut self, row: &ja4_model::TlsRecord<'_>) {
        self.0.hello(row);
    }
    fn correction(&mut self, row: &ja4_model::Correction<'_>) {
        self.0.correction(row);
    }
    fn status(
        &mut self,
        head: &ja4_model::Head<'_>,
        status: &ja4_model::Status<'_>,
        producer: &crate::settlement::Producer,
    ) {
        self.0.status(head, status, producer);
    }
    fn settle(&mut self, origin: Origin) {
        self.0.settle(origin);
    }
}

/// What `run` does between its socket and its spool: the receiver has looked at the head of each event before.
fn rows_for_the_store(load: &Load, config: &CorrelatorConfig) -> f64 {
    let mut events: Vec<(WallNs, EventKind, u64, &[u8])> = load
        .lines()
        .filter_map(|line| {
            let brief = decode::brief(line).ok()?;
            Some((brief.ts_ns, brief.kind, brief.id.map_or(0, |id| id.seq), line))
        })
        .collect();
    events.sort_by_key(|(ts_ns, ..)| *ts_ns);
    let start_ns = events.first().map_or(0, |(ts_ns, ..)| *ts_ns);
    let redactor = Redactor::configured(b"bench", &config.redaction);
    let now = |ts_ns: WallNs| Now {
        mono_ns: u64::try_from(ts_ns - start_ns).unwrap_or(0),
        wall_ns: ts_ns,
    };
    let mut core = Core::new(
        config.join.settings(),
        [1, 2, 3, 4],
        now(start_ns),
        redactor,
        Default::default(),
    );
    let sensor = core.opened(b"sensor", b"n", ja4_model::BootId(1));
    let server = core.opened(b"apache", b"n", ja4_model::BootId(2));
    let mut blocks = Blocks(Batch::new("ja4_logs"));
    let (seconds, ()) = measured(|| {
        for (ts_ns, kind, seq, json) in events {
            let producer = if kind == EventKind::Request {
                &server
            } else {
                &sensor
            };
            let event = Incoming {
                json,
                kind,
                seq,
                id_kind: IdKind::Producer,
                recv_ns: ts_ns,
            };
            core.handle(now(ts_ns), producer, event, &mut blocks);
            if blocks.0.n_rows() >= BATCH_ROWS {
                let (_, payload, origins) = blocks.0.finish("bench");
                std::hint::black_box(payload);
                core.settlement_mut().settle_all(&origins);
            }
        }
    });
    seconds
}

impl Load {
    fn new(n_connections: u64) -> Self {
        let (mut tls, mut http) = (String::new(), String::new());
        let (mut tls_seq, mut http_seq) = (0, 0);
        for n in 0..n_connections {
            let ts_ns = BASE_NS + n * STEP_NS;
            write_hello(&mut tls, n, &mut tls_seq, ts_ns);
            for index in 0..REQUESTS {
                write_request(
                    &mut http,
                    n,
                    index,
                    &mut http_seq,
                    ts_ns + (index + 1) * STEP_NS / 8,
                );
            }
            if let Some(oldest) = n.checked_sub(LIVE) {
                write_close(&mut tls, oldest, &mut tls_seq, ts_ns + STEP_NS / 2);
            }
        }
        for n in n_connections.saturating_sub(LIVE)..n_connections {
            write_close(&mut tls, n, &mut tls_seq, BASE_NS + (n_connections + n) * STEP_NS);
        }
        Self {
            tls: tls.into_bytes(),
            http: http.into_bytes(),
            n_events: n_connections * EVENTS_PER_CONNECTION,
        }
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.tls
            .split(|byte| *byte == b'\n')
            .chain(self.http.split(|byte| *byte == b'\n'))
            .filter(|line| !line.is_empty())
    }
}

fn head(out: &mut String, event: &str, producer: (&str, u64), seq: &mut u64, ts_ns: u64) {
    let (source, boot) = producer;
    push(
        out,
        format_args!(
            "{{\"v\":1,\"event\":\"{event}\",\"source\":\"{source}\",\"node\":\"n\",\"boot\":\"{boot:016x}\",\"seq\":{seq},\"ts_ns\":{ts_ns},"
        ),
    );
    *seq += 1;
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String does not fail");
}

fn client(n: u64) -> String {
    format!(
        "\"client_ip\":\"10.{}.{}.{}\",\"client_port\":{},\"server_ip\":\"192.0.2.1\",\"server_port\":443",
        n / 50_000 % 250,
        n % 250,
        n / 250 % 250,
        10_000 + n % 50_000
    )
}

fn write_hello(out: &mut String, n: u64, seq: &mut u64, ts_ns: u64) {
    let sensor = ("sensor", 1);
    head(out, "client_hello", sensor, seq, ts_ns);
    let (client, ja4, random) = (client(n), n % 40, n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    push(
        out,
        format_args!(
            "\"conn_uid\":\"{n:032x}\",\"transport\":\"tcp\",{client},\"open_ts_ns\":{},\"syn_to_hello_us\":800,\
             \"tcp\":{{\"ttl\":57,\"window\":64240,\"mss\":1460,\"wscale\":7,\"options\":[2,4,8,1,3],\"timestamps\":true}},\
             \"direction\":\"ingress\",\"confirmed\":\"acked\",\"hello_index\":0,\"ja4\":\"t13d1516h2_8daaf6152771_{ja4:012x}\",\
             \"ja4_r\":\"t13d1516h2_002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9_0005,000a,000b,000d,0012,0017,001b,0023,002b,002d,0033,4469,fe0d,ff01_0403,0804,0401,0503,0805,0501,0806,0601\",\
             \"ja3\":\"{ja4:032x}\",\"ja4_norm\":\"t13d1515h2_8daaf6152771_{ja4:012x}\",\"sni\":\"site-{}.example\",\
             \"alpn\":[\"h2\",\"http/1.1\"],\"tls_version\":\"13\",\"client_random\":\"{random:064x}\",\"hello_bytes\":1787,\
             \"ech\":true,\"psk\":false,\"pq\":true}}\n",
            ts_ns - 800_000,
            n % 5
        ),
    );
    head(out, "confirm", sensor, seq, ts_ns + STEP_NS / 16);
    push(
        out,
        format_args!("\"conn_uid\":\"{n:032x}\",\"confirmed\":\"followed\"}}\n"),
    );
}

fn write_close(out: &mut String, n: u64, seq: &mut u64, ts_ns: u64) {
    head(out, "close", ("sensor", 1), seq, ts_ns);
    let client = client(n);
    push(
        out,
        format_args!("\"conn_uid\":\"{n:032x}\",{client},\"reason\":\"fin\",\"confirmed\":\"followed\"}}\n"),
    );
}

fn write_request(out: &mut String, n: u64, index: u64, seq: &mut u64, ts_ns: u64) {
    head(out, "request", ("apache", 2), seq, ts_ns);
    let (client, version) = (client(n), 100 + n % 30);
    push(
        out,
        format_args!(
            "\"transport\":\"tcp\",{client},\"conn_id\":\"{n}\",\"req_index\":{index},\"method\":\"GET\",\"scheme\":\"https\",\
             \"host\":\"site-{}.example\",\"path\":\"/catalogue/items/{}\",\"query\":\"page={index}&sort=price\",\"http_version\":\"1.1\",\
             \"headers\":[[\"Host\",\"site.example\"],[\"User-Agent\",\"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36\"],\
             [\"Accept\",\"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\"],\
             [\"Accept-Language\",\"en-GB,en;q=0.9,de;q=0.8\"],[\"Accept-Encoding\",\"gzip, deflate, br, zstd\"],\
             [\"Referer\",\"https://site.example/catalogue\"],[\"Cookie\",\"session=0f3a9c{n:016x}; theme=dark\"],\
             [\"Sec-Fetch-Site\",\"same-origin\"],[\"Sec-Fetch-Mode\",\"navigate\"]],\
             \"headers_form\":\"ordered\",\"headers_case\":true,\"headers_dups\":true,\"status\":200,\"bytes_sent\":{},\"duration_us\":1234,\
             \"tls\":{{\"version\":\"TLSv1.3\",\"cipher\":\"TLS_AES_128_GCM_SHA256\"}}}}\n",
            n % 5,
            n % 977,
            1000 + n % 5000
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_joined_to_the_last_request() {
        let load = Load::new(300);
        let files = [&load.tls, &load.http].map(|bytes| Lines::new("bench".to_owned(), Cursor::new(bytes)));
        let mut out = Vec::new();
        let core = replay_lines(files, &mut out, &CorrelatorConfig::default())
            .unwrap()
            .unwrap();
        let joined = &core.totals.joined;
        assert_eq!(
            (joined.exact + joined.asof, joined.total()),
            (300 * REQUESTS, 300 * REQUESTS),
            "{joined:?}"
        );
        assert_eq!(out.split(|byte| *byte == b'\n').count() - 1, 1200);
    }
}
