//! The whole path with every real process: recorded packets and requests go in, the checked ledger comes out.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Runs `ja4 up` on a fresh folder until it ends by itself; its summary.
///
/// The folder is kept, and named, when the run fails.
#[track_caller]
fn up(base_port: u16, args: &[&str]) -> Value {
    let ja4 = Path::new(env!("CARGO_BIN_EXE_ja4"));
    for program in ["ja4-clickhouse", "ja4-correlator", "ja4-sensor", "ja4-demo"] {
        assert!(
            ja4.with_file_name(program).exists(),
            "{program} is not built: cargo build --workspace"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.json");
    let out = Command::new(ja4)
        .args(["up", "--listen", &format!("127.0.0.1:{base_port}")])
        .arg("--data")
        .arg(folder.path().join("data"))
        .arg("--summary")
        .arg(&summary)
        .args(args)
        .output()
        .unwrap();
    if !out.status.success() {
        let kept = folder.keep();
        panic!(
            "{} (kept {}):\n{}",
            out.status,
            kept.display(),
            String::from_utf8_lossy(&out.stdout)
        );
    }
    serde_json::from_slice(&std::fs::read(&summary).unwrap()).unwrap()
}

fn recording(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/demo")
        .join(name);
    path.to_str().unwrap().to_owned()
}

#[track_caller]
fn check_joined(summary: &Value) {
    let totals = &summary["totals"];
    let joined = &totals["joined"];
    let n = |value: &Value| value.as_u64().unwrap();
    let found = n(&joined["exact"]) + n(&joined["asof"]);
    assert!(n(&totals["requests"]) > 0, "{totals}");
    assert!(
        found * 1000 >= n(&totals["requests"]) * 999,
        "99.9 % of requests find their connection: {totals}"
    );
    assert_eq!(totals["wrong"], 0, "{totals}");
    assert_eq!(totals["rows"]["http_logs"], totals["requests"], "{totals}");
}

#[test]
#[ignore = "waits for `ja4-correlator run`"]
fn a_recorded_capture_becomes_joined_rows_and_the_ledger_balances() {
    let pcap = recording("demo.pcap");
    let http = recording("http.jsonl");
    let summary = up(18_000, &["--pcap", &pcap, "--http", &http]);
    check_joined(&summary);
}

#[test]
#[ignore = "waits for `ja4-correlator run`"]
fn live_clients_on_loopback_become_joined_rows_and_the_ledger_balances() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap();
    if u64::from_str_radix(effective.trim(), 16).unwrap() >> 13 & 1 == 0 {
        println!("skipped: this user may not capture packets (CAP_NET_RAW)");
        return;
    }
    let summary = up(19_000, &["--demo", "--for", "30s"]);
    check_joined(&summary);
}
