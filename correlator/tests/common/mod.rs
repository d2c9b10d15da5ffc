//! Real processes for the correlator's tests: the store, the correlator, producers, and what is in the store.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(
    unreachable_pub,
    reason = "shared by the test files, which are crates of their own"
)]

pub mod hop;
pub mod traffic;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ja4_schema::{Names, RetentionDays};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Host name of everything in these tests.
pub const NODE: &str = "test-node";

/// Longest wait for anything; a busy machine is slow, a broken one is stuck for ever.
const PATIENCE: Duration = Duration::from_mins(2);

/// The engine's library; None, with a message, where it cannot be had.
pub fn library() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/fetch-libchdb");
    let output = Command::new(script).stderr(Stdio::inherit()).output().ok()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: libchdb cannot be had here; scripts/fetch-libchdb says what to do");
    None
}

/// Leaves the test, with the message of [`library`], where there is no engine.
#[macro_export]
macro_rules! library_or_skip {
    () => {
        match common::library() {
            Some(library) => library,
            None => return,
        }
    };
}

/// A program of the workspace: in the folder `JA4_PROGRAMS`, so that a long run can use a copy, else where cargo puts it.
pub fn program(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_ja4-correlator")).with_file_name(name);
    let path = std::env::var_os("JA4_PROGRAMS").map_or(built, |folder| Path::new(&folder).join(name));
    assert!(path.exists(), "{name} is not built: cargo build --workspace");
    path
}

