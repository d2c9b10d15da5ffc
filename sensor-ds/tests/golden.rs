//! `ja4-sensor fingerprint` against the shared corpus: every expected hello, and nothing beside them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its tally"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// An expected hello. Empty columns are not known and not compared.
struct Golden {
    set: String,
    file: String,
    frame: String,
    client: (String, String),
    server: (String, String),
    ja4: String,
    ja3: String,
    ja4_r: String,
    ja3_raw: String,
    sni: String,
    hello_bytes: String,
}

/// The corpus lies beside the checkout; without it the tests say so and check nothing.
fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if path.join("golden.tsv").is_file() {
        return Some(path);
    }
    println!("skipped: no corpus at {}", path.display());
    None
}

fn golden_rows(corpus: &Path) -> Vec<Golden> {
    let text = std::fs::read_to_string(corpus.join("golden.tsv")).unwrap();
    let row = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let column = |idx: usize| columns.get(idx).copied().unwrap_or_default().to_owned();
        Golden {
            set: column(0),
            file: column(1),
            frame: column(2),
            client: (column(3), column(4)),
            server: (column(5), column(6)),
            ja4: column(7),
            ja3: column(8),
            ja4_r: column(9),
            ja3_raw: column(10),
            sni: column(11),
            hello_bytes: column(12),
        }
    };
    text.lines().skip(1).map(row).collect()
}

/// Why a hello is out of reach for now; `None` where the sensor must be right.
fn not_yet(golden: &Golden) -> Option<&'static str> {
    let is_tunnel = [
        "geneve", "gre", "gretap", "gtpu", "ipip", "mpls", "pppoe", "vxlan",
    ]
    .iter()
    .any(|kind| golden.file == format!("{kind}_small.pcap"));
    match (golden.set.as_str(), golden.file.as_str()) {
        _ if golden.ja4.starts_with('q') => Some("QUIC"),
        _ if golden.ja4.starts_with('d') => Some("DTLS"),
        ("edge", _) if is_tunnel => Some("tunnel"),
        ("edge", "ipfrag_small.pcap") => Some("IP fragments"),
        _ => None,
    }
}

fn fingerprint(file: &Path) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_ja4-sensor"))
        .arg("fingerprint")
        .arg(file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn is_match(golden: &Golden, event: &Value) -> bool {
    let agrees = |expected: &str, field: &str| {
        let got = match &event[field] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        expected.is_empty() || got == expected
    };
    agrees(&golden.frame, "frame")
        && agrees(&golden.client.0, "client_ip")
        && agrees(&golden.client.1, "client_port")
        && agrees(&golden.server.0, "server_ip")
        && agrees(&golden.server.1, "server_port")
        && agrees(&golden.ja4, "ja4")
        && agrees(&golden.ja3, "ja3")
        && agrees(&golden.ja4_r, "ja4_r")
        && agrees(&golden.ja3_raw, "ja3_raw")
        && agrees(&golden.sni, "sni")
        && agrees(&golden.hello_bytes, "hello_bytes")
}

#[test]
fn every_expected_hello_is_right_and_nothing_else_is_reported() {
    let Some(corpus) = corpus() else { return };
    let mut by_file: BTreeMap<PathBuf, Vec<Golden>> = BTreeMap::new();
    for set in ["foxio", "arkime", "suricata-verify", "live", "edge"] {
        for entry in std::fs::read_dir(corpus.join(set).join("pcap")).unwrap() {
            by_file.entry(entry.unwrap().path()).or_default();
        }
    }
    for golden in golden_rows(&corpus) {
        let path = corpus.join(&golden.set).join("pcap").join(&golden.file);
        by_file.entry(path).or_default().push(golden);
    }
    let (mut n_right, mut n_expected) = (0, 0);
    let mut out_of_reach: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    for (path, rows) in &by_file {
        let mut events = fingerprint(path);
        for golden in rows {
            let found = events.iter().position(|event| is_match(golden, event));
            if let Some(idx) = found {
                events.remove(idx);
            }
            let place = format!(
                "{}/{} frame {} {}",
                golden.set, golden.file, golden.frame, golden.ja4
            );
            match (not_yet(golden), found) {
                (Some(reason), _) => out_of_reach.entry(reason).or_default().push(place),
                (None, Some(_)) => n_right += 1,
                (None, None) => faults.push(format!("missing: {place}")),
            }
            n_expected += usize::from(not_yet(golden).is_none());
        }
        faults.extend(
            events
                .iter()
                .map(|event| format!("not expected: {} {event}", path.display())),
        );
    }
    println!("golden.tsv: {n_right} of {n_expected} right");
    for (reason, places) in &out_of_reach {
        println!("not yet, {reason}: {}", places.len());
        for place in places {
            println!("  {place}");
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(
        n_expected > 250,
        "the corpus holds {n_expected} hellos in reach only"
    );
}
