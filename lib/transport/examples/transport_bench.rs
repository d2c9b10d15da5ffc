//! Measures `lib/emit` and the receiver over a local socket, beside the floor: bare sends and receives of as
//! many bytes. Two processes, so that the CPU time of each side is its own. Prints a JSON line for each kind.
//!
//! `transport_bench [EVENTS]`; a million by default.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its figures and ends where it cannot measure"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ja4_emit::{EmitConfig, Emitter};
use ja4_model::{BootId, Event, EventId, EventKind, Head, Request};
use ja4_transport::{IdentityCounters, Input, ListenerConfig, Receiver, ReceiverConfig, Role, SocketKind};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType};
use rustix::time::{ClockId, clock_gettime};

const NODE: &str = "bench";

/// Bytes of one write and read of the floor on STREAM, as both sides do it.
const CHUNK_BYTES: usize = 64 << 10;

/// What one side used and did.
#[derive(Clone, Copy, Default)]
struct Side {
    cpu_seconds: f64,
    dropped: u64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--emit", kind, path, events] => emit(kind_of(kind), Path::new(path), events.parse().unwrap()),
        ["--bare", kind, path, events] => bare_send(kind_of(kind), Path::new(path), events.parse().unwrap()),
        [] => measure(1_000_000),
        [events] => measure(events.parse().expect("the number of events")),
        _ => panic!("usage: transport_bench [EVENTS]"),
    }
}

fn kind_of(name: &str) -> SocketKind {
    match name {
        "stream" => SocketKind::Stream,
        "seqpacket" => SocketKind::Seqpacket,
        _ => panic!("stream or seqpacket"),
    }
}