/// Polls until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends a process as a crash would.
pub fn kill_9(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Asks a process to end, and waits.
#[track_caller]
pub fn terminate(child: &mut Child) -> ExitStatus {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    wait_exit(child)
}

/// Waits for the end of a process.
#[track_caller]
pub fn wait_exit(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the end of a process", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// The store: a folder, an address that stays, and how to start it.
pub struct Store {
    library: PathBuf,
    folder: PathBuf,
    port: u16,
    pub child: Child,
    /// For the process, such as a preloaded library.
    pub environment: Vec<(String, String)>,
}

impl Store {
    /// Numbers of one producer that a table holds: how many rows, and the different ones.
    pub fn stored(&self, table: &str, boot: u64) -> (u64, HashSet<u64>) {
        let rows = self.number(&format!(
            "SELECT count() FROM ja4_logs.{table} WHERE boot = {boot}"
        ));
        let seqs = self.sql(&format!(
            "SELECT DISTINCT seq FROM ja4_logs.{table} WHERE boot = {boot}"
        ));
        (rows, seqs.lines().map(|seq| seq.parse().unwrap()).collect())
    }

    /// Starts a store on an empty folder and applies the real migrations.
    pub fn start(library: PathBuf, folder: &Path) -> Self {
        let mut store = Self::start_empty(library, folder);
        store.migrate();
        store.environment = Vec::new();
        store
    }

    /// Starts a store on an empty folder.
    pub fn start_empty(library: PathBuf, folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = folder.join("store");
        fs::create_dir_all(&folder).unwrap();
        let child = spawn_store(&library, &folder, port, &[]);
        let mut store = Self {
            library,
            folder,
            port,
            child,
            environment: Vec::new(),
        };
        store.wait_ready();
        store
    }

    fn migrate(&mut self) {
        let store = self.schema();
        runtime()
            .block_on(ja4_schema::apply(
                &store,
                &ja4_schema::migrations(),
                &RetentionDays::default(),
            ))
            .unwrap();
    }

    fn schema(&self) -> ja4_schema::Store {
        let client = clickhouse::Client::default()
            .with_url(self.url())
            .with_user("migrator")
            .with_password(self.token("migrator"));
        ja4_schema::Store::with_client(client, Names::default())
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn token_file(&self, class: &str) -> PathBuf {
        self.folder.join("tokens").join(class)
    }

    fn token(&self, class: &str) -> String {
        fs::read_to_string(self.token_file(class))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// Starts the process again; it need not be ready.
    pub fn spawn_again(&mut self) {
        self.child = spawn_store(&self.library, &self.folder, self.port, &self.environment);
    }

    /// Starts it again if it has ended by itself, as whoever supervises it would.
    pub fn supervise(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            assert_eq!(
                status.code(),
                Some(75),
                "the store ended by itself:\n{}",
                self.log()
            );
            self.spawn_again();
        }
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        let listen = self.folder.join("listen");
        let deadline = Instant::now() + PATIENCE;
        while !listen.exists() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the store ended with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "the store did not start:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default()
    }

    /// Runs a statement as the migrator that must succeed; its output without the last line end.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        let (status, text) = self
            .post(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}:\n{}", self.log()));
        assert_eq!(status, 200, "{sql}: {text}");
        text.trim_end().to_owned()
    }

    /// A number that a statement gives.
    #[track_caller]
    pub fn number(&self, sql: &str) -> u64 {
        let text = self.sql(sql);
        text.parse().unwrap_or_else(|_| panic!("{sql}: {text}"))
    }

    fn post(&self, sql: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "POST / HTTP/1.0\r\nHost: x\r\nX-ClickHouse-Key: {}\r\nContent-Length: {}\r\n\r\n{sql}",
            self.token("migrator"),
            sql.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let chunked = head.to_ascii_lowercase().contains("chunked");
        let body = if chunked { unchunked(body) } else { body.to_owned() };
        Ok((status.unwrap_or(0), body))
    }

    /// Every materialized view over what the correlator writes with what its target holds and what its source gives when the
    /// view is computed again; the names of those that agree. Differences are given as text.
    pub fn check_aggregates(&self) -> Result<Vec<String>, String> {
        self.sql("DROP DATABASE IF EXISTS again");
        self.sql("CREATE DATABASE again");
        let views = self.sql(
            "SELECT database, name, extract(create_table_query, ' TO ([A-Za-z0-9_.`]+)'), replaceRegexpAll(as_select, '[\\n\\t]', ' ') \
             FROM system.tables WHERE engine = 'MaterializedView' AND database IN ('ja4_logs', 'ja4_processing') \
             AND as_select NOT LIKE '%.soc_%' ORDER BY name",
        );
        let mut agreeing = Vec::new();
        for view in views.lines() {
            let fields: Vec<&str> = view.split('\t').collect();
            let [_, name, target, select] = fields[..] else {
                return Err(format!("a view that cannot be read: {view}"));
            };
            let select = select.replace("\\'", "'").replace("\\\\", "\\");
            self.check_view(name, &target.replace('`', ""), &select)?;
            agreeing.push(name.to_owned());
        }
        Ok(agreeing)
    }

    fn check_view(&self, name: &str, target: &str, select: &str) -> Result<(), String> {
        let (database, table) = target
            .split_once('.')
            .ok_or_else(|| format!("{name}: no target"))?;
        self.sql(&format!("CREATE TABLE again.{table} AS {target}"));
        self.sql(&format!(
            "INSERT INTO again.{table} ({}) {select}",
            self.columns_of(select)
        ));
        let columns = self.sql(&format!(
            "SELECT name, type FROM system.columns WHERE database = '{database}' AND table = '{table}' \
             AND default_kind NOT IN ('ALIAS', 'MATERIALIZED') ORDER BY position"
        ));
        let comparable = |line: &str| -> Option<String> {
            let (column, kind) = line.split_once('\t')?;
            if kind.starts_with("AggregateFunction(") {
                Some(format!("finalizeAggregation({column}) AS f_{column}"))
            } else if kind.starts_with("SimpleAggregateFunction(any,") {
                // Any of the values: which one depends on the order of merges.
                None
            } else if kind.starts_with("SimpleAggregateFunction(group") && kind.contains("Array(") {
                Some(format!("arraySort({column}) AS s_{column}"))
            } else {
                Some(column.to_owned())
            }
        };
        let expressions: Vec<String> = columns.lines().filter_map(comparable).collect();
        let expressions = expressions.join(", ");
        let (kept, expected) = (
            format!("SELECT {expressions} FROM {target} FINAL"),
            format!("SELECT {expressions} FROM again.{table} FINAL"),
        );
        let n_kept = self.number(&format!("SELECT count() FROM ({kept})"));
        let n_expected = self.number(&format!("SELECT count() FROM ({expected})"));
        let too_much = self.sql(&format!("SELECT * FROM ({kept} EXCEPT {expected}) LIMIT 3"));
        let too_little = self.sql(&format!("SELECT * FROM ({expected} EXCEPT {kept}) LIMIT 3"));
        if n_kept != n_expected || !too_much.is_empty() || !too_little.is_empty() {
            return Err(format!(
                "{name}: {n_kept} rows kept, {n_expected} expected\nkept:\n{too_much}\nexpected:\n{too_little}"
            ));
        }
        if n_kept == 0 {
            return Err(format!("{name}: nothing to compare"));
        }
        Ok(())
    }

    /// Names of the columns that a SELECT gives, in its order.
    fn columns_of(&self, select: &str) -> String {
        let described = self.sql(&format!("DESCRIBE TABLE ({select})"));
        let names: Vec<&str> = described
            .lines()
            .filter_map(|line| line.split('\t').next())
            .collect();
        names.join(", ")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn unchunked(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        if length == 0 || after.len() < length {
            break;
        }
        out.push_str(&after[..length]);
        rest = after[length..].trim_start_matches("\r\n");
    }
    out
}

fn spawn_store(library: &Path, folder: &Path, port: u16, environment: &[(String, String)]) -> Child {
    // Left by the last run; may already be gone.
    let _gone = fs::remove_file(folder.join("listen"));
    Command::new(program("ja4-clickhouse"))
        .args(["run", "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(folder)
        .arg("--lib")
        .arg(library)
        .envs(environment.iter().cloned())
        .stdout(Stdio::null())
        .stderr(log_file(&folder.with_extension("log")))
        .spawn()
        .unwrap()
}

fn log_file(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The correlator: its folder, its configuration, its process.
pub struct Correlator {
    folder: PathBuf,
    pub child: Child,
}

impl Correlator {
    /// Starts it in `folder`. `more` is YAML that comes on top of sockets, key, spool and ledger there.
    pub fn start(folder: &Path, store: Option<&Store>, more: &str) -> Self {
        Self::configure(folder, store, more);
        Self::start_configured(folder)
    }

    /// Starts it with the configuration that is in `folder`.
    pub fn start_configured(folder: &Path) -> Self {
        Self::start_as(folder, &["run".to_owned()])
    }

    /// The same with another command, whose options are given without `--config`.
    pub fn start_as(folder: &Path, command: &[String]) -> Self {
        let correlator = Self {
            folder: folder.to_owned(),
            child: spawn_correlator(folder, command),
        };
        correlator.wait_ready();
        correlator
    }

    /// The same with a disk of one mebibyte at `small`, that only the process sees; None where nobody may mount one.
    pub fn start_on_small_disk(folder: &Path, small: &Path) -> Option<Self> {
        let namespace = ["-m", "-rm"].into_iter().find(|flag| {
            let tried = Command::new("unshare")
                .args([flag, "mount", "-t", "tmpfs", "tmpfs"])
                .arg(small)
                .output();
            tried.is_ok_and(|out| out.status.success())
        })?;
        let child = Command::new("unshare")
            .args([
                namespace,
                "sh",
                "-c",
                "mount -t tmpfs -o size=1m tmpfs \"$1\" && exec \"$2\" run --config \"$3\"",
                "sh",
            ])
            .arg(small)
            .arg(program("ja4-correlator"))
            .arg(folder.join("correlator.yaml"))
            .stdout(Stdio::null())
            .stderr(log_file(&folder.join("correlator.log")))
            .spawn()
            .unwrap();
        let correlator = Self {
            folder: folder.to_owned(),
            child,
        };
        correlator.wait_ready();
        Some(correlator)
    }

    /// Writes the configuration only.
    pub fn configure(folder: &Path, store: Option<&Store>, more: &str) {
        let at = |name: &str| folder.join(name).display().to_string();
        let store = store.map_or_else(
            || "store: {disabled: true}\n".to_owned(),
            |store| {
                format!(
                    "store: {{connection: {{url: \"{}\", token_file: \"{}\"}}}}\n",
                    store.url(),
                    store.token_file("writer").display()
                )
            },
        );
        let config = format!(
            "process: {{ledger_file: \"{}\"}}\nnode: {NODE}\nsources:\n\
             - {{path: \"{}\", kind: stream, role: network}}\n\
             - {{path: \"{}\", kind: stream, role: http}}\n\
             - {{path: \"{}\", kind: seqpacket, role: http}}\n\
             redaction: {{key_file: \"{}\"}}\n{store}{more}\n",
            at("ledger.json"),
            at("network.socket"),
            at("http.stream"),
            at("http.socket"),
            at("redaction.key"),
        );
        fs::write(folder.join("correlator.yaml"), config).unwrap();
    }

    /// Starts the process again; it need not be ready.
    pub fn spawn_again(&mut self) {
        self.child = spawn_correlator(&self.folder, &["run".to_owned()]);
    }

    #[track_caller]
    pub fn wait_ready(&self) {
        until("a socket of the correlator", || {
            std::os::unix::net::UnixStream::connect(self.folder.join("network.socket")).is_ok()
        });
    }

    /// Ends it in order; its last ledger.
    #[track_caller]
    pub fn stop(mut self) -> Value {
        let status = terminate(&mut self.child);
        assert!(status.success(), "{status}:\n{}", self.log());
        self.ledger()
    }

    /// The ledger as of the last second.
    pub fn ledger(&self) -> Value {
        fs::read(self.folder.join("ledger.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Takes the ledger away, so that the next one is from now.
    pub fn forget_ledger(&self) {
        // It may not have been written yet.
        let _gone = fs::remove_file(self.folder.join("ledger.json"));
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("correlator.log")).unwrap_or_default()
    }

    /// Lines of the log that contain all of `words`.
    pub fn lines(&self, words: &[&str]) -> Vec<String> {
        let log = self.log();
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        log.lines().filter(has_all).map(str::to_owned).collect()
    }
}

impl Drop for Correlator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the correlator:\n{}", self.log());
        }
    }
}

fn spawn_correlator(folder: &Path, command: &[String]) -> Child {
    Command::new(program("ja4-correlator"))
        .args(command)
        .arg("--config")
        .arg(folder.join("correlator.yaml"))
        .stdout(Stdio::null())
        .stderr(log_file(&folder.join("correlator.log")))
        .spawn()
        .unwrap()
}

/// A stage of a ledger: received, passed, dropped by reason, pending.
#[track_caller]
pub fn stage<'a>(ledger: &'a Value, name: &str) -> &'a Value {
    let stages = ledger["stages"].as_array().unwrap();
    stages
        .iter()
        .find(|stage| stage["name"] == name)
        .unwrap_or_else(|| panic!("no stage {name} in {ledger}"))
}

/// Every equation of a ledger that does not hold.
pub fn imbalances(ledger: &Value) -> Vec<String> {
    let n = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
    let stages = ledger["stages"].as_array().unwrap();
    let out_of_balance = |stage: &&Value| {
        let dropped: u64 = stage["dropped"].as_object().unwrap().values().map(n).sum();
        n(&stage["received"]) != n(&stage["passed"]) + dropped + n(&stage["pending"])
    };
    stages
        .iter()
        .filter(out_of_balance)
        .map(Value::to_string)
        .collect()
}

/// Deterministic randomness, so that a failure can be told apart from bad luck by its seed.
pub struct Random(u64);

impl Random {
    /// Seeded by `JA4_SEED` or the time; says which.
    pub fn new() -> Self {
        let seed = std::env::var("JA4_SEED").ok().map_or_else(
            || {
                let now = std::time::SystemTime::now();
                let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
                u64::from(since.subsec_nanos()) << 20 | since.as_secs() & 0xf_ffff
            },
            |seed| seed.parse().expect("JA4_SEED is a number"),
        );
        println!("JA4_SEED={seed}");
        Self(seed | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
