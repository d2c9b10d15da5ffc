//! A recording of live inputs, replayed: the same bytes each time, and the joins of the live process.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use common::traffic::{Connection, Producer};
use common::{Correlator, imbalances, program, stage};
use ja4_model::{Close, CloseReason, Confirmed, Event};
use serde_json::Value;

/// Connections with requests, requests without a connection, late hellos, closed connections.
fn traffic(folder: &Path) -> u64 {
    let mut sensor = Producer::sensor(folder);
    let mut server = Producer::server(folder);
    let mut packets = Producer::packet_server(folder);
    let mut n_requests = 0;
    let mut first_without = None;
    for number in 0..120 {
        let conn = Connection::new(number);
        let is_late = number % 10 == 3;
        if number % 10 == 7 {
            first_without = first_without.or(Some(conn));
        } else if !is_late {
            sensor.connection(&conn);
        }
        for index in 0..3 {
            server.send_row(conn.ts_ns + 1_000, &conn.request(index));
            n_requests += 1;
        }
        packets.send_row(conn.ts_ns + 2_000, &conn.request(3));
        n_requests += 1;
        std::thread::sleep(Duration::from_millis(5));
        if is_late {
            sensor.connection(&conn);
        }
        if number % 5 == 0 {
            let close = Event::Close(Close {
                conn_uid: conn.uid(),
                pair: None,
                reason: CloseReason::Fin,
                confirmed: Confirmed::Followed,
            });
            sensor.emitter.send(conn.ts_ns + 3_000, &close);
        }
    }
    // Long after its requests went out without: only a replay that takes the arrivals for times sees that.
    std::thread::sleep(Duration::from_millis(600));
    sensor.connection(&first_without.unwrap());
    for producer in [sensor, server, packets] {
        let (report, _) = producer.stop();
        assert_eq!((report.unacknowledged, report.counters.dropped_total()), (0, 0));
    }
    n_requests
}

fn replay(folder: &Path) -> Output {
    let out = Command::new(program("ja4-correlator"))
        .arg("replay")
        .arg("--tls")
        .arg(folder.join("tls.jsonl"))
        .arg("--http")
        .arg(folder.join("http.jsonl"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out
}

/// What was joined with what, by event.
fn joins(lines: &[u8]) -> BTreeMap<(String, u64), [Value; 5]> {
    let record = |line: &[u8]| {
        let record: Value = serde_json::from_slice(line).unwrap();
        let id = (
            record["boot"].as_str().unwrap().to_owned(),
            record["seq"].as_u64().unwrap(),
        );
        let join = [
            record["match"].clone(),
            record["match_reason"].clone(),
            record["conn"]["conn_uid"].clone(),
            record["conn_req_index"].clone(),
            record["delta_us"].clone(),
        ];
        (id, join)
    };
    lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(record)
        .collect()
}

#[test]
fn a_recording_replays_to_the_same_bytes_and_the_live_joins() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    let joined = folder.join("joined.jsonl");
    Correlator::configure(folder, None, &format!("file: \"{}\"", joined.display()));
    let recording = [
        "record",
        "--tls",
        folder.join("tls.jsonl").to_str().unwrap(),
        "--http",
        folder.join("http.jsonl").to_str().unwrap(),
    ]
    .map(str::to_owned);
    let correlator = Correlator::start_as(folder, &recording);
    let n_requests = traffic(folder);
    let ledger = correlator.stop();
    assert_eq!(imbalances(&ledger), Vec::<String>::new());
    assert_eq!(stage(&ledger, "recording.http")["dropped"], serde_json::json!({}));

    let live = joins(&fs::read(&joined).unwrap());
    let first = replay(folder);
    let replayed = joins(&first.stdout);
    let different: Vec<_> = live
        .iter()
        .map(|(id, join)| (id, join, replayed.get(id)))
        .filter(|(_, join, again)| Some(*join) != *again)
        .collect();
    assert!(different.is_empty(), "{different:?}");
    assert_eq!((live.len() as u64, replayed.len()), (n_requests, live.len()));
    let matched = live.values().filter(|join| join[0] != "none").count();
    assert!(
        matched > 0 && matched < live.len(),
        "{matched} of {} are joined: nothing to tell apart",
        live.len()
    );

    let second = replay(folder);
    assert!(first.stdout == second.stdout, "two replays differ");
    assert_eq!(
        String::from_utf8(first.stderr).unwrap(),
        String::from_utf8(second.stderr).unwrap()
    );

    for file in ["http.jsonl", "joined.jsonl"] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        assert!(!text.contains("session=secret"), "a secret in {file}");
        assert!(text.contains("hmac:"), "no redacted cookie in {file}");
    }
}

#[test]
fn a_recording_that_is_there_is_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    Correlator::configure(folder, None, "");
    fs::write(folder.join("tls.jsonl"), "precious").unwrap();
    let out = Command::new(program("ja4-correlator"))
        .args(["record", "--config"])
        .arg(folder.join("correlator.yaml"))
        .arg("--tls")
        .arg(folder.join("tls.jsonl"))
        .arg("--http")
        .arg(folder.join("http.jsonl"))
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(
        said.contains("tls.jsonl") && said.contains("neither may be there"),
        "{said}"
    );
    assert_eq!(fs::read(folder.join("tls.jsonl")).unwrap(), b"precious");
}
