//! `ja4-sensor bench`: the mixed capture is the same everywhere, byte for byte, and the figures are whole. How
//! high they are is not asked here: that depends on the machine.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it skips"
)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_ja4-sensor"))
        .arg("bench")
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_mix_of_our_own_recording_is_the_same_everywhere() {
    let figures = bench(&["--mix", "testdata/demo", "--repetitions", "2", "--loops", "1"]);
    println!("{figures}");
    assert_eq!(
        figures["mix_sha256"],
        "a1ed81db471dcf27f19dd132ac66b1a9dd10ee5a8fd966a5e1e32233bb465710"
    );
    assert_eq!(figures["packets"], 2 * 1033);
    assert_eq!(figures["hellos"], 2 * 28);
    for figure in [
        "packets_per_cpu_second",
        "bytes_per_cpu_second",
        "hellos_per_cpu_second",
        "floor_packets_per_cpu_second",
        "anon_bytes_max",
    ] {
        assert!(figures[figure].as_u64().unwrap() > 0, "{figure}");
    }
    assert!(figures["anon_bytes_max"].as_u64().unwrap() < 48 << 20);
}

/// The checksum is the one that other tools' figures were taken on.
#[test]
fn the_mix_of_the_corpus_is_the_one_that_others_measured() {
    if !Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/corpus/foxio/pcap")
        .is_dir()
    {
        println!("skipped: no corpus at ../shared/corpus");
        return;
    }
    let folders = ["../shared/corpus/foxio/pcap", "../shared/corpus/live/pcap"];
    let figures = bench(&[
        "--mix",
        folders[0],
        folders[1],
        "--repetitions",
        "1",
        "--loops",
        "1",
    ]);
    assert_eq!(
        figures["mix_sha256"],
        "2853fa1be896df4d55c1776b52b2fdeb8992c2c01a587dd63e680a740162e898"
    );
    assert_eq!(figures["packets"], 12_005);
    // 170 flows of TLS over TCP, ten of which hold a second hello.
    assert_eq!(figures["hellos"], 180);
}

#[test]
fn a_damaged_file_is_an_error_and_not_a_shorter_measurement() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/pcap/fault_cut_file.pcap");
    let output = Command::new(env!("CARGO_BIN_EXE_ja4-sensor"))
        .arg("bench")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.lines().count() == 1 && said.contains("is damaged after packet 11"),
        "{said}"
    );
}
