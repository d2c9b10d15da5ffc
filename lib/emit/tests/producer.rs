//! A producer beside receivers that are absent, stuck or slow: it is never held up, and no number goes astray.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ja4_emit::{Counters, DropReason, EmitConfig, Emitter, SendOutcome, SocketKind};
use ja4_model::{BootId, Confirm, Confirmed, ConnUid, Event, Request, Status};

/// Longer than anything here takes, also on a machine that does much else.
const DEADLINE: Duration = Duration::from_mins(1);

fn config(path: &Path) -> EmitConfig {
    EmitConfig::new(path, SocketKind::Stream, "sensor", "web-1", BootId(1))
}

fn event() -> Event<'static> {
    Event::Confirm(Confirm {
        conn_uid: ConnUid(1),
        confirmed: Confirmed::Acked,
    })
}

/// An event with a path of so many bytes.
fn long_event(bytes: usize) -> Event<'static> {
    Event::Request(Box::new(Request {
        path: "x".repeat(bytes).into(),
        ..Request::default()
    }))
}

fn dropped(counters: &Counters, reason: DropReason) -> u64 {
    counters
        .dropped
        .iter()
        .filter(|(of, _)| *of == reason)
        .map(|(_, n)| n)
        .sum()
}

#[track_caller]
fn assert_balanced(counters: &Counters) {
    assert_eq!(
        counters.next_seq,
        counters.acked + counters.dropped_total() + counters.pending,
        "{counters:?}"
    );
}

/// Takes the connection, reads the greeting and welcomes it.
fn welcome(listener: &UnixListener) -> (UnixStream, BufReader<UnixStream>) {
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut lines = BufReader::new(peer.try_clone().unwrap());
    let mut greeting = String::new();
    lines.read_line(&mut greeting).unwrap();
    assert!(greeting.contains("\"event\":\"hello\""), "{greeting}");
    peer.write_all(b"{\"welcome\":1,\"ack\":0}\n").unwrap();
    (peer, lines)
}

#[test]
fn a_stuck_receiver_costs_the_oldest_events_and_no_time() {
    const EVENTS: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let emitter = Emitter::start(EmitConfig {
        buffer_bytes: 1 << 20,
        ..config(&path)
    })
    .unwrap();
    // From here on it reads nothing.
    let (peer, lines) = welcome(&listener);
    for n in 0..EVENTS {
        assert_eq!(emitter.send(1, &event()), SendOutcome::Queued { seq: n });
        if n % 1000 == 0 {
            let counters = emitter.counters();
            assert!(counters.buffered_bytes <= 1 << 20, "{counters:?}");
            assert_balanced(&counters);
        }
    }
    let counters = emitter.counters();
    assert!(
        dropped(&counters, DropReason::Overflow) > EVENTS / 2,
        "{counters:?}"
    );
    let begin = Instant::now();
    let report = emitter.stop(Duration::from_millis(100));
    assert!(begin.elapsed() < DEADLINE);
    assert_balanced(&report.counters);
    assert_eq!(report.unacknowledged, report.counters.pending, "{report:?}");
    drop((peer, lines));
}

