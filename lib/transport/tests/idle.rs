//! Peers that connect and do nothing, and peers that never listen: they cost a bounded amount of memory
//! and no CPU time, and everybody else is served.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it measured"
)]

mod common;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::*;
use ja4_transport::{Input, Receiver, RefuseReason, SocketKind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// These tests look at the memory and the CPU time of the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Idle connections where the machine allows it.
const IDLE: u64 = 10_000;

/// Raises the limit of open files so far that both ends of so many connections fit; gives how many do.
fn descriptors_for(wanted: u64) -> u64 {
    let needed = 2 * wanted + 1000;
    let raised = Rlimit {
        current: Some(needed),
        maximum: Some(needed),
    };
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < needed) && setrlimit(Resource::Nofile, raised).is_err() {
        let maximum = limit.maximum.unwrap_or(needed);
        println!("only {maximum} open files are allowed: fewer connections than {wanted} are tried");
        let all = Rlimit {
            current: Some(maximum),
            maximum: Some(maximum),
        };
        setrlimit(Resource::Nofile, all).unwrap();
        return (maximum - 1000) / 2;
    }
    wanted
}

#[test]
fn ten_thousand_silent_connections_are_held_and_then_closed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let n_idle = descriptors_for(IDLE);
    let dir = tempfile::tempdir().unwrap();
    let mut listeners = vec![stream(dir.path()), seqpacket(dir.path())];
    for listener in &mut listeners {
        listener.quotas.connections_per_uid = 20_000;
    }
    let mut config = config(listeners);
    // As long as it takes to connect them all and to serve somebody beside them.
    config.greeting_timeout = Duration::from_secs(3);
    drop(start(Vec::new()));
    let receiver = Receiver::start(config).unwrap();
    let (stream, seqpacket) = (dir.path().join("s.sock"), dir.path().join("p.sock"));
    let before = anonymous_bytes();
    let idle: Vec<Raw> = (0..n_idle)
        .map(|n| match n % 2 {
            0 => Raw::connect(&stream, SocketKind::Stream),
            _ => Raw::connect(&seqpacket, SocketKind::Seqpacket),
        })
        .collect();
    let open = || {
        receiver
            .counters()
            .listeners
            .iter()
            .map(|listener| listener.open)
            .sum::<u64>()
    };
    wait_for("all are accepted", || {
        let accepted: u64 = receiver
            .counters()
            .listeners
            .iter()
            .map(|listener| listener.accepted)
            .sum();
        (accepted >= n_idle).then_some(())
    });
    let held = open();
    serves(&receiver, &stream, SocketKind::Stream);
    serves(&receiver, &seqpacket, SocketKind::Seqpacket);
    let grown = anonymous_bytes().saturating_sub(before);
    println!("{held} of {n_idle} silent connections held in {grown} bytes");
    assert!(grown < 64 << 20, "{n_idle} silent connections cost {grown} bytes");
    wait_for("all are closed for their silence", || {
        (refused(&receiver, RefuseReason::GreetingTimeout) == n_idle && open() == 0).then_some(())
    });
    let log = log_of(dir.path());
    assert_eq!(log.len(), 2, "one line for each socket: {log:?}");
    assert!(
        log.iter()
            .all(|line| line.contains("did not greet in time: see what connects here"))
    );
    serves(&receiver, &stream, SocketKind::Stream);
    drop(idle);
}

#[test]
fn a_peer_that_never_reads_its_acknowledgements_gets_only_the_newest() {
    const EVENTS: u64 = 20_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let receiver = start(vec![stream(dir.path())]);
    let before = anonymous_bytes();
    let deaf = Raw::connect(&path, SocketKind::Stream);
    deaf.send_frame(&hello("sensor", NODE, 7));
    let (mut taken, mut acks) = (0, 0_u64);
    for seq in 0..EVENTS {
        assert!(
            deaf.send_frame(&frame(7, seq)),
            "it is served though it does not listen"
        );
        while let Some(input) = receiver.next(Duration::ZERO) {
            if let Input::Batch(batch) = input {
                taken += batch.len() as u64;
                receiver.ack(batch.peer.origin, taken);
                acks += 1;
            }
        }
    }
    taken += take_frames(&receiver, usize::try_from(EVENTS - taken).unwrap()).len() as u64;
    assert_eq!(taken, EVENTS);
    let grown = anonymous_bytes().saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "{acks} unread acknowledgements cost {grown} bytes"
    );
    serves(&receiver, &path, SocketKind::Stream);
    // What the kernel had no room for was replaced by newer ones: the last word is the newest.
    let last = format!("{{\"ack\":{EVENTS}}}\n");
    let mut said = Vec::new();
    wait_for("the newest acknowledgement comes", || {
        said.extend(deaf.read_now());
        said.ends_with(last.as_bytes()).then_some(())
    });
    println!(
        "{acks} acknowledgements given, {} bytes said, {grown} bytes of memory",
        said.len()
    );
}

#[test]
fn a_peer_that_goes_while_it_may_not_be_read_costs_no_time() {
    const EVENTS: usize = 800;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let mut config = stream(dir.path());
    config.quotas.queue_bytes = 20_000;
    let path = config.path.clone();
    let receiver = start(vec![config]);
    let peer = Raw::connect(&path, SocketKind::Stream);
    peer.send_frame(&hello("sensor", NODE, 7));
    // More than one read, less than the kernel holds.
    let sent = lines((0..EVENTS as u64).map(|seq| frame(7, seq)));
    assert!((100_000..190_000).contains(&sent.len()), "{}", sent.len());
    assert!(peer.send(&sent));
    drop(peer);
    wait_for("the queue is full", || {
        (receiver.counters().identities.first()?.pauses > 0).then_some(())
    });
    // An acknowledgement that nobody takes any more must not end the reading either.
    if let Some(Input::Opened(peer)) = receiver.next(DEADLINE) {
        receiver.ack(peer.origin, 1);
    }
    let before = receiver_cpu_seconds();
    std::thread::sleep(Duration::from_secs(1));
    let spent = receiver_cpu_seconds() - before;
    assert!(spent < 0.3, "{spent} s of CPU time in a second of waiting");
    let (mut taken, mut closed) = (0, false);
    wait_for("everything is taken, then the end is seen", || {
        match receiver.next(Duration::from_millis(50)) {
            Some(Input::Batch(batch)) => taken += batch.len(),
            Some(Input::Closed(_)) => closed = true,
            _ => {}
        }
        closed.then_some(())
    });
    assert_eq!(taken, EVENTS);
    assert_balanced(&receiver);
}
