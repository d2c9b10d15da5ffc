//! The replay: every recorded request arrives once, moved in time, with its end pointing at it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use demo::replay::{Replay, ReplayConfig};
use ja4_common::Shutdown;
use serde_json::Value;

#[test]
fn a_recording_larger_than_the_buffer_waits_for_its_receiver() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/demo/http.jsonl");
    let recorded = std::fs::read_to_string(recorded).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("requests.jsonl");
    let n_copies = (10 << 20) / recorded.len() + 1;
    std::fs::write(&file, recorded.repeat(n_copies)).unwrap();
    let socket = dir.path().join("http.stream");
    let config = ReplayConfig {
        file,
        offset_ns: -365 * 86_400 * 1_000_000_000,
        socket: socket.clone(),
        ..ReplayConfig::default()
    };
    let replay = Replay::open(config, "node".to_owned()).unwrap();
    let shared = replay.shared();
    let sender = std::thread::spawn(move || replay.run(&Shutdown::manual().unwrap()));
    // Long enough to read all that the buffer takes and be full.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let listener = UnixListener::bind(&socket).unwrap();
    let receiver = std::thread::spawn(move || receive(&listener));
    sender.join().unwrap().unwrap();
    let ledger = shared.ledger();
    drop(shared);
    assert_eq!(ledger.imbalances(), []);
    let events = &ledger.stages[1];
    assert_eq!(events.dropped_total(), 0, "{events:?}");
    assert_eq!(receiver.join().unwrap().len() as u64, events.passed);
    assert_eq!(events.passed, (recorded.lines().count() * n_copies) as u64);
}

/// Acknowledges every event; returns them when the producer is gone.
fn receive(listener: &UnixListener) -> Vec<Value> {
    let (stream, _) = listener.accept().unwrap();
    let mut replies = stream.try_clone().unwrap();
    let mut events = Vec::new();
    for line in BufReader::new(stream).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match event["event"].as_str().unwrap() {
            "hello" => replies.write_all(b"{\"welcome\":1,\"ack\":0}\n").unwrap(),
            "status" => {}
            _ => {
                let ack = event["seq"].as_u64().unwrap() + 1;
                events.push(event);
                // The producer may have closed after its last acknowledgement.
                if writeln!(replies, "{{\"ack\":{ack}}}").is_err() {
                    break;
                }
            }
        }
    }
    events
}

#[test]
fn recorded_requests_arrive_once_moved_by_the_offset() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/demo/http.jsonl");
    let recorded = std::fs::read_to_string(recorded).unwrap();
    let lines: Vec<&str> = recorded.lines().take(100).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("requests.jsonl");
    let orphan = "{\"v\":1,\"event\":\"end\",\"source\":\"demo\",\"node\":\"n\",\"boot\":\"0000000000000001\",\"seq\":9,\"ts_ns\":1,\"request_seq\":8}";
    std::fs::write(&file, format!("not json\n{}\n{orphan}\n", lines.join("\n"))).unwrap();
    let socket = dir.path().join("http.stream");
    let listener = UnixListener::bind(&socket).unwrap();
    let receiver = std::thread::spawn(move || receive(&listener));
    // A year back: all is due.
    let offset_ns = -365 * 86_400 * 1_000_000_000;
    let config = ReplayConfig {
        file,
        offset_ns,
        socket,
        ..ReplayConfig::default()
    };
    let replay = Replay::open(config, "node".to_owned()).unwrap();
    let shared = replay.shared();
    replay.run(&Shutdown::manual().unwrap()).unwrap();
    let ledger = shared.ledger();
    drop(shared);
    let events = receiver.join().unwrap();

    let sent: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut requests = BTreeSet::new();
    let expected: Vec<&Value> = sent
        .iter()
        .filter(|event| {
            let is_request = event["event"] == "request";
            if is_request {
                requests.insert(event["seq"].as_u64().unwrap());
            }
            is_request || requests.contains(&event["request_seq"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(events.len(), expected.len());
    let mut conn_of = BTreeMap::new();
    for (event, original) in events.iter().zip(&expected) {
        let moved = original["ts_ns"].as_i64().unwrap() + offset_ns;
        assert_eq!(event["ts_ns"], moved);
        if event["event"] == "request" {
            for field in ["headers", "query", "client_port", "conn_id", "h2_fp", "tls"] {
                assert_eq!(event[field], original[field], "{field}");
            }
            conn_of.insert(event["seq"].as_u64().unwrap(), original["seq"].clone());
        } else {
            let request = &conn_of[&event["request_seq"].as_u64().unwrap()];
            assert_eq!(request, &original["request_seq"]);
        }
    }
    assert_eq!(ledger.imbalances(), []);
    let lines_stage = &ledger.stages[0];
    assert_eq!(
        (
            lines_stage.dropped["malformed"],
            lines_stage.dropped["end_without_request"]
        ),
        (1, 1)
    );
}
