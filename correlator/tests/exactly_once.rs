//! The whole way from producers to the store under kill -9 of the correlator and of the store: every acknowledged
//! event is stored once, and every aggregate is what its view gives when it is computed again from the raw rows.
//!
//! `JA4_SOAK_KILLS=500` for the long run.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::traffic::{Connection, Producer};
use common::{Correlator, Random, Store, imbalances, kill_9, until};
use serde_json::Value;

/// Requests on each connection that come over the acknowledged socket; one more comes over the other.
const REQUESTS: u32 = 3;

/// Without `JA4_SOAK_KILLS`: a dozen kills on a machine that has nothing else to do, fewer on a busy one.
const USUAL_KILLS: u64 = 12;
const USUAL_TIME: Duration = Duration::from_secs(15);
const FEWEST_KILLS: u64 = 4;

/// Small batches, so that the store is inserting nearly always.
const CONFIG: &str = "spool: {dir: \"SPOOL\", batch_age: 200ms}";

/// Widens the gap between the store's deduplication record and its part; None, with a message, without a C compiler.
fn rename_shim(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("rename_shim.so");
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("../embedded-clickhouse/tests");
    let source = store.join("store/rename_shim.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status();
    if compiled.is_ok_and(|status| status.success()) {
        return Some(library);
    }
    println!("the store's gap is not widened: cc cannot compile the shim (apt-get install build-essential)");
    None
}

/// What the producers have sent, and which numbers of it became rows.
struct Sent {
    boot: u64,
    rows: Vec<u64>,
    next_seq: u64,
    dropped: u64,
    unacknowledged: u64,
}

fn stop(producer: Producer, boot: u64) -> Sent {
    let (report, rows) = producer.stop();
    Sent {
        boot,
        rows,
        next_seq: report.counters.next_seq,
        dropped: report.counters.dropped_total(),
        unacknowledged: report.unacknowledged + report.counters.pending,
    }
}

/// Sends connections with their requests until told to stop.
fn send(folder: &Path, ending: &AtomicBool) -> [Sent; 3] {
    let mut sensor = Producer::sensor(folder);
    let mut server = Producer::server(folder);
    let mut packets = Producer::packet_server(folder);
    let boots = [&sensor, &server, &packets].map(|producer| producer.boot.0);
    let mut number = 0;
    while !ending.load(Ordering::SeqCst) {
        let conn = Connection::new(number);
        sensor.connection(&conn);
        for index in 0..REQUESTS {
            server.send_row(conn.ts_ns, &conn.request(index));
        }
        packets.send_row(conn.ts_ns, &conn.request(REQUESTS));
        number += 1;
        std::thread::sleep(Duration::from_millis(4));
    }
    let [a, b, c] = boots;
    [stop(sensor, a), stop(server, b), stop(packets, c)]
}

/// Waits until the correlator seals a batch: a kill now finds events that are kept and not acknowledged yet, which the
/// producers send again. Gives up after a while, as nothing is sealed by a process that cannot start.
fn wait_for_seal(spool: &Path) {
    let newest = || {
        let entries = std::fs::read_dir(spool).ok()?.flatten();
        let segments = entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "seg"));
        segments.map(|entry| entry.file_name()).max()
    };
    let before = newest();
    let deadline = Instant::now() + Duration::from_secs(1);
    while newest() <= before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// After hundreds of kills the store has minutes of inserts before it: patience ends when nothing moves.
fn wait_for_empty_spool(store: &mut Store, correlator: &Correlator) {
    correlator.forget_ledger();
    let mut left = u64::MAX;
    while left > 0 {
        until("progress of the spool", || {
            store.supervise();
            let now = correlator.ledger()["facts"]["spool"]["segments"].as_u64();
            now.is_some_and(|now| {
                let moved = now < left;
                left = left.min(now);
                moved
            })
        });
    }
}

#[derive(Debug, Default)]
struct Kills {
    correlator: u64,
    store: u64,
}

/// Kills one of both, or both, at random moments: as often as wanted, else as time permits.
fn kill_at_random(
    store: &mut Store,
    correlator: &mut Correlator,
    spool: &Path,
    wanted: Option<u64>,
    random: &mut Random,
) -> Kills {
    let mut kills = Kills::default();
    let started = Instant::now();
    let go_on = |kills: &Kills| {
        let n = kills.correlator + kills.store;
        wanted.map_or_else(
            || n < FEWEST_KILLS || n < USUAL_KILLS && started.elapsed() < USUAL_TIME,
            |wanted| n < wanted,
        )
    };
    while go_on(&kills) {
        // Now and then into the start of a process.
        let pause = if random.below(8) == 0 { 100 } else { 1000 };
        std::thread::sleep(Duration::from_millis(random.below(pause)));
        store.supervise();
        let victims = random.below(5);
        if victims >= 2 {
            if random.below(2) == 0 {
                wait_for_seal(spool);
            }
            kill_9(&mut correlator.child);
            kills.correlator += 1;
            correlator.spawn_again();
        }
        if victims <= 2 {
            kill_9(&mut store.child);
            kills.store += 1;
            store.spawn_again();
            if random.below(8) != 0 {
                store.wait_ready();
            }
        }
        if (kills.correlator + kills.store) % 50 == 0 {
            println!("{kills:?}");
        }
    }
    kills
}

