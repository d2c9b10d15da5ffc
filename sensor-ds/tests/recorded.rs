//! `ja4-sensor run` on a file: the same events as live, as fast as the receiver takes them, none lost.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what the sensor said"
)]

#[path = "../flow/tests/common/mod.rs"]
mod frames;
mod lab;

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use frames::{ACK, Talk, hello};
use lab::eventually;
use lab::receiver::{Manner, Receiver};
use lab::sensor::{BINARY, Sensor, socket_path, stage};

fn recording() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/demo/demo.pcap");
    path.canonicalize().unwrap().display().to_string()
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

#[test]
fn a_file_is_sent_whole_and_the_process_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let before = now_ns();
    let config = format!(
        "capture: {{file: {}, pace: unpaced, shift_to_now: true}}\n",
        recording()
    );
    let mut sensor = Sensor::spawn(Command::new(BINARY), dir.path(), &config);
    assert!(sensor.wait().success(), "{}", sensor.log());
    let ledger = sensor.ledger_on_disk();
    let frames = stage(&ledger, "sensor.frames");
    assert_eq!((frames.received, frames.passed), (1033, 1033));
    let events = stage(&ledger, "sensor.events");
    assert_eq!((events.pending, events.dropped_total()), (0, 0), "{ledger}");
    assert_eq!(events.passed, receiver.events().len() as u64);
    let hellos = receiver.of_kind("client_hello");
    assert_eq!(hellos.len(), 28);
    // Every connection was confirmed; the recording holds the end of nearly all.
    assert_eq!(receiver.of_kind("confirm").len(), 56);
    assert!(receiver.of_kind("close").len() >= 20);
    // Moved to now by one offset, which the ledger states.
    let offset = ledger["facts"]["time_offset_ns"].as_i64().unwrap();
    assert!(offset > 0, "{ledger}");
    let first = hellos[0].event["ts_ns"].as_i64().unwrap();
    assert!((before..before + 600_000_000_000).contains(&first), "{first}");
}

/// A file of `n` frames that each hold a whole hello.
fn hellos_file(path: &Path, n: u16) {
    // Magic, version 2.4, no zone, no accuracy, snapshot length, Ethernet.
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1];
    let mut bytes = header.map(u32::to_le_bytes).concat();
    for port in 1..=n {
        let frame = Talk::new(port).client(ACK, &hello(1)).frame();
        let length = u32::try_from(frame.len()).unwrap();
        let header = [1_700_000_000, u32::from(port), length, length];
        bytes.extend(header.map(u32::to_le_bytes).concat());
        bytes.extend(frame);
    }
    std::fs::write(path, bytes).unwrap();
}

/// The file has several times the events that memory holds: reading waits for the receiver and drops nothing.
#[test]
fn an_unpaced_file_waits_for_its_receiver() {
    const N_HELLOS: u16 = 5000;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hellos.pcap");
    hellos_file(&file, N_HELLOS);
    let config = format!("capture: {{file: {}, pace: unpaced}}\n", file.display());
    let mut sensor = Sensor::spawn(Command::new(BINARY), dir.path(), &config);
    let first = eventually("memory for events is half full", || {
        let text = sensor.get("/ledger")?;
        let ledger = serde_json::from_str(text.split("\r\n\r\n").nth(1)?).ok()?;
        let events = stage(&ledger, "sensor.events");
        (events.pending > 300).then_some(events)
    });
    assert!(first.received < u64::from(N_HELLOS), "{first:?}");
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    assert!(sensor.wait().success(), "{}", sensor.log());
    let events = stage(&sensor.ledger_on_disk(), "sensor.events");
    assert_eq!((events.pending, events.dropped_total()), (0, 0), "{events:?}");
    assert_eq!(receiver.of_kind("client_hello").len(), usize::from(N_HELLOS));
}

#[test]
fn a_damaged_file_is_sent_up_to_the_damage() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let file = recording().replace("demo/demo.pcap", "pcap/fault_bad_length.pcap");
    let config = format!("capture: {{file: {file}, pace: unpaced}}\n");
    let mut sensor = Sensor::spawn(Command::new(BINARY), dir.path(), &config);
    assert!(sensor.wait().success());
    let log = sensor.log();
    assert!(
        log.contains("is damaged after frame 6, the rest is left out"),
        "{log}"
    );
    assert_eq!(receiver.of_kind("client_hello").len(), 1);
}
