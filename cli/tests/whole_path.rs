//! The whole path with every real process: packets and requests go in, the checked ledger comes out.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "a skipped test says why; a measured time is shown"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A pipeline in a folder of its own; the folder is kept, and named, when the run fails.
struct Pipeline {
    child: Child,
    folder: tempfile::TempDir,
    base_port: u16,
}

impl Pipeline {
    #[track_caller]
    fn start(base_port: u16, args: &[&str]) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), base_port, args)
    }

    #[track_caller]
    fn start_on(folder: tempfile::TempDir, base_port: u16, args: &[&str]) -> Self {
        let ja4 = Path::new(env!("CARGO_BIN_EXE_ja4"));
        for program in [
            "ja4-clickhouse",
            "ja4-correlator",
            "ja4-sensor",
            "ja4-detector",
            "ja4-dashboard",
            "ja4-demo",
        ] {
            assert!(
                ja4.with_file_name(program).exists(),
                "{program} is not built: cargo build --workspace"
            );
        }
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(ja4)
            .args(["up", "--listen", &format!("127.0.0.1:{base_port}")])
            .arg("--data")
            .arg(folder.path().join("data"))
            .arg("--summary")
            .arg(folder.path().join("summary.json"))
            .args(args)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            folder,
            base_port,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until something is so; panics with the log if it is not within a minute or the pipeline ends before.
    #[track_caller]
    fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) -> Duration {
        let started = Instant::now();
        while !is_so(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < Duration::from_mins(1),
                "not within {:?}: {what} ({ended:?})\n{}",
                started.elapsed(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        started.elapsed()
    }

    #[track_caller]
    fn wait_until_it_runs(&mut self) {
        self.wait_until("everything is running", |up| {
            up.log().contains("everything is running")
        });
    }

    fn pid(&self, process: &str) -> Option<u32> {
        let path = self.folder.path().join(format!("data/run/{process}.pid"));
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// The answer of the store to the dashboard's user.
    fn query(&self, sql: &str) -> String {
        let token = std::fs::read_to_string(self.folder.path().join("data/store/tokens/dashboard")).unwrap();
        let out = Command::new("curl")
            .args(["-sS", "--max-time", "10", "-d", sql, "-H"])
            .arg(format!("X-ClickHouse-Key: {}", token.trim()))
            .arg(format!("http://127.0.0.1:{}/", self.base_port + 123))
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Waits for its end by itself; its summary.
    #[track_caller]
    fn finish(mut self) -> Value {
        let status = self.child.wait().unwrap();
        if !status.success() {
            let log = self.log();
            panic!("{status} (kept {}):\n{log}", self.folder.keep().display());
        }
        serde_json::from_slice(&std::fs::read(self.folder.path().join("summary.json")).unwrap()).unwrap()
    }
}

fn recording(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/demo")
        .join(name);
    path.to_str().unwrap().to_owned()
}

/// Whether this user may capture packets; says that the test is skipped if not.
fn may_capture() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap();
    let has_net_raw = u64::from_str_radix(effective.trim(), 16).unwrap() >> 13 & 1 == 1;
    if !has_net_raw {
        println!("skipped: this user may not capture packets (CAP_NET_RAW)");
    }
    has_net_raw
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[track_caller]
fn check_joined(summary: &Value) {
    let totals = &summary["totals"];
    let joined = &totals["joined"];
    let found = number(&joined["exact"]) + number(&joined["asof"]);
    assert!(number(&totals["requests"]) > 0, "{totals}");
    assert!(
        found * 1000 >= number(&totals["requests"]) * 999,
        "99.9 % of requests find their connection: {totals}"
    );
    assert_eq!(totals["wrong"], 0, "{totals}");
    assert_eq!(totals["rows"]["http_logs"], totals["requests"], "{totals}");
}

#[test]
fn a_recorded_capture_becomes_joined_rows_and_the_ledger_balances() {
    let pcap = recording("demo.pcap");
    let http = recording("http.jsonl");
    let summary = Pipeline::start(18_000, &["--pcap", &pcap, "--http", &http]).finish();
    check_joined(&summary);
}

#[test]
fn live_clients_on_loopback_become_joined_rows_and_the_ledger_balances() {
    if !may_capture() {
        return;
    }
    let mut up = Pipeline::start(19_000, &["--demo", "--no-yesterday", "--for", "25s"]);
    up.wait_until_it_runs();
    // Somebody who is no client of the demo, on another server: nothing but its hello can tell of it.
    let out = Command::new("curl")
        .args(["-sk", "-o", "/dev/null", "--max-time", "10"])
        .args(["--resolve", &format!("somebody.test:{}:127.0.0.1", 19_443)])
        .arg(format!("https://somebody.test:{}/", 19_443))
        .status()
        .unwrap();
    assert!(out.success(), "{out}");
    let took = up.wait_until("the hello of a curl is stored", |up| {
        up.query("SELECT count() FROM ja4_logs.tls_logs WHERE sni = 'somebody.test'") == "1"
    });
    println!("the hello of a curl was stored {took:?} after its answer");
    up.wait_until("there are hellos of four TLS stacks", |up| {
        let n_ja4 = up.query("SELECT uniqExact(ja4) FROM ja4_logs.tls_logs WHERE sni != 'somebody.test'");
        n_ja4.parse::<u32>().is_ok_and(|n_ja4| n_ja4 >= 4)
    });
    check_joined(&up.finish());
}

#[test]
fn yesterday_is_joined_before_today_and_bots_are_in_the_summary() {
    if !may_capture() {
        return;
    }
    let mut up = Pipeline::start(
        22_000,
        &["--demo", "--demo-bots", "3", "--seed", "5", "--for", "45s"],
    );
    up.wait_until_it_runs();
    assert!(
        up.log().contains("yesterday, as recorded, is in the store"),
        "{}",
        up.log()
    );
    let old =
        up.query("SELECT count(), countIf(match = 'none') FROM ja4_logs.http_logs WHERE ts < now() - 900");
    let (n_rows, n_none) = old.split_once('\t').unwrap();
    assert!(n_rows.parse::<u32>().unwrap() > 5_000, "{old}");
    assert_eq!(n_none, "0", "requests of yesterday without their connection");
    let link = std::fs::read_to_string(up.folder.path().join("data/run/login-link")).unwrap();
    let log = up.log();
    assert!(log.contains(link.trim()), "the one-time link is printed: {log}");
    let summary = up.finish();
    check_joined(&summary);
    let bots = summary["truth"]["bots"].as_array().unwrap();
    assert_eq!(bots.len(), 3, "{}", summary["truth"]);
    assert!(bots.iter().any(|bot| bot["kind"] == "fake_crawler"), "{bots:?}");
    let detection = &summary["detection"];
    assert!(number(&detection["cycles"]) >= 2, "{detection}");
    assert_eq!(detection["cycles_failed"], 0, "{detection}");
    // The first cycle scores all of yesterday's clients, the later ones who was there since.
    let stages = summary["stages"].as_array().unwrap();
    let clients = stages.iter().find(|stage| stage["name"] == "detector.clients");
    let clients = clients.expect("the detector is in the ledger");
    assert!(number(&clients["passed"]) >= 200, "{clients}");
}

#[test]
fn every_killed_process_comes_back_and_what_was_lost_is_counted() {
    if !may_capture() {
        return;
    }
    let processes = [
        "ja4-sensor",
        "ja4-demo-origin",
        "ja4-demo-clients",
        "ja4-dashboard",
        "ja4-detector",
        "ja4-correlator",
        "ja4-clickhouse",
    ];
    let mut up = Pipeline::start(20_000, &["--demo", "--no-yesterday", "--for", "40s"]);
    up.wait_until_it_runs();
    for process in processes {
        std::thread::sleep(Duration::from_secs(2));
        let pid = up.pid(process).unwrap();
        let killed = Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap();
        assert!(killed.success(), "{process} {killed}");
        up.wait_until(&format!("{process} runs again"), |up| {
            up.pid(process).is_some_and(|now| now != pid)
        });
    }
    let summary = up.finish();
    for process in summary["processes"].as_array().unwrap() {
        assert_eq!(process["restarts"], 1, "{process}");
    }
    let totals = &summary["totals"];
    // The sensor did not see the hellos of its absence; what it saw is never joined to another's request.
    assert_eq!(totals["wrong"], 0, "{totals}");
    let joined = &totals["joined"];
    let found = number(&joined["exact"]) + number(&joined["asof"]);
    assert!(found * 2 > number(&totals["requests"]), "{totals}");
}

#[test]
fn what_a_killed_run_left_is_ended_and_stored_and_the_next_run_counts_its_own() {
    if !may_capture() {
        return;
    }
    let mut first = Pipeline::start(21_000, &["--demo", "--no-yesterday"]);
    first.wait_until_it_runs();
    first.wait_until("rows are stored", |up| {
        let n_rows = up.query("SELECT count() FROM ja4_logs.http_logs");
        n_rows.parse::<u64>().is_ok_and(|n| n > 100)
    });
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mut second = Pipeline::start_on(first.folder, 21_000, &["--demo", "--no-yesterday", "--for", "5s"]);
    second.wait_until_it_runs();
    check_joined(&second.finish());
}
