//! The analyst's path in a real Chromium, on the real store, detector and dashboard: on an empty, a small and a full store,
//! and with a store that goes away under an open page.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::format_push_string,
    reason = "a test fails by panicking and says what it skips"
)]

mod common;
#[path = "../../schema/tests/common/traffic.rs"]
#[allow(unreachable_pub, reason = "shared with the tests of the detector")]
mod traffic;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{BOOT_TIMEOUT, Dashboard, Process, TestStore, free_port, program};
use serde_json::Value;
use traffic::{Kind, PEOPLE};

/// People on the full store, over two hours: enough for a model, and some in each five minutes.
const N_PEOPLE: u32 = 400;
/// Cycles within which their model must be armed.
const MAX_CYCLES: i64 = 10;

#[tokio::test]
async fn an_analyst_finds_every_page_of_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let Some(site) = Site::start(folder.path()).await else {
        return;
    };
    let _detector = site.detect().await;
    site.walk("analyst.mjs", &["--expect", "empty"], |_| ());
}

#[tokio::test]
async fn an_analyst_judges_the_one_liar_of_a_small_store() {
    let folder = tempfile::tempdir().unwrap();
    let Some(site) = Site::start(folder.path()).await else {
        return;
    };
    let now = now_s();
    site.traffic(&PEOPLE, 5, now - 600, now).await;
    site.traffic(&Kind::liar(), 1, now - 60, now).await;
    let _detector = site.detect().await;
    site.walk("analyst.mjs", &["--expect", "small"], |_| ());
}

#[tokio::test]
async fn an_analyst_walks_a_full_store_whose_detector_is_armed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(site) = Site::start(folder.path()).await else {
        return;
    };
    let now = now_s();
    site.traffic(&PEOPLE, N_PEOPLE, now - 7200, now).await;
    let armed_at = site.arm(now - 3600);
    site.traffic(&Kind::liar(), 3, armed_at, now).await;
    site.traffic(&Kind::fake_googlebot(), 1, armed_at, now).await;
    site.traffic(&Kind::scanner(), 1, now - 600, now).await;
    site.traffic(&Kind::scraper(), 1, now - 600, now).await;
    let _detector = site.detect().await;
    site.walk("analyst.mjs", &["--expect", "full"], |_| ());
    let state = "SELECT argMax(state, started_at) FROM {processing}.ml_cycles";
    let state = site.store().store.value(state, &[]).await.unwrap();
    assert_eq!(state.as_deref(), Some("armed"));
}

#[tokio::test]
async fn a_store_that_goes_away_under_an_open_page_is_said_and_the_page_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut site) = Site::start(folder.path()).await else {
        return;
    };
    let now = now_s();
    site.traffic(&PEOPLE, 5, now - 600, now).await;
    let mut store = site.store.take().unwrap();
    let mut asked = Vec::new();
    site.walk("outage.mjs", &[], |line| {
        match line {
            "store: kill it" => store.kill(),
            "store: start it" => store.restart(),
            _ => return,
        }
        asked.push(line.to_owned());
    });
    assert_eq!(asked, ["store: kill it", "store: start it"]);
}

/// A store with a dashboard on it.
struct Site {
    folder: PathBuf,
    /// There until a test takes it away.
    store: Option<TestStore>,
    dashboard: Dashboard,
    detector_port: u16,
}

impl Site {
    /// `None`, with a message, where there is no engine, no browser, or no pages.
    async fn start(folder: &Path) -> Option<Self> {
        has_browser()?;
        let store = TestStore::start(folder).await?;
        let detector_port = free_port();
        let detector_url = format!("detector_url: 'http://127.0.0.1:{detector_port}'\n");
        let dashboard = Dashboard::start(folder, &store, &detector_url);
        Some(Self {
            folder: folder.to_owned(),
            store: Some(store),
            dashboard,
            detector_port,
        })
    }

    fn store(&self) -> &TestStore {
        self.store.as_ref().unwrap()
    }

