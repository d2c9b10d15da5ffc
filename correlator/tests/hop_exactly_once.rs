//! From a node's sockets to the store over the hop, under kill -9 of the forwarder and of the correlator: every event
//! that the forwarder acknowledged is stored once, and requests on connections from before are joined.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips"
)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::hop::{Hop, segments_of};
use common::traffic::{Connection, Producer};
use common::{Correlator, Random, Store, imbalances, kill_9, until};

/// Without `JA4_SOAK_KILLS`.
const USUAL_KILLS: u64 = 10;

/// What of a producer's rows is not there, and how many are there more than once.
fn lost_and_twice(store: &Store, table: &str, producer: &Producer) -> (usize, u64) {
    let (rows, seqs) = store.stored(table, producer.boot.0);
    let lost = producer.rows.iter().filter(|seq| !seqs.contains(seq)).count();
    (lost, rows - seqs.len() as u64)
}

/// Sends connections with their requests until told to stop.
fn send(folder: &Path, ending: &AtomicBool) -> [Producer; 3] {
    let mut sensor = Producer::sensor(folder);
    let mut server = Producer::server(folder);
    let mut packets = Producer::packet_server(folder);
    let mut number = 0;
    while !ending.load(Ordering::SeqCst) {
        let conn = Connection::new(number);
        sensor.connection(&conn);
        for index in 0..2 {
            server.send_row(conn.ts_ns, &conn.request(index));
        }
        packets.send_row(conn.ts_ns, &conn.request(2));
        number += 1;
        std::thread::sleep(Duration::from_millis(4));
    }
    [sensor, server, packets]
}

fn drained(node: &Correlator, join: &Correlator) {
    for process in [node, join] {
        process.forget_ledger();
        until("an empty spool", || segments_of(&process.ledger()) == Some(0));
    }
}