#[test]
fn kills_lose_nothing_acknowledged_and_store_nothing_twice() {
    let library = library_or_skip!();
    let wanted: Option<u64> = std::env::var("JA4_SOAK_KILLS")
        .ok()
        .map(|n| n.parse().expect("JA4_SOAK_KILLS is a number"));
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    let mut random = Random::new();
    let mut store = Store::start(library, folder);
    if let Some(shim) = rename_shim(folder) {
        store.environment = vec![
            ("LD_PRELOAD".to_owned(), shim.display().to_string()),
            ("JA4_RENAME_DELAY_US".to_owned(), "3000".to_owned()),
        ];
    }
    let spool = folder.join("spool");
    let config = CONFIG.replace("SPOOL", &spool.display().to_string());
    let mut correlator = Correlator::start(folder, Some(&store), &config);
    let started = Instant::now();
    let ending = AtomicBool::new(false);
    let (kills, sent) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(folder, &ending));
        let kills = kill_at_random(&mut store, &mut correlator, &spool, wanted, &mut random);
        store.wait_ready();
        // The processes live long enough to take what is left.
        ending.store(true, Ordering::SeqCst);
        (kills, sending.join().unwrap())
    });
    wait_for_empty_spool(&mut store, &correlator);
    let ledger = correlator.stop();
    let ran = started.elapsed();
    check(&store, &ledger, &sent, &kills, ran);
}

fn check(store: &Store, ledger: &Value, sent: &[Sent; 3], kills: &Kills, ran: Duration) {
    let [sensor, server, packets] = sent;
    let mut wrong = Vec::new();
    let mut figures = Vec::new();
    for (name, table, sent) in [
        ("hellos", "tls_logs", sensor),
        ("requests", "http_logs", server),
        ("packet requests", "http_logs", packets),
    ] {
        if sent.dropped > 0 || sent.unacknowledged > 0 {
            wrong.push(format!(
                "{name}: {} dropped by the producer, {} not acknowledged at the end",
                sent.dropped, sent.unacknowledged
            ));
        }
        let (rows, seqs) = store.stored(table, sent.boot);
        let n_lost = sent.rows.iter().filter(|seq| !seqs.contains(seq)).count() as u64;
        let n_twice = rows - seqs.len() as u64;
        figures.push(format!(
            "{name}: {} sent, {n_lost} lost, {n_twice} twice",
            sent.rows.len()
        ));
        let told = lost_in(ledger, sent.boot);
        if n_twice > 0 || (table == "tls_logs" || name == "requests") && n_lost > 0 {
            wrong.push(format!("{name}: {n_lost} lost, {n_twice} twice"));
        }
        // Of a sensor confirmations are numbered too.
        if told != n_lost && !(table == "tls_logs" && n_lost > 0) {
            wrong.push(format!("{name}: {n_lost} lost, the ledger says {told}"));
        }
    }
    println!("{kills:?} in {ran:?}; {}", figures.join("; "));
    wrong.extend(imbalances(ledger));
    let mixed = store.number(
        "SELECT count() FROM ja4_logs.http_logs WHERE conn_uid != 0 AND toString(conn_uid) != extract(query, '_cid=([0-9]+)')",
    );
    if mixed > 0 {
        wrong.push(format!("{mixed} requests are joined with another's connection"));
    }
    match store.check_aggregates() {
        Ok(views) => {
            println!("views that agree with the raw rows: {}", views.join(", "));
            if views.len() < 6 {
                wrong.push(format!("only {} views were compared", views.len()));
            }
        }
        Err(difference) => wrong.push(difference),
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        sensor.next_seq,
        2 * sensor.rows.len() as u64,
        "a hello and a confirm each"
    );
}

/// What the ledger says that a producer lost.
fn lost_in(ledger: &Value, boot: u64) -> u64 {
    let sources = ledger["facts"]["sources"].as_array().unwrap();
    let boot = ja4_model::BootId(boot).to_string();
    let source = sources.iter().find(|source| source["boot"] == boot.as_str());
    source.map_or(u64::MAX, |source| source["lost"].as_u64().unwrap())
}