#[test]
fn a_receiver_that_comes_late_gets_the_newest_events_and_is_told_of_the_rest() {
    const EVENTS: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let emitter = Emitter::start(EmitConfig {
        buffer_bytes: 1 << 20,
        ..config(&path)
    })
    .unwrap();
    for _ in 0..EVENTS {
        emitter.send(1, &event());
    }
    let before = emitter.counters();
    let lost = dropped(&before, DropReason::NoReceiver);
    assert!(
        lost > 0 && lost == before.dropped_total() && !before.connected,
        "{before:?}"
    );
    let begin = Instant::now();
    while !emitter.counters().last_error.contains("No such file") {
        assert!(begin.elapsed() < DEADLINE, "{:?}", emitter.counters());
        std::thread::sleep(Duration::from_millis(1));
    }
    let listener = UnixListener::bind(&path).unwrap();
    let (mut peer, lines) = welcome(&listener);
    let receiver = std::thread::spawn(move || {
        let (mut seen, mut status) = (BTreeSet::new(), Status::default());
        // An emitter that goes with acknowledgements unread resets the connection after its last line.
        for line in lines.lines().map_while(Result::ok) {
            let seq: Option<u64> = line
                .split("\"seq\":")
                .nth(1)
                .map(|rest| rest.split(',').next().unwrap().parse().unwrap());
            if line.contains("\"event\":\"status\"") {
                let field = |name: &str| -> u64 {
                    let rest = line.split(name).nth(1).unwrap();
                    rest.chars()
                        .take_while(char::is_ascii_digit)
                        .collect::<String>()
                        .parse()
                        .unwrap()
                };
                status.next_seq = field("\"next_seq\":");
                status.dropped = vec![("no_receiver".into(), field("\"no_receiver\":"))];
                status.last = line.contains("\"last\":true");
            } else {
                assert!(seen.insert(seq.unwrap()), "{line}");
            }
            let ack = seen.last().map_or(0, |newest| newest + 1);
            if peer.write_all(format!("{{\"ack\":{ack}}}\n").as_bytes()).is_err() {
                break;
            }
        }
        (seen, status)
    });
    let report = emitter.stop(DEADLINE);
    let (seen, status) = receiver.join().unwrap();
    assert_eq!(report.unacknowledged, 0, "{report:?}");
    assert!(seen.iter().copied().eq(lost..EVENTS), "the newest, in a row");
    assert_eq!(
        (status.next_seq, status.dropped, status.last),
        (EVENTS, vec![("no_receiver".into(), lost)], true)
    );
    assert_balanced(&report.counters);
}

#[test]
fn what_no_receiver_would_take_is_dropped_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let emitter = Emitter::start(config(&dir.path().join("s.sock"))).unwrap();
    let long = emitter.send(1, &long_event(128 << 10));
    assert_eq!(
        long,
        SendOutcome::Dropped {
            seq: 0,
            reason: DropReason::Oversize
        }
    );
    let status = emitter.send(1, &Event::Status(Status::default()));
    assert_eq!(
        status,
        SendOutcome::Dropped {
            seq: 1,
            reason: DropReason::ForeignStatus
        }
    );
    assert_eq!(
        emitter.send(1, &long_event(127 << 10)),
        SendOutcome::Queued { seq: 2 }
    );
    let report = emitter.stop(Duration::ZERO);
    assert_eq!(
        (report.counters.next_seq, report.counters.dropped_total()),
        (3, 3),
        "{report:?}"
    );
    let late = emitter.send(1, &event());
    assert_eq!(
        late,
        SendOutcome::Dropped {
            seq: 3,
            reason: DropReason::Stopped
        }
    );
    assert_balanced(&emitter.counters());
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_ends_the_connection_and_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let emitter = Emitter::start(config(&path)).unwrap();
    for _ in 0..3 {
        emitter.send(1, &event());
    }
    let (mut peer, mut lines) = welcome(&listener);
    let mut line = String::new();
    for _ in 0..3 {
        lines.read_line(&mut line).unwrap();
    }
    peer.write_all(b"{\"ack\":4}\n").unwrap();
    while lines.read_line(&mut line).is_ok_and(|n| n > 0) {}
    // It counts after it has closed.
    let begin = Instant::now();
    while emitter.counters().protocol_errors == 0 && begin.elapsed() < DEADLINE {
        std::thread::sleep(Duration::from_millis(1));
    }
    let counters = emitter.counters();
    assert_eq!(
        (counters.acked, counters.pending, counters.protocol_errors),
        (0, 3, 1),
        "{counters:?}"
    );
    assert!(
        counters.last_error.contains("an event that was not sent"),
        "{counters:?}"
    );
    // They come again on the next connection.
    let (mut peer, mut lines) = welcome(&listener);
    line.clear();
    for _ in 0..3 {
        lines.read_line(&mut line).unwrap();
    }
    assert_eq!(line.matches("\"event\":\"confirm\"").count(), 3);
    peer.write_all(b"{\"ack\":3}\n").unwrap();
    let report = emitter.stop(DEADLINE);
    assert_eq!(
        (report.counters.acked, report.unacknowledged),
        (3, 0),
        "{report:?}"
    );
}
