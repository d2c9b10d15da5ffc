//! A real store for tests: one that `CLICKHOUSE_URL` names, else `ja4-clickhouse` on a temporary folder.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ja4_schema::apply::apply_timed;
use ja4_schema::lock::Timing;
use ja4_schema::queries::Query;
use ja4_schema::{Names, RetentionDays, Store, apply, migrations};

use self::store_process::StoreProcess;

mod fill;
#[path = "../../src/bin/schema-bench/store_process.rs"]
pub(crate) mod store_process;

pub(crate) use fill::fill;

/// A store with databases of one test, and the process behind it, which tests that run at the same time share.
#[derive(Debug)]
pub(crate) struct TestStore {
    store: Store,
    process: Option<Arc<StoreProcess>>,
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// Where a child process finds the store of the test that starts it, in two variables.
pub(crate) const CHILD_URL: &str = "JA4_SCHEMA_CHILD_URL";
pub(crate) const CHILD_TOKEN: &str = "JA4_SCHEMA_CHILD_TOKEN";

impl TestStore {
    /// Tells a child process where the store is.
    pub(crate) fn access(&self) -> [(&'static str, String); 2] {
        let (url, token) = match &self.process {
            Some(process) => process.access(),
            None => ("", ""),
        };
        [(CHILD_URL, url.to_owned()), (CHILD_TOKEN, token.to_owned())]
    }
}

/// The client of a child process of a test.
pub(crate) fn client_of_parent() -> clickhouse::Client {
    let url = std::env::var(CHILD_URL).unwrap();
    if url.is_empty() {
        return clickhouse::Client::default().with_url(std::env::var("CLICKHOUSE_URL").unwrap());
    }
    store_process::client(&url, &std::env::var(CHILD_TOKEN).unwrap())
}

/// What `child_that_applies` does in a process of its own; nothing where no test started it.
pub(crate) async fn apply_as_child() {
    let Ok(names) = std::env::var("JA4_SCHEMA_CHILD") else {
        return;
    };
    let (logs, processing) = names.split_once(',').unwrap();
    let store = Store::with_client(client_of_parent(), Names::new(logs, processing).unwrap());
    let timing = Timing {
        lease: Duration::from_millis(600),
        patience: Duration::from_secs(20),
    };
    apply_timed(&store, &migrations(), &RetentionDays::default(), timing)
        .await
        .unwrap();
}

/// Starts appliers and kills them, each later than the one before by so much, until one is done first; how many.
pub(crate) async fn kill_appliers(store: &TestStore, longer_ms: u64) -> u32 {
    let names = format!("{},{}", store.names().logs(), store.names().processing());
    let mut n_killed = 0;
    for try_idx in 0..60_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_applies"])
            .env("JA4_SCHEMA_CHILD", &names)
            .envs(store.access())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // A wait that differs from try to try and grows, so that each try gets further.
        let wait_ms = 20 + (try_idx * 37) % 90 + longer_ms * try_idx;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        n_killed += 1;
    }
    n_killed
}

/// A store with databases of this test's own, not migrated yet. `None`, with a message, where no store can run.
pub(crate) fn empty_store(test: &str) -> Option<TestStore> {
    let unique = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
        % 1_000_000_007;
    let names = Names::new(
        &format!("t_{test}_{unique}_logs"),
        &format!("t_{test}_{unique}_proc"),
    )
    .unwrap();
    if let Ok(url) = std::env::var("CLICKHOUSE_URL") {
        let store = Store::new(&url, names);
        return Some(TestStore { store, process: None });
    }
    let process = shared_process()?;
    let store = Store::with_client(process.client(), names);
    Some(TestStore {
        store,
        process: Some(process),
    })
}

/// The process that runs now, or a new one.
fn shared_process() -> Option<Arc<StoreProcess>> {
    static RUNNING: Mutex<Weak<StoreProcess>> = Mutex::new(Weak::new());
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(process) = running.upgrade() {
        return Some(process);
    }
    fetch_library()?;
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("ja4-schema-test-{}-{number}", std::process::id()));
    let process = Arc::new(StoreProcess::start(&program(), folder).unwrap());
    *running = Arc::downgrade(&process);
    Some(process)
}

/// Fetches the engine into the cache where the store looks for it.
fn fetch_library() -> Option<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/fetch-libchdb");
    let fetched = Command::new(script)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status();
    if fetched.is_ok_and(|status| status.success()) {
        return Some(());
    }
    println!("skipped: libchdb cannot be had here; scripts/fetch-libchdb says what to do");
    None
}

fn program() -> PathBuf {
    const NAME: &str = "ja4-clickhouse";
    let built = Path::new(env!("CARGO_BIN_EXE_schema-doc")).with_file_name(NAME);
    let path = std::env::var_os("JA4_PROGRAMS").map_or(built, |folder| Path::new(&folder).join(NAME));
    assert!(
        path.exists(),
        "{NAME} is not built: cargo build -p embedded-clickhouse"
    );
    path
}

/// The same with all migrations applied.
pub(crate) async fn migrated_store(test: &str) -> Option<TestStore> {
    let store = empty_store(test)?;
    apply(&store, &migrations(), &RetentionDays::default())
        .await
        .unwrap();
    Some(store)
}

/// Drops the test's databases.
pub(crate) async fn drop_databases(store: &Store) {
    store
        .execute("DROP DATABASE IF EXISTS {logs} SYNC")
        .await
        .unwrap();
    store
        .execute("DROP DATABASE IF EXISTS {processing} SYNC")
        .await
        .unwrap();
}

/// Every aggregate has what the requests say.
pub(crate) async fn aggregates_equal_their_recomputation(store: &Store) {
    let query = Query::named("check_aggregates").unwrap();
    let rows = store
        .rows(
            query.text(),
            &[("from", "2020-01-01 00:00:00"), ("to", "2100-01-01 00:00:00")],
        )
        .await
        .unwrap();
    assert!(rows.len() >= 20);
    for row in rows {
        assert_eq!(row[1], row[2], "{}", row[0]);
    }
}