fn measure(events: u64) {
    let dir = tempfile::tempdir().unwrap();
    let bytes = frame().len();
    for name in ["seqpacket", "stream"] {
        let (sender, receiver, wall) = through_the_libraries(name, dir.path(), events);
        let (bare_sender, bare_receiver) = bare(name, dir.path(), events);
        let rate = |side: Side| (events as f64 / side.cpu_seconds).round();
        println!(
            "{{\"bench\":\"transport\",\"kind\":\"{name}\",\"events\":{events},\"bytes_per_event\":{bytes},\
             \"sender_events_per_cpu_second\":{},\"receiver_events_per_cpu_second\":{},\
             \"bare_send_events_per_cpu_second\":{},\"bare_receive_events_per_cpu_second\":{},\
             \"events_per_second\":{},\"dropped_by_sender\":{},\"dropped_by_receiver\":{}}}",
            rate(sender),
            rate(receiver),
            rate(bare_sender),
            rate(bare_receiver),
            (events as f64 / wall.as_secs_f64()).round(),
            sender.dropped,
            receiver.dropped
        );
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A request as a browser makes it, about a kibibyte of JSON.
fn request() -> Event<'static> {
    let headers = [
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("Accept-Language", "de-DE,de;q=0.9,en;q=0.8"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Referer", "https://shop.example.test/catalogue/shoes"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", "same-origin"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec();

    Event::Request(Box::new(Request {
        method: "GET".into(),
        scheme: "https".into(),
        host: "shop.example.test".into(),
        path: "/catalogue/shoes/running".into(),
        query: "size=43&colour=blue".into(),
        headers,
        ..Request::default()
    }))
}

fn frame() -> Vec<u8> {
    let id = EventId {
        boot: BootId(1),
        seq: 123_456,
    };
    let mut out = Vec::new();
    request().write_json(
        &Head::new("apache".into(), NODE.into(), id, 1_700_000_000_000_000_000),
        &mut out,
    );
    out
}

fn child(mode: &str, kind: &str, path: &Path, events: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([mode, kind])
        .arg(path)
        .arg(events.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the child says of itself: CPU seconds and dropped events.
fn report(child: Child) -> Side {
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "the sending process failed");
    let text = String::from_utf8(out.stdout).unwrap();
    let (cpu_seconds, dropped) = text.trim().split_once(' ').unwrap();
    Side {
        cpu_seconds: cpu_seconds.parse().unwrap(),
        dropped: dropped.parse().unwrap(),
    }
}

fn through_the_libraries(name: &str, dir: &Path, events: u64) -> (Side, Side, Duration) {
    let kind = kind_of(name);
    let path = dir.join(name);
    let listener = ListenerConfig::new(&path, kind, Role::Http, &["apache"]);
    let receiver = Receiver::start(ReceiverConfig::new(NODE, vec![listener], Arc::new(|_, _, _| 0))).unwrap();
    let (begin, before) = (Instant::now(), cpu_seconds());
    let mut child = child("--emit", name, &path, events);
    let mut taken = 0;
    loop {
        match receiver.next(Duration::from_millis(100)) {
            Some(Input::Batch(batch)) => {
                let events = batch.frames().filter(|frame| frame.kind != EventKind::Status);
                if let Some(last) = events.map(|frame| frame.id.seq).max() {
                    receiver.ack(batch.peer.origin, last + 1);
                }
                taken += batch.len();
            }
            None if child.try_wait().unwrap().is_some() => break,
            Some(_) | None => {}
        }
    }
    let wall = begin.elapsed().saturating_sub(Duration::from_millis(100));
    let cpu_seconds = cpu_seconds() - before;
    assert!(taken > 0, "nothing came");
    let dropped = receiver
        .counters()
        .identities
        .iter()
        .map(IdentityCounters::dropped_total)
        .sum();
    (report(child), Side { cpu_seconds, dropped }, wall)
}

fn emit(kind: SocketKind, path: &Path, events: u64) {
    let kind = match kind {
        SocketKind::Stream => ja4_emit::SocketKind::Stream,
        SocketKind::Seqpacket => ja4_emit::SocketKind::Seqpacket,
    };
    let emitter = Emitter::start(EmitConfig::new(path, kind, "apache", NODE, BootId(1))).unwrap();
    while !emitter.counters().connected {
        std::thread::sleep(Duration::from_millis(1));
    }
    let event = request();
    let before = cpu_seconds();
    for n in 0..events {
        emitter.send(1_700_000_000_000_000_000, &event);
        // As much as the receiver takes: what is measured is the way, not the dropping.
        if n % 64 == 0 {
            while emitter.counters().buffered_bytes > 4 << 20 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    let report = emitter.stop(Duration::from_mins(1));
    println!(
        "{} {}",
        cpu_seconds() - before,
        report.counters.dropped_total() + report.unacknowledged
    );
}

fn socket_type(kind: SocketKind) -> SocketType {
    match kind {
        SocketKind::Stream => SocketType::STREAM,
        SocketKind::Seqpacket => SocketType::SEQPACKET,
    }
}

/// The same bytes with nothing around the calls of the kernel.
fn bare(name: &str, dir: &Path, events: u64) -> (Side, Side) {
    let path = dir.join(format!("{name}.bare"));
    let socket = net::socket(AddressFamily::UNIX, socket_type(kind_of(name)), None).unwrap();
    net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    net::listen(&socket, 1).unwrap();
    let child = child("--bare", name, &path, events);
    let peer = net::accept(&socket).unwrap();
    let before = cpu_seconds();
    let mut buffer = vec![0; CHUNK_BYTES];
    while net::recv(&peer, &mut buffer[..], RecvFlags::empty()).unwrap().1 > 0 {}
    let cpu_seconds = cpu_seconds() - before;
    (
        report(child),
        Side {
            cpu_seconds,
            dropped: 0,
        },
    )
}

fn bare_send(kind: SocketKind, path: &Path, events: u64) {
    let socket = net::socket(AddressFamily::UNIX, socket_type(kind), None).unwrap();
    net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    let frame = frame();
    let before = cpu_seconds();
    match kind {
        SocketKind::Seqpacket => {
            for _ in 0..events {
                net::send(&socket, &frame, SendFlags::empty()).unwrap();
            }
        }
        SocketKind::Stream => {
            let chunk = frame.repeat(CHUNK_BYTES / frame.len() + 1);
            let mut left = frame.len() as u64 * events;
            while left > 0 {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
                left -= net::send(&socket, &chunk[..length], SendFlags::empty()).unwrap() as u64;
            }
        }
    }
    println!("{} 0", cpu_seconds() - before);
}