#[test]
fn kills_of_both_ends_lose_nothing_acknowledged_and_store_nothing_twice() {
    let library = library_or_skip!();
    let wanted = std::env::var("JA4_SOAK_KILLS")
        .map_or(USUAL_KILLS, |n| n.parse().expect("JA4_SOAK_KILLS is a number"));
    let hop = Hop::new();
    let store = Store::start(library, hop.dir.path());
    let spool = format!(
        "spool: {{dir: \"{}\", batch_age: 200ms}}\n",
        hop.join().join("spool").display()
    );
    let mut node = hop.start_node("", "");
    let mut join = hop.start_join(Some(&store), &spool);
    let mut random = Random::new();
    let ending = AtomicBool::new(false);
    let folder = hop.node();
    let started = Instant::now();
    let mut kills = (0, 0);
    let [mut sensor, mut server, packets] = std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(&folder, &ending));
        while kills.0 + kills.1 < wanted {
            let pause = if random.below(8) == 0 { 100 } else { 700 };
            std::thread::sleep(Duration::from_millis(random.below(pause)));
            let victims = random.below(5);
            if victims <= 2 {
                kill_9(&mut node.child);
                kills.0 += 1;
                node.spawn_again();
            }
            if victims >= 2 {
                kill_9(&mut join.child);
                kills.1 += 1;
                join.spawn_again();
            }
        }
        ending.store(true, Ordering::SeqCst);
        sending.join().unwrap()
    });
    until("the node has acknowledged all", || {
        sensor.is_settled() && server.is_settled()
    });
    drained(&node, &join);
    let ran = started.elapsed();
    let hellos = lost_and_twice(&store, "tls_logs", &sensor);
    let requests = lost_and_twice(&store, "http_logs", &server);
    let (lost, twice) = lost_and_twice(&store, "http_logs", &packets);
    println!(
        "{kills:?} kills (forwarder, correlator) in {ran:?}; hellos {} {hellos:?}, requests {} {requests:?}, packets {} \
         ({lost}, {twice}) lost and twice",
        sensor.rows.len(),
        server.rows.len(),
        packets.rows.len()
    );
    assert_eq!((hellos, requests, twice), ((0, 0), (0, 0), 0));
    // What was in the forwarder's memory at a kill is named; a status of each producer comes every half second.
    let boot = packets.boot.to_string();
    until("the ledger names what was lost", || {
        let ledger = join.ledger();
        let sources = ledger["facts"]["sources"].as_array().cloned().unwrap_or_default();
        sources
            .iter()
            .any(|source| source["boot"] == boot.as_str() && source["lost"] == lost as u64)
    });

    // A correlator that begins after a connection is told of it: its requests are joined, and no row comes twice.
    let conn = Connection::new(1_000_000);
    sensor.connection(&conn);
    until("the node has acknowledged it", || sensor.is_settled());
    drained(&node, &join);
    kill_9(&mut join.child);
    join.spawn_again();
    join.wait_ready();
    until("the node tells it again", || {
        join.ledger()["facts"]["announced"]
            .as_u64()
            .is_some_and(|n| n > 0)
            && join.ledger()["facts"]["connections_held"]
                .as_u64()
                .is_some_and(|n| n > 0)
    });
    // The hello and its confirmation.
    let ledger = join.ledger();
    let input = ledger["stages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|stage| stage["name"] == "correlator.input.forward");
    assert!(
        input.is_none_or(|stage| stage["dropped"]["role"].is_null()),
        "{input:?}"
    );
    server.send_row(conn.ts_ns, &conn.request(7));
    let seq = *server.rows.last().unwrap();
    let row = format!(
        "FROM ja4_logs.http_logs WHERE boot = {} AND seq = {seq}",
        server.boot.0
    );
    until("the request's row", || {
        store.number(&format!("SELECT count() {row}")) == 1
    });
    let uid = store.sql(&format!("SELECT toString(conn_uid), match {row}"));
    assert!(uid.starts_with(&conn.uid().0.to_string()), "{uid}");
    sensor.emitter.send(
        conn.ts_ns,
        &ja4_model::Event::Close(ja4_model::Close {
            conn_uid: conn.uid(),
            pair: None,
            reason: ja4_model::CloseReason::Fin,
            confirmed: ja4_model::Confirmed::Followed,
        }),
    );
    until("the close is acknowledged", || sensor.is_settled());
    drained(&node, &join);
    assert_eq!(lost_and_twice(&store, "tls_logs", &sensor), (0, 0));
    let ledger = node.stop();
    assert_eq!(imbalances(&ledger), Vec::<String>::new());
    let ledger = join.stop();
    assert_eq!(imbalances(&ledger), Vec::<String>::new());
    let mixed = store.number(
        "SELECT count() FROM ja4_logs.http_logs WHERE conn_uid != 0 AND toString(conn_uid) != extract(query, '_cid=([0-9]+)')",
    );
    assert_eq!(mixed, 0, "requests that are joined with another's connection");
}

#[test]
fn a_hello_that_is_not_on_disk_yet_is_not_announced_and_gets_its_row() {
    let library = library_or_skip!();
    let hop = Hop::new();
    let store = Store::start(library, hop.dir.path());
    let spool = format!(
        "spool: {{dir: \"{}\", batch_age: 200ms}}\n",
        hop.join().join("spool").display()
    );
    // So long that the correlator is another one before the second connection is sealed.
    let node = hop.start_node("", ", batch_age: 5s");
    let mut join = hop.start_join(Some(&store), &spool);
    let mut sensor = Producer::sensor(&hop.node());
    sensor.connection(&Connection::new(1));
    until("the node has acknowledged the first", || sensor.is_settled());
    drained(&node, &join);
    sensor.connection(&Connection::new(2));
    until("the node has taken the second", || {
        let ledger = node.ledger();
        let stages = ledger["stages"].as_array().cloned().unwrap_or_default();
        let received = stages
            .iter()
            .filter(|stage| {
                stage["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with("forward.input"))
            })
            .filter_map(|stage| stage["received"].as_u64());
        received.sum::<u64>() >= 4
    });
    assert!(!sensor.is_settled(), "it is sealed too early for this test");
    kill_9(&mut join.child);
    join.spawn_again();
    join.wait_ready();
    until("the first is told again", || {
        join.ledger()["facts"]["announced"]
            .as_u64()
            .is_some_and(|n| n > 0)
    });
    until("the node has acknowledged the second", || sensor.is_settled());
    drained(&node, &join);
    assert_eq!(lost_and_twice(&store, "tls_logs", &sensor), (0, 0));
}