    async fn traffic(&self, kind: &Kind, n_clients: u32, from_s: i64, to_s: i64) {
        let sql = kind.insert(n_clients, from_s, to_s);
        self.store().store.execute(&sql).await.unwrap();
    }

    /// The detector's configuration: cycles of two seconds, and people of an hour are enough.
    fn detector_config(&self) -> String {
        let path = self.folder.join("detector.yaml");
        let text = format!(
            "process: {{admin: '127.0.0.1:{port}'}}\nstore: {{url: '{url}', user: detector, token_file: {token}}}\n\
             interval: 2s\nsettle: 0s\nshards: 1\nstate: {{stable_clients: 20}}\n",
            port = self.detector_port,
            url = self.store().url(),
            token = self.folder.join("store/tokens/detector").display(),
        );
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs cycles from `from_s` on until the model is armed; where that was.
    fn arm(&self, from_s: i64) -> i64 {
        let config = self.detector_config();
        let mut to_s = from_s / 300 * 300;
        for _ in 0..MAX_CYCLES {
            let out = Command::new(program("ja4-detector"))
                .args(["run", "--config", &config, "--at", &to_s.to_string()])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{said}");
            let report: Value = serde_json::from_slice(&out.stdout).unwrap();
            println!("cycle {to_s}: {}", report["state"]);
            if report["state"] == "armed" {
                return to_s;
            }
            to_s += 300;
        }
        panic!("the detector is not armed after {MAX_CYCLES} cycles");
    }

    /// The detector, cycle after cycle; the first is done.
    async fn detect(&self) -> Process {
        let n_before = self.n_cycles().await;
        let config = self.detector_config();
        let log = self.folder.join("detector.log");
        let process = Process::start(&program("ja4-detector"), &["serve", "--config", &config], &log);
        let deadline = Instant::now() + BOOT_TIMEOUT;
        while self.n_cycles().await == n_before {
            assert!(
                Instant::now() < deadline,
                "the detector does no cycle:\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        process
    }

    async fn n_cycles(&self) -> u64 {
        let sql = "SELECT count() FROM {processing}.ml_cycles WHERE error = ''";
        let n = self.store().store.value(sql, &[]).await.unwrap();
        n.unwrap().parse().unwrap()
    }

    /// Runs a script of `web/e2e` and hands on its lines; it must end well.
    #[track_caller]
    fn walk(&self, script: &str, more: &[&str], mut on_line: impl FnMut(&str)) {
        let mut command = Command::new("node");
        command
            .current_dir(web())
            .arg(format!("e2e/{script}"))
            .args(["--base", &format!("http://{}", self.dashboard.address)])
            .args(["--link", &self.dashboard.link_token()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(pictures) = std::env::var_os("JA4_TEST_PICTURES") {
            let name = more.last().copied().unwrap_or("outage");
            command.arg("--out").arg(Path::new(&pictures).join(name));
        }
        let mut child = command.spawn().unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            println!("{line}");
            on_line(&line);
        }
        let status = child.wait().unwrap();
        assert!(
            status.success(),
            "{script} ended with {status}; what the dashboard said:\n{}",
            self.dashboard.log()
        );
    }
}

fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web")
}

fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// What the scripts need; a message names what is missing.
fn has_browser() -> Option<()> {
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    let node = Command::new("node").arg("--version").output();
    let missing = if dashboard_ui::IS_STUB {
        "the dashboard was built without pages; cargo xtask ci --only web,build"
    } else if !node.is_ok_and(|out| out.status.success()) {
        "there is no node; scripts/bootstrap says what to do"
    } else if !web().join("node_modules/playwright-core").exists() {
        "dashboard/web has no node_modules; cargo xtask ci --only web"
    } else if !Path::new(&chromium).exists() {
        "there is no chromium; scripts/bootstrap says what to do"
    } else {
        return Some(());
    };
    println!("skipped: {missing}");
    None
}
