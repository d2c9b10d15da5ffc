//! What goes wrong in the field, against the real store: each is said in one clear line, nothing that was acknowledged
//! is lost, nothing is stored twice, and the process goes on.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

mod common;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::traffic::{Connection, Producer, now_ns};
use common::{Correlator, Store, imbalances, kill_9, program, stage, until};
use serde_json::Value;

/// A folder of its own for each case, and producers on it.
struct Case {
    folder: PathBuf,
    sensor: Producer,
    server: Producer,
    next: u64,
}

impl Case {
    fn new(directory: &Path, name: &str) -> Self {
        println!("case {name}");
        let folder = directory.join(name);
        fs::create_dir_all(&folder).unwrap();
        Self {
            sensor: Producer::sensor(&folder),
            server: Producer::server(&folder),
            folder,
            next: 0,
        }
    }

    fn spool(&self) -> String {
        format!(
            "spool: {{dir: \"{}\", batch_age: 100ms}}",
            self.folder.join("spool").display()
        )
    }

    fn start(&self, store: &Store) -> Correlator {
        Correlator::start(&self.folder, Some(store), &self.spool())
    }

    /// Sends `n` connections with a request each.
    fn send(&mut self, n: u64) {
        for _ in 0..n {
            let conn = Connection::new(self.next);
            self.sensor.connection(&conn);
            self.server.send_row(conn.ts_ns, &conn.request(0));
            self.next += 1;
        }
    }

    fn is_settled(&self) -> bool {
        self.sensor.is_settled() && self.server.is_settled()
    }

    #[track_caller]
    fn wait_settled(&self) {
        until("the acknowledgement of everything", || self.is_settled());
    }

    fn acked(&self) -> u64 {
        self.sensor.emitter.counters().acked + self.server.emitter.counters().acked
    }

    /// Ends all in order and checks that every row is stored once; the ledger.
    #[track_caller]
    fn finish(self, correlator: Correlator, store: &Store) -> Value {
        self.finish_without(correlator, store, 0)
    }

    /// The same with requests that are not to be there.
    #[track_caller]
    fn finish_without(self, correlator: Correlator, store: &Store, n_missing: u64) -> Value {
        let boots = [
            ("tls_logs", self.sensor.boot.0),
            ("http_logs", self.server.boot.0),
        ];
        let (sensor, hellos) = self.sensor.stop();
        let (server, requests) = self.server.stop();
        for report in [sensor, server] {
            assert_eq!((report.unacknowledged, report.counters.dropped_total()), (0, 0));
        }
        // The end in order sends what is left.
        let ledger = correlator.stop();
        assert_eq!(ledger["facts"]["spool"]["segments"], 0, "{}", ledger["facts"]);
        assert_eq!(imbalances(&ledger), Vec::<String>::new());
        let expected = [hellos.len() as u64, requests.len() as u64 - n_missing];
        for ((table, boot), expected) in boots.into_iter().zip(expected) {
            let stored = store.sql(&format!(
                "SELECT count(), uniqExact(seq) FROM ja4_logs.{table} WHERE boot = {boot}"
            ));
            assert_eq!(stored, format!("{expected}\t{expected}"), "{table}");
        }
        ledger
    }
}

/// One after the other on one store, whose start is the longest part.
#[test]
fn what_goes_wrong_around_the_store_loses_nothing_and_is_said() {
    let library = library_or_skip!();
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::start(library, directory.path());
    let directory = directory.path();
    refused_token_is_said_and_read_again(directory, &store);
    poisoned_row_goes_to_quarantine_alone(directory, &store);
    absurd_times_are_clamped_and_counted(directory, &store);
    connections_from_before_a_restart_are_warmup(directory, &store);
    full_disk_holds_acknowledgements_back(directory, &store);
    absent_store_is_waited_for(directory, &mut store);
    memory_acknowledges_what_the_store_has(directory, &mut store);
    let views = store
        .check_aggregates()
        .unwrap_or_else(|difference| panic!("{difference}"));
    assert!(views.len() >= 6, "{views:?}");
}

