//! Any bytes on the sockets: the receiver lives, its equations hold, and what is good behind them arrives.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use common::*;
use ja4_model::limits::MAX_MESSAGE_BYTES;
use ja4_transport::{Input, Piece, Receiver, SocketKind, Splitter};

/// Each target runs this long in `cargo test`; a coverage-guided engine takes its own time.
const TEST_TIME: Duration = Duration::from_secs(10);

/// The lines of a text, by the letter of what the splitter promises.
fn lines_of(bytes: &[u8], limit: usize) -> Vec<Option<Vec<u8>>> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap();
    let mut found = Vec::new();
    for line in lines {
        let trimmed = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > limit {
            found.push(None);
        } else if !trimmed.is_empty() {
            found.push(Some(trimmed.to_vec()));
        }
    }
    // A line over the limit is said when the limit is passed, without its end.
    if last.len() > limit {
        found.push(None);
    }
    found
}

#[test]
fn fuzz_splitter_finds_the_same_lines_wherever_reads_end() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<(Vec<u8>, Vec<u8>, u8)>()
        .for_each(|(picks, cuts, limit)| {
            // Line ends are common, so that there is something to find.
            let bytes: Vec<u8> = picks
                .iter()
                .map(|pick| b"\n\n\rabcd{"[usize::from(pick % 8)])
                .collect();
            let limit = usize::from(limit % 16);
            let mut splitter = Splitter::default();
            let mut found = Vec::new();
            let mut rest = &bytes[..];
            let mut cuts = cuts.iter();
            while !rest.is_empty() {
                let length = cuts
                    .next()
                    .map_or(rest.len(), |cut| usize::from(cut % 9).min(rest.len()));
                let (mut read, after) = rest.split_at(length);
                while let Some(piece) = splitter.next(&mut read, limit) {
                    found.push(match piece {
                        Piece::Frame(line) => Some(line.to_vec()),
                        Piece::TooLong => None,
                    });
                }
                assert!(read.is_empty());
                if length % 2 == 0 {
                    splitter.rest();
                }
                rest = after;
            }
            assert_eq!(found, lines_of(&bytes, limit));
            assert!(splitter.buffered() <= 2 * limit + 8, "{}", splitter.buffered());
        });
}

/// Frames that are nearly right, so that more than the first look at them is tried.
fn nearly(pick: u8, boot: u64, seq: u64, raw: &[u8]) -> Vec<u8> {
    let mut good = frame(boot, seq);
    match pick % 8 {
        0 => raw.to_vec(),
        1 => Vec::new(),
        2 => {
            for (n, byte) in raw.iter().enumerate() {
                let at = (usize::from(*byte) * (n + 1)) % good.len();
                good[at] = *byte;
            }
            good
        }
        3 => {
            good.truncate(raw.len() * 5 % good.len());
            good
        }
        4 => {
            good.resize(MAX_MESSAGE_BYTES - 1 + raw.len() % 4, b' ');
            good
        }
        5 => hello("sensor", NODE, boot),
        6 => b"{\"v\":1,\"event\":\"status\",\"ts_ns\":1,\"next_seq\":3}".to_vec(),
        _ => good,
    }
}

/// Sends one script on a new connection, then a good event, and waits until the receiver has seen the end.
fn play(receiver: &Receiver, path: &Path, kind: SocketKind, script: &[(u8, Vec<u8>)], greets: bool) {
    const BOOT: u64 = 5;
    let accepted = receiver.counters().listeners[0].accepted;
    let peer = Raw::connect(path, kind);
    let mut alive = !greets || peer.send_frame(&hello("sensor", NODE, BOOT));
    for (pick, raw) in script {
        let sent = nearly(*pick, BOOT, 1 << 40, raw);
        // Without a line end what follows belongs to the same line.
        alive = alive
            && if kind == SocketKind::Stream && pick % 16 == 9 {
                peer.send(&sent)
            } else {
                sent.is_empty() || peer.send_frame(&sent)
            };
    }
    drop(peer);
    wait_for("the end of the connection is seen", || {
        while let Some(input) = receiver.next(Duration::ZERO) {
            if let Input::Batch(batch) = input {
                for frame in batch.frames() {
                    assert!(!frame.bytes.is_empty() && frame.bytes.len() <= MAX_MESSAGE_BYTES);
                }
            }
        }
        let listener = &receiver.counters().listeners[0];
        (listener.accepted > accepted && listener.open == 0).then_some(())
    });
    while receiver.next(Duration::ZERO).is_some() {}
    assert_balanced(receiver);
    let identities = receiver.counters().identities;
    assert!(
        identities
            .iter()
            .all(|identity| identity.pending == 0 && identity.queue_bytes == 0)
    );
    assert!(receiver.is_running());
}

fn started(dir: &Path, kind: SocketKind) -> AssertUnwindSafe<Receiver> {
    let mut config = listener(dir, kind);
    config.quotas.boots_per_hour = u64::MAX;
    AssertUnwindSafe(start(vec![config]))
}

#[test]
fn fuzz_stream_of_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let receiver = started(dir.path(), SocketKind::Stream);
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<(bool, Vec<(u8, Vec<u8>)>)>()
        .for_each(|(greets, script)| play(&receiver, &path, SocketKind::Stream, script, *greets));
    serves(&receiver, &path, SocketKind::Stream);
}

#[test]
fn fuzz_packets_of_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.sock");
    let receiver = started(dir.path(), SocketKind::Seqpacket);
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<(bool, Vec<(u8, Vec<u8>)>)>()
        .for_each(|(greets, script)| play(&receiver, &path, SocketKind::Seqpacket, script, *greets));
    serves(&receiver, &path, SocketKind::Seqpacket);
}
