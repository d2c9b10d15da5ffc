//! One flooding peer takes neither the queue nor the turns of a slow one, and quotas hold.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it measured"
)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use ja4_transport::{DropReason, Input, ListenerConfig, Receiver, SocketKind};

/// Floods from one source for more than a second while another sends an event every two milliseconds, to a consumer
/// that takes an input a millisecond. Gives the slow one's events and how many of them arrived, and the
/// flooder's frames that were taken.
fn flood(kind: SocketKind) -> (u64, u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = listener(dir.path(), kind);
    config.sources.push("flood".to_owned());
    config.quotas.queue_bytes = 1 << 20;
    let path = config.path.clone();
    let receiver = start(vec![config]);
    let over = AtomicBool::new(false);
    let (mut sent, mut arrived, mut flooded) = (0, 0, 0);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let peer = Raw::connect(&path, kind);
            peer.send_frame(&hello("flood", NODE, 1));
            let one = String::from_utf8(frame(1, 0)).unwrap().replace("sensor", "flood");
            for seq in 0.. {
                let next = one.replacen("\"seq\":0", &format!("\"seq\":{seq}"), 1);
                if over.load(Ordering::Relaxed) || !peer.send_frame(next.as_bytes()) {
                    break;
                }
            }
        });
        let slow = scope.spawn(|| {
            let emitter = emitter(&path, kind, 2);
            let mut n = 0;
            while !over.load(Ordering::Relaxed) {
                emitter.send(1, &event(n));
                n += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            // What is sent by now is all that counts; acknowledgements are not given here.
            let report = emitter.stop(Duration::from_millis(500));
            assert_eq!(report.counters.dropped_total(), 0, "{report:?}");
            n
        });
        let end = Instant::now() + Duration::from_millis(1300);
        let mut take = |receiver: &Receiver| {
            let input = receiver.next(Duration::from_millis(100));
            if let Some(Input::Batch(batch)) = &input {
                let n = batch
                    .frames()
                    .filter(|frame| frame.kind == ja4_model::EventKind::Confirm)
                    .count() as u64;
                if &*batch.peer.source == "flood" {
                    flooded += n;
                } else {
                    arrived += n;
                }
            }
            input.is_some()
        };
        while Instant::now() < end {
            take(&receiver);
            std::thread::sleep(Duration::from_millis(1));
        }
        over.store(true, Ordering::Relaxed);
        // The slow one's last events come in the turns right after, not behind the flooder's queue.
        while take(&receiver) {}
        sent = slow.join().unwrap();
        while take(&receiver) {}
    });
    assert_balanced(&receiver);
    let identities = receiver.counters().identities;
    let flooder = identities
        .iter()
        .find(|identity| &*identity.source == "flood")
        .unwrap();
    let slow = identities
        .iter()
        .find(|identity| &*identity.source == "sensor")
        .unwrap();
    assert_eq!(slow.dropped_total(), 0, "{slow:?}");
    assert!(flooder.queue_bytes <= 2 << 20, "{flooder:?}");
    match kind {
        SocketKind::Stream => assert!(flooder.pauses > 0 && flooder.dropped_total() == 0, "{flooder:?}"),
        SocketKind::Seqpacket => assert!(flooder.dropped_total() > 0, "{flooder:?}"),
    }
    println!(
        "{kind:?}: slow {arrived} of {sent}, flooder {} received, {flooded} taken",
        flooder.received
    );
    (sent, arrived, flooded)
}

#[test]
fn a_flood_does_not_starve_a_slow_peer() {
    for kind in [SocketKind::Stream, SocketKind::Seqpacket] {
        let (sent, arrived, flooded) = flood(kind);
        assert_eq!(arrived, sent, "{kind:?}");
        assert!(
            sent > 50 && flooded > 10 * sent,
            "it was a flood: {flooded} beside {sent}"
        );
    }
}

#[test]
fn turns_go_round_whatever_waits() {
    // Ten peers have filled their queues before anything is taken: the first ten batches are one of each.
    const SOURCES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let dir = tempfile::tempdir().unwrap();
    let mut config = ListenerConfig {
        sources: Vec::new(),
        ..stream(dir.path())
    };
    config.quotas.queue_bytes = 300_000;
    let path = config.path.clone();
    let receiver = start(vec![config]);
    let _peers: Vec<Raw> = SOURCES
        .iter()
        .map(|source| {
            let peer = Raw::connect(&path, SocketKind::Stream);
            let frames = (0..900).map(|seq| {
                String::from_utf8(frame(1, seq))
                    .unwrap()
                    .replace("sensor", source)
                    .into_bytes()
            });
            peer.send(&lines(std::iter::once(hello(source, NODE, 1)).chain(frames)));
            peer
        })
        .collect();
    wait_for("all is read", || {
        let identities = receiver.counters().identities;
        (identities
            .iter()
            .filter(|identity| identity.pending == 900)
            .count()
            == 10)
            .then_some(())
    });
    let mut turns = Vec::new();
    while turns.len() < 20 {
        if let Some(Input::Batch(batch)) = receiver.next(DEADLINE) {
            turns.push(batch.peer.source.to_string());
        }
    }
    assert_eq!(
        turns[..10]
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        10,
        "{turns:?}"
    );
    assert_eq!(turns[..10], turns[10..]);
}

/// Sends 3000 events at once under a quota of 1000 a second.
fn over_quota(kind: SocketKind) -> (Receiver, tempfile::TempDir, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = listener(dir.path(), kind);
    config.quotas.events_per_second = 1000;
    let path = config.path.clone();
    let receiver = start(vec![config]);
    let begin = Instant::now();
    let peer = Raw::connect(&path, kind);
    peer.send_frame(&hello("sensor", NODE, 1));
    for seq in 0..3000 {
        assert!(peer.send_frame(&frame(1, seq)));
    }
    drop(peer);
    wait_for("all is read", || {
        while receiver.next(Duration::ZERO).is_some() {}
        (receiver.counters().identities.first()?.received == 3000).then_some(())
    });
    (receiver, dir, begin.elapsed())
}

#[test]
fn stream_over_its_rate_waits_and_loses_nothing() {
    let (receiver, _dir, took) = over_quota(SocketKind::Stream);
    let identity = receiver.counters().identities.remove(0);
    assert_eq!(
        (identity.dropped_total(), identity.pauses > 0),
        (0, true),
        "{identity:?}"
    );
    // A second's worth at once; one read may overdraw it.
    assert!(took > Duration::from_millis(900), "{took:?}");
}

#[test]
fn seqpacket_over_its_rate_is_dropped_with_the_reason() {
    let (receiver, dir, took) = over_quota(SocketKind::Seqpacket);
    let identity = receiver.counters().identities.remove(0);
    let passed = identity.passed as f64;
    assert!(
        (1000.0..=1001.0 + 1000.0 * took.as_secs_f64()).contains(&passed),
        "{identity:?} in {took:?}"
    );
    assert_eq!(dropped(&receiver, DropReason::Quota) + identity.passed, 3000);
    assert!(log_of(dir.path())[0].contains("raise the socket's events_per_second"));
    assert_balanced(&receiver);
}