fn refused_token_is_said_and_read_again(directory: &Path, store: &Store) {
    let mut case = Case::new(directory, "token");
    let token = case.folder.join("token");
    write_secret(&token, "not the token");
    Correlator::configure(&case.folder, Some(store), &case.spool());
    let config = case.folder.join("correlator.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let real = store.token_file("writer");
    fs::write(
        &config,
        text.replace(&real.display().to_string(), &token.display().to_string()),
    )
    .unwrap();
    let correlator = Correlator::start_configured(&case.folder);
    case.send(5);
    case.wait_settled();
    let line = [
        "put the token of user \"writer\" into",
        &token.display().to_string(),
        "Code: 516",
    ];
    until("a line about the token", || !correlator.lines(&line).is_empty());
    assert_eq!(
        correlator.lines(&["takes no batches"]).len(),
        1,
        "{}",
        correlator.log()
    );
    write_secret(&token, &fs::read_to_string(real).unwrap());
    until("a line about the end of the trouble", || {
        !correlator.lines(&["takes batches again"]).is_empty()
    });
    case.finish(correlator, store);
}

fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    options.open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn poisoned_row_goes_to_quarantine_alone(directory: &Path, store: &Store) {
    store.sql("ALTER TABLE ja4_logs.http_logs ADD CONSTRAINT no_poison CHECK host != 'poison.example'");
    let mut case = Case::new(directory, "poison");
    let correlator = case.start(store);
    case.send(20);
    let conn = Connection::new(case.next);
    case.sensor.connection(&conn);
    case.server
        .send_row(conn.ts_ns, &conn.request_to(0, "poison.example"));
    let poisoned = *case.server.rows.last().unwrap();
    case.next += 1;
    case.send(20);
    let boot = case.server.boot.0;
    let ledger = case.finish_without(correlator, store, 1);
    assert_eq!(
        stage(&ledger, "store.http_logs")["dropped"]["quarantined"],
        1,
        "{ledger}"
    );
    let kept = store.sql(
        "SELECT table_name, boot, seq, countSubstrings(reason, 'no_poison') > 0, countSubstrings(row_json, 'poison.example') > 0 \
         FROM ja4_logs.quarantine",
    );
    assert_eq!(kept, format!("http_logs\t{boot}\t{poisoned}\t1\t1"));
    store.sql("ALTER TABLE ja4_logs.http_logs DROP CONSTRAINT no_poison");
}

fn absurd_times_are_clamped_and_counted(directory: &Path, store: &Store) {
    let mut case = Case::new(directory, "times");
    let correlator = case.start(store);
    case.send(3);
    let year = 365 * 86_400 * 1_000_000_000_i64;
    for ts_ns in [0, -year, 129 * year] {
        let mut conn = Connection::new(case.next);
        case.next += 1;
        conn.ts_ns = ts_ns;
        case.sensor.send_row(ts_ns, &conn.hello());
        case.server.send_row(ts_ns, &conn.request(0));
    }
    let boot = case.server.boot.0;
    let ledger = case.finish(correlator, store);
    assert_eq!(ledger["facts"]["clamped"], 6, "{ledger}");
    let off = store.sql(&format!(
        "SELECT countIf(abs(dateDiff('second', recv_ts, ts)) = 86400), max(abs(dateDiff('second', recv_ts, ts))) \
         FROM ja4_logs.http_logs WHERE boot = {boot}"
    ));
    assert_eq!(off, "3\t86400");
}

/// Nothing is kept of connections: who comes on an older one is told apart from who comes on none.
fn connections_from_before_a_restart_are_warmup(directory: &Path, store: &Store) {
    let mut case = Case::new(directory, "restart");
    let mut correlator = case.start(store);
    let old = Connection::new(900_000);
    case.sensor.connection(&old);
    case.wait_settled();
    kill_9(&mut correlator.child);
    correlator.spawn_again();
    correlator.wait_ready();
    case.server.send_row(now_ns(), &old.request(1));
    // The first request of a connection that began well after the start says that nothing older is missing.
    let later = now_ns() + 1_000_000_000;
    case.server.send_row(later, &Connection::new(900_001).request(0));
    case.send(1);
    let boot = case.server.boot.0;
    let ledger = case.finish(correlator, store);
    let matches = store.sql(&format!(
        "SELECT match, match_reason, conn_uid != 0 FROM ja4_logs.http_logs WHERE boot = {boot} ORDER BY seq"
    ));
    assert_eq!(
        matches, "none\twarmup\t0\nnone\tno_conn\t0\nasof\t\t1",
        "{ledger}"
    );
}

fn full_disk_holds_acknowledgements_back(directory: &Path, store: &Store) {
    let mut case = Case::new(directory, "disk");
    let spool = case.folder.join("spool");
    fs::create_dir_all(&spool).unwrap();
    Correlator::configure(&case.folder, Some(store), &case.spool());
    let Some(correlator) = Correlator::start_on_small_disk(&case.folder, &spool) else {
        println!("skipped: this user may not mount a small disk (unshare -m or unshare -rm)");
        return;
    };
    case.send(10);
    case.wait_settled();
    // The process's own view of its folders: the mount is not ours.
    let inside =
        PathBuf::from(format!("/proc/{}/root", correlator.child.id())).join(spool.strip_prefix("/").unwrap());
    let junk = inside.join("junk");
    let mut file = fs::File::create(&junk).unwrap();
    while file.write_all(&[1; 1024]).is_ok() {}
    drop(file);
    let acked = case.acked();
    case.send(500);
    until("a line about the full disk", || {
        !correlator
            .lines(&["cannot be sealed", "free space where spool.dir is"])
            .is_empty()
    });
    // Several tries later it was said once, and nothing was acknowledged.
    let later = Instant::now() + Duration::from_secs(2);
    until("two seconds", || Instant::now() > later);
    assert_eq!(
        correlator.lines(&["cannot be sealed"]).len(),
        1,
        "{}",
        correlator.log()
    );
    assert!(!case.is_settled());
    assert_eq!(case.acked(), acked, "acknowledged without being kept");
    fs::remove_file(&junk).unwrap();
    case.wait_settled();
    assert_eq!(correlator.lines(&["the spool takes batches again"]).len(), 1);
    case.finish(correlator, store);
}

fn absent_store_is_waited_for(directory: &Path, store: &mut Store) {
    let mut case = Case::new(directory, "away");
    let correlator = case.start(store);
    case.send(5);
    case.wait_settled();
    kill_9(&mut store.child);
    case.send(50);
    // On disk: that is what is promised.
    case.wait_settled();
    until("a line about the store", || {
        !correlator
            .lines(&["takes no batches", "see that it runs"])
            .is_empty()
    });
    assert_eq!(correlator.lines(&["takes no batches"]).len(), 1);
    store.spawn_again();
    store.wait_ready();
    until("a line about the store", || {
        !correlator.lines(&["takes batches again"]).is_empty()
    });
    case.finish(correlator, store);
}

fn memory_acknowledges_what_the_store_has(directory: &Path, store: &mut Store) {
    let mut case = Case::new(directory, "memory");
    let memory = "spool: {durability: memory, batch_age: 100ms}";
    let mut correlator = Correlator::start(&case.folder, Some(store), memory);
    case.send(5);
    case.wait_settled();
    kill_9(&mut store.child);
    let acked = case.acked();
    case.send(50);
    until("a batch that waits", || {
        correlator.ledger()["facts"]["spool"]["segments"]
            .as_u64()
            .is_some_and(|n| n > 0)
    });
    // Nothing of it is anywhere but in memory, so nothing is acknowledged, and a crash loses nothing acknowledged.
    assert_eq!(case.acked(), acked);
    kill_9(&mut correlator.child);
    correlator.spawn_again();
    store.spawn_again();
    store.wait_ready();
    let ledger = case.finish(correlator, store);
    assert_eq!(ledger["facts"]["durability"], "memory");
}

/// Starts a correlator that must refuse; exit status and what it says.
fn refusal(folder: &Path) -> (Option<i32>, String) {
    let out = Command::new(program("ja4-correlator"))
        .args(["run", "--config"])
        .arg(folder.join("correlator.yaml"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    (out.status.code(), said)
}

#[test]
fn an_unknown_key_ends_with_one_line_that_names_the_nearest() {
    let directory = tempfile::tempdir().unwrap();
    Correlator::configure(directory.path(), None, "join: {orphan_waits: 1s}");
    let (code, said) = refusal(directory.path());
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("unknown key \"orphan_waits\"") && said.contains("did you mean \"orphan_wait\"?"),
        "{said}"
    );
}

#[test]
fn a_socket_of_a_living_process_is_not_taken_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    let first = Correlator::start(folder, None, "");
    let (code, said) = refusal(folder);
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.contains("in use") || line.contains("another process"))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        lines[0].contains("network.socket") && lines[0].contains("stop that process or set another path"),
        "{said}"
    );
    // The first still serves.
    let mut sensor = Producer::sensor(folder);
    sensor.connection(&Connection::new(1));
    until("an acknowledgement by the first process", || sensor.is_settled());
    let ledger = first.stop();
    assert_eq!(stage(&ledger, "correlator.input.sensor")["passed"], 2, "{ledger}");
}

#[test]
fn a_spool_of_a_living_process_is_not_taken_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    let dead_store = "store: {connection: {url: \"http://127.0.0.1:9\"}}\n";
    let spool = format!(
        "{dead_store}spool: {{dir: \"{}\"}}",
        folder.join("spool").display()
    );
    Correlator::configure(folder, None, "");
    let config = folder.join("correlator.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("store: {disabled: true}\n", &spool)).unwrap();
    let _first = Correlator::start_configured(folder);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("network.socket", "other.socket")).unwrap();
    let (code, said) = refusal(folder);
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.contains("in use by another process"))
        .collect();
    assert!(lines.len() == 1 && lines[0].contains("spool"), "{said}");
}
