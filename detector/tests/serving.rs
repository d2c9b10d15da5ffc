//! `ja4-detector serve`: what its endpoint says, a store that goes away and comes back, an orderly end.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::float_cmp,
    reason = "a test fails by panicking, says what it skips, and counts what the store counted"
)]

mod common;

use std::net::TcpListener;
use std::process::Stdio;

use common::{Detector, Kind, PEOPLE, request, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn json(port: u16, path: &str) -> Value {
    let (status, body) = request(port, "GET", path, "", "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn serve_says_how_it_goes_survives_an_outage_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store_or_skip!(folder.path());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let ledger = folder.path().join("ledger.json");
    let config = format!(
        "process:\n  admin: 127.0.0.1:{port}\n  ledger_file: {}\ninterval: 1s\nsettle: 0s\nshards: 1\n",
        ledger.display()
    );
    let detector = Detector::configure(folder.path(), &store, &config);
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
    .unwrap();
    store.traffic(&PEOPLE, 50, now - 600, now);
    store.traffic(&Kind::liar(), 1, now - 60, now);
    let mut child = detector
        .command(&["serve"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();

    until("the first cycle", || {
        request(port, "GET", "/readyz", "", "").0 == 200
    });
    assert_eq!(request(port, "GET", "/healthz", "", "").1, "ok\n");
    let state = json(port, "/state");
    assert_eq!(
        (state["state"].as_str(), state["budget"].as_u64()),
        (Some("learning"), Some(20))
    );
    assert_eq!(state["progress"]["entities_needed"], 200.0);
    let (_, metrics) = request(port, "GET", "/metrics", "", "");
    assert!(
        metrics.contains("detector_cycles_total") && metrics.contains("detector_clients{what=\"flagged\"}"),
        "{metrics}"
    );
    assert_eq!(json(port, "/ledger")["stages"][0]["name"], "detector.clients");

    let client = store.sql("SELECT toString(src_ip), ja4, host FROM ja4_processing.ml_all_scores WHERE startsWith(toString(src_ip), '::ffff:127.20.') LIMIT 1");
    let client: Vec<&str> = client.split('\t').collect();
    let address = client[0].trim_start_matches("::ffff:");
    let why = json(
        port,
        &format!("/why?src_ip={address}&ja4={}&host={}", client[1], client[2]),
    );
    let model = &why["models"][0];
    assert!(model["evidence_bits"].as_f64().unwrap() >= 10.0, "{model}");
    assert!(
        model["reasons"][0]["sentence"].as_str().unwrap().contains("curl"),
        "{}",
        model["reasons"]
    );
    assert!(model["voices"].as_array().unwrap().len() >= 2, "{model}");
    let features = model["features"].as_array().unwrap();
    assert!(
        features
            .iter()
            .any(|feature| feature["name"] == "requests" && feature["value"].as_f64() > Some(0.0))
    );
    for (path, status) in [
        ("/why?src_ip=nonsense&host=h", 400),
        ("/why?host=h", 400),
        ("/why?src_ip=192.0.2.1&host=%3Cscript%3E", 404),
        ("/etc/passwd", 404),
    ] {
        assert_eq!(request(port, "GET", path, "", "").0, status, "{path}");
    }

    store.stop();
    until("the outage is said", || {
        let (status, body) = request(port, "GET", "/readyz", "", "");
        status == 503 && body.starts_with("store: ")
    });
    assert!(json(port, "/state")["last_error"]["error"].is_string());
    assert_eq!(
        request(port, "GET", "/why?src_ip=192.0.2.1&host=h", "", "").0,
        503
    );
    store.start_again();
    until("it recovers", || request(port, "GET", "/readyz", "", "").0 == 200);
    assert!(json(port, "/state")["last_error"].is_null());

    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let ledger: Value = serde_json::from_slice(&std::fs::read(&ledger).unwrap()).unwrap();
    assert!(
        ledger["facts"]["detector.failures"].as_u64() > Some(0),
        "{ledger}"
    );
}
