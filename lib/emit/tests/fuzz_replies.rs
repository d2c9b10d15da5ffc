//! Any bytes from a receiver: the producer is never held up, and every number is accounted for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use ja4_emit::{Counters, EmitConfig, Emitter, SocketKind};
use ja4_model::{BootId, Confirm, Confirmed, ConnUid, Event};

/// It runs this long in `cargo test`; a coverage-guided engine takes its own time.
const TEST_TIME: Duration = Duration::from_secs(10);

/// Events that the producer has sent when the receiver starts to speak.
const EVENTS: u64 = 5;

fn event() -> Event<'static> {
    Event::Confirm(Confirm {
        conn_uid: ConnUid(1),
        confirmed: Confirmed::Acked,
    })
}

/// Replies that are right, nearly right, or neither.
fn reply(pick: u8, raw: &[u8]) -> Vec<u8> {
    let ack = u64::from(pick >> 4);
    match pick % 8 {
        0 | 1 => format!("{{\"ack\":{ack}}}\n").into_bytes(),
        2 => format!("{{\"welcome\":1,\"ack\":{ack}}}\n").into_bytes(),
        3 => format!("{{\"welcome\":{ack},\"ack\":0}}\n").into_bytes(),
        4 => b"{\"ack\":18446744073709551615}\n".to_vec(),
        5 => b"\n".to_vec(),
        6 => vec![b' '; usize::from(pick) * 2],
        _ => raw.to_vec(),
    }
}

fn balanced(counters: &Counters) -> bool {
    counters.next_seq == counters.acked + counters.dropped_total() + counters.pending
}

#[test]
fn fuzz_replies_of_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<(bool, Vec<(u8, Vec<u8>)>)>()
        .for_each(|(welcomes, script)| {
            let config = EmitConfig::new(&path, SocketKind::Stream, "sensor", "web-1", BootId(1));
            let emitter = Emitter::start(config).unwrap();
            for _ in 0..EVENTS {
                emitter.send(1, &event());
            }
            let (mut peer, _) = listener.accept().unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut lines = BufReader::new(peer.try_clone().unwrap());
            let mut greeting = String::new();
            lines.read_line(&mut greeting).unwrap();
            assert!(greeting.starts_with("{\"v\":1,\"event\":\"hello\""), "{greeting}");
            if *welcomes {
                peer.write_all(b"{\"welcome\":1,\"ack\":0}\n").unwrap();
                for _ in 0..EVENTS {
                    lines.read_line(&mut greeting).unwrap();
                }
            }
            for (pick, raw) in script {
                // It may have closed already.
                if peer.write_all(&reply(*pick, raw)).is_err() {
                    break;
                }
            }
            drop((lines, peer));
            // It sees the end of the connection at the latest.
            let deadline = Instant::now() + Duration::from_secs(30);
            while emitter.counters().last_error.is_empty() {
                assert!(Instant::now() < deadline, "{:?}", emitter.counters());
                std::thread::yield_now();
            }
            let counters = emitter.counters();
            assert!(balanced(&counters) && counters.next_seq == EVENTS, "{counters:?}");
            assert!(
                counters.acked <= EVENTS && counters.acked <= counters.sent,
                "{counters:?}"
            );
            let report = emitter.stop(Duration::ZERO);
            assert!(balanced(&report.counters), "{report:?}");
            // What comes of its attempts to connect again is not the next run's.
            listener.set_nonblocking(true).unwrap();
            while listener.accept().is_ok() {}
            listener.set_nonblocking(false).unwrap();
        });
}
