//! A node's forwarder and the correlator that joins, as real processes: outages, budgets, certificates, tokens, the report.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::hop::{Authority, Hop, node_uri, replace, segments_of};
use common::traffic::{Connection, Producer};
use common::{Correlator, imbalances, stage, until};
use serde_json::Value;

/// Sends connections, each with a request on the acknowledged socket.
fn send(sensor: &mut Producer, server: &mut Producer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let conn = Connection::new(number);
        sensor.connection(&conn);
        server.send_row(conn.ts_ns, &conn.request(0));
    }
}

/// Sends connections with a request each until told to stop.
fn keep_sending(folder: &Path, ending: &AtomicBool) -> (Producer, Producer) {
    let mut sensor = Producer::sensor(folder);
    let mut server = Producer::server(folder);
    let mut number = 0;
    while !ending.load(Ordering::SeqCst) {
        send(&mut sensor, &mut server, number..number + 5);
        number += 5;
        std::thread::sleep(Duration::from_millis(3));
    }
    (sensor, server)
}

/// The forwarder's ledger is balanced and everything has been settled by the correlator.
fn drained(node: &Correlator) {
    // The last one may be from before the events.
    node.forget_ledger();
    until("an empty spool", || segments_of(&node.ledger()) == Some(0));
}

#[track_caller]
fn each_once(hop: &Hop, server: &Producer) {
    let joined = hop.joined_of(server.boot);
    let missing = server.rows.iter().filter(|seq| !joined.contains_key(seq)).count();
    let twice = joined.values().filter(|n| **n > 1).count();
    assert_eq!((missing, twice, joined.len()), (0, 0, server.rows.len()));
}

#[test]
fn events_wait_for_a_correlator_that_is_away_and_are_joined_when_it_comes() {
    let hop = Hop::new();
    let node = hop.start_node("", "");
    let mut sensor = Producer::sensor(&hop.node());
    let mut server = Producer::server(&hop.node());
    let mut packets = Producer::packet_server(&hop.node());
    send(&mut sensor, &mut server, 0..300);
    for number in 0..300 {
        packets.send_row(Connection::new(number).ts_ns, &Connection::new(number).request(1));
    }
    until("all is on the node's disk", || {
        sensor.is_settled() && server.is_settled()
    });
    assert!(hop.joined().is_empty());
    // Nothing secret is on that disk.
    for entry in fs::read_dir(hop.node().join("spool")).unwrap().flatten() {
        let bytes = fs::read(entry.path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("session=secret"), "{:?}", entry.path());
    }
    assert_eq!(
        node.lines(&["cannot be reached", "events wait in the spool"])
            .len(),
        1,
        "{}",
        node.log()
    );
    let join = hop.start_join(None, "");
    until("all is joined", || hop.joined().len() == 600);
    drained(&node);
    each_once(&hop, &server);
    each_once(&hop, &packets);
    let joined = hop.joined();
    let bad = joined
        .iter()
        .find(|record| record["match"] == "none" || record["node"] != common::NODE);
    assert!(bad.is_none(), "{bad:?}");
    // The correlator goes away and comes back while events come.
    let port = hop.port;
    let ledger = join.stop();
    assert_eq!(imbalances(&ledger), Vec::<String>::new());
    send(&mut sensor, &mut server, 300..400);
    until("all is on the node's disk", || {
        sensor.is_settled() && server.is_settled()
    });
    let join = hop.start_join(None, "");
    assert_eq!(port, hop.port);
    until("the rest is joined", || hop.joined_of(server.boot).len() == 400);
    each_once(&hop, &server);
    // Stop in order: the sockets' last events and statuses go over.
    packets.stop();
    let (report, _) = server.stop();
    assert_eq!((report.unacknowledged, report.counters.dropped_total()), (0, 0));
    sensor.stop();
    let ledger = node.stop();
    assert_eq!(imbalances(&ledger), Vec::<String>::new());
    assert_eq!(stage(&ledger, "forward.spool.apache")["passed"], 400);
    assert_eq!(stage(&ledger, "forward.input.nginx")["passed"], 300);
    let ledger = join.stop();
    assert_eq!(imbalances(&ledger), Vec::<String>::new());
}

#[test]
fn over_the_budget_the_oldest_events_go_and_are_counted_by_source_and_reported() {
    let hop = Hop::new();
    let node = hop.start_node(", max_bytes: 400KiB", ", batch_bytes: 16KiB");
    let mut server = Producer::server(&hop.node());
    for number in 0..1500 {
        let conn = Connection::new(number);
        server.send_row(conn.ts_ns, &conn.request(0));
        if number % 50 == 0 {
            // Slow enough that there are many segments.
            until("a part is on the node's disk", || server.is_settled());
        }
    }
    until("all is on the node's disk", || server.is_settled());
    let dropped = |ledger: &Value| {
        let stages = ledger["stages"].as_array()?;
        let spool = stages
            .iter()
            .find(|stage| stage["name"] == "forward.spool.apache")?;
        spool["dropped"]["spool_full"].as_u64()
    };
    until("drops in the ledger", || {
        dropped(&node.ledger()).is_some_and(|n| n > 100)
    });
    assert_eq!(node.lines(&["over its budget"]).len(), 1, "one line a minute");
    let join = hop.start_join(None, "");
    drained(&node);
    until("a ledger of now", || {
        let ledger = node.ledger();
        imbalances(&ledger).is_empty() && stage(&ledger, "forward.spool.apache")["pending"] == 0
    });
    let n_dropped = dropped(&node.ledger()).unwrap();
    until("the rest is joined", || {
        hop.joined_of(server.boot).len() as u64 == 1500 - n_dropped
    });
    let joined = hop.joined_of(server.boot);
    // The newest are there, without a hole.
    assert!(
        (n_dropped..1500).all(|seq| joined.get(&seq) == Some(&1)),
        "{n_dropped}"
    );
    until("the report says so", || {
        let report = hop.report_now();
        report["nodes"][0]["facts"]["drops"]["apache"]["spool_full"] == n_dropped
            && report["nodes"][0]["facts"]["spool"]["bytes"] == 0
    });
    // The gap shows at the correlator too.
    until("what the correlator misses", || {
        let ledger = join.ledger();
        let sources = ledger["facts"]["sources"].as_array().cloned().unwrap_or_default();
        sources
            .iter()
            .any(|source| source["source"] == "apache" && source["lost"] == n_dropped)
    });
}

#[test]
fn a_full_disk_of_the_node_loses_nothing_and_goes_on_when_there_is_space() {
    let hop = Hop::new();
    hop.configure_node("", "");
    let spool = hop.node().join("spool");
    fs::create_dir(&spool).unwrap();
    let Some(node) = Correlator::start_on_small_disk(&hop.node(), &spool) else {
        println!("skipped: this user may not mount a small disk (needs unshare and SYS_ADMIN)");
        return;
    };
    let mut server = Producer::server(&hop.node());
    for number in 0..2500 {
        let conn = Connection::new(number);
        server.send_row(conn.ts_ns, &conn.request(0));
        if number % 100 == 0 {
            // Slow enough that it is not one segment.
            std::thread::yield_now();
        }
    }
    until("it says that the disk is full", || {
        !node.lines(&["cannot be sealed", "no space"]).is_empty()
    });
    assert!(
        !server.is_settled(),
        "what is not on the disk is not acknowledged"
    );
    let _join = hop.start_join(None, "");
    until("all is joined", || hop.joined_of(server.boot).len() == 2500);
    until("all is acknowledged", || server.is_settled());
    each_once(&hop, &server);
    let log = node.log();
    assert!(
        log.contains("the spool takes batches again") && !log.contains("are dropped"),
        "{log}"
    );
}

#[test]
fn the_forwarder_is_killed_again_and_again_and_what_it_acknowledged_comes_once() {
    let hop = Hop::new();
    let mut node = hop.start_node("", "");
    let join = hop.start_join(None, "");
    let ending = AtomicBool::new(false);
    let folder = hop.node();
    let (sensor, server) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| keep_sending(&folder, &ending));
        let mut random = common::Random::new();
        for kill in 0..8 {
            let before = hop.joined_of_any();
            until("something new is joined", || hop.joined_of_any() > before + 20);
            std::thread::sleep(Duration::from_millis(random.below(60)));
            common::kill_9(&mut node.child);
            node.spawn_again();
            if kill % 2 == 0 {
                node.wait_ready();
            }
        }
        node.wait_ready();
        ending.store(true, Ordering::SeqCst);
        sending.join().unwrap()
    });
    until("all is acknowledged", || {
        sensor.is_settled() && server.is_settled()
    });
    drained(&node);
    until("all is joined", || {
        hop.joined_of(server.boot).len() == server.rows.len()
    });
    each_once(&hop, &server);
    println!("{} requests over 8 kills", server.rows.len());
    let ledger = join.stop();
    assert_eq!(imbalances(&ledger), Vec::<String>::new());
    assert_eq!(ledger["facts"]["hellos"], sensor.rows.len());
}

#[test]
fn certificates_are_replaced_under_load_without_loss_and_the_old_one_is_refused() {
    let hop = Hop::new();
    let mut node = hop.start_node("", "");
    let mut join = hop.start_join(None, "");
    let tls = hop.tls();
    let ending = AtomicBool::new(false);
    let second = Authority::new("second");
    let folder = hop.node();
    let (sensor, server) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| keep_sending(&folder, &ending));
        let flows = || {
            let before = hop.joined_of_any();
            until("something new is joined", || hop.joined_of_any() > before + 50);
        };
        flows();
        for name in ["node.crt", "node.key"] {
            fs::copy(tls.join(name), tls.join(name.replace("node", "old"))).unwrap();
        }
        let reloads = |node: &Correlator| node.ledger()["facts"]["link"]["reloads"].as_u64().unwrap_or(0);
        // 1. Both authorities are trusted. 2. New certificates. 3. The first one is not trusted any more.
        Authority::write_bundle(&[&hop.authority, &second], &tls.join("ca.crt"));
        until("the node has connected with the new bundle", || {
            reloads(&node) >= 1
        });
        until("the correlator has the new bundle", || {
            !join.lines(&["were replaced"]).is_empty()
        });
        flows();
        let before = reloads(&node);
        second.issue("", &tls, "server");
        second.issue(&node_uri(), &tls, "node");
        second.issue("ja4://pipeline/reader", &tls, "reader");
        until("the node has connected with its new certificate", || {
            reloads(&node) > before
        });
        flows();
        let replaced = join.lines(&["were replaced"]).len();
        Authority::write_bundle(&[&second], &tls.join("ca.crt"));
        until("the correlator has the last bundle", || {
            join.lines(&["were replaced"]).len() > replaced
        });
        flows();
        ending.store(true, Ordering::SeqCst);
        sending.join().unwrap()
    });
    until("all is acknowledged", || {
        sensor.is_settled() && server.is_settled()
    });
    drained(&node);
    until("all is joined", || {
        hop.joined_of(server.boot).len() == server.rows.len()
    });
    each_once(&hop, &server);
    println!("{} requests over the replacement", server.rows.len());
    // The same processes, and nothing of it was dropped.
    assert!(node.child.try_wait().unwrap().is_none() && join.child.try_wait().unwrap().is_none());
    // The old one has lost its issuer.
    assert_eq!(hop.report(Some("old")), None);
    until("the refusal is counted", || {
        let report = hop.report_now();
        let listeners = report["counts"]["listeners"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        listeners
            .iter()
            .any(|listener| listener["refused"]["certificate_untrusted"].as_u64() > Some(0))
    });
    assert!(
        !join
            .lines(&["certificate_untrusted", "not in the trust bundle"])
            .is_empty(),
        "{}",
        join.log()
    );
}

#[test]
fn the_report_is_for_its_readers_only_and_every_fact_has_an_age() {
    let hop = Hop::new();
    let node_admin = hop.node().join("sensor-admin.sock");
    // A sensor's admin endpoint, as far as a forwarder looks at it.
    let registry = prometheus::Registry::new();
    let labels = prometheus::Opts::new("sensor_interface_up", "1 while the interface is captured on");
    let up = prometheus::IntGaugeVec::new(labels, &["interface"]).unwrap();
    registry.register(Box::new(up.clone())).unwrap();
    up.with_label_values(&["eth0"]).set(1);
    let sensor = ja4_common::admin::Admin::new(registry, &[], ja4_common::ledger::Ledger::default);
    let listen = format!("unix:{}", node_admin.display()).parse().unwrap();
    ja4_common::admin::Server::start(&listen, sensor).unwrap();
    let admin = hop.node().join("admin.sock");
    hop.configure_node("", &format!(", sensor_admin: \"{listen}\""));
    let config = hop.node().join("correlator.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace(
            "process: {",
            &format!("process: {{admin: \"unix:{}\", ", admin.display()),
        ),
    )
    .unwrap();
    let node = Correlator::start_configured(&hop.node());
    let join = hop.start_join(None, "");
    until("a report of the node and its sensor", || {
        let report = hop.report_now();
        let node = &report["nodes"][0];
        node["facts"]["sensor"]["interfaces"]["eth0"] == true
            && node["node"] == common::NODE
            && node["connected"] == true
            && node["age_ms"].is_u64()
            && node["facts"]["sensor"]["age_ms"].is_u64()
            && node["facts"]["spool"]["max_bytes"].is_u64()
            && report["counts"]["age_ms"].as_u64() < Some(60_000)
            && node["software"]
                .as_str()
                .is_some_and(|software| software.starts_with("ja4-correlator "))
    });
    // Both processes' metrics in one answer.
    let metrics = get(&admin, "/metrics");
    assert!(
        metrics.contains("forward_connected 1")
            && metrics.contains("sensor_interface_up{interface=\"eth0\"} 1"),
        "{metrics}"
    );
    // A node may not read it, nor may somebody without a certificate.
    assert_eq!(hop.report(Some("node")).map(|(status, _)| status), Some(403));
    assert_eq!(hop.report(None), None);
    assert!(
        !join
            .lines(&["certificate_role", "asked for the report"])
            .is_empty(),
        "{}",
        join.log()
    );
    hop.authority
        .issue("ja4://pipeline/operator", &hop.tls(), "operator");
    assert_eq!(hop.report(Some("operator")).map(|(status, _)| status), Some(200));
    // Without the node its facts stay, and age.
    drop(node);
    until("the node is known to be away", || {
        hop.report_now()["nodes"][0]["connected"] == false
    });
    let age = |report: &Value| report["nodes"][0]["age_ms"].as_u64().unwrap();
    let before = age(&hop.report_now());
    until("its facts age", || age(&hop.report_now()) > before + 20);
}

fn get(socket: &Path, path: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_source_with_a_token_sends_requests_of_its_own_name() {
    let hop = Hop::new();
    let token = hop.tls().join("token");
    replace(&token, "0123456789abcdef0123456789abcdef\n");
    let tls = hop.tls();
    let at = |name: &str| tls.join(name).display().to_string();
    let ingest = format!(
        "ingest: {{listen: \"127.0.0.1:{}\", certificate: \"{}\", key: \"{}\", sources: [{{name: checkout, token_file: \"{}\"}}], \
         limits: {{reload_interval: 30ms}}}}\n",
        hop.ingest_port,
        at("server.crt"),
        at("server.key"),
        at("token"),
    );
    let join = hop.start_join(None, &ingest);
    let more = format!(
        ", address: \"127.0.0.1:{}\", token_file: \"{}\", source: checkout",
        hop.ingest_port,
        at("token")
    );
    let node = hop.start_node("", &more);
    let mut server = Producer::server(&hop.node());
    for number in 0..100 {
        server.send_row(Connection::new(number).ts_ns, &Connection::new(number).request(0));
    }
    until("all is joined", || hop.joined_of(server.boot).len() == 100);
    assert!(hop.joined().iter().all(|record| record["source"] == "checkout"));
    // It cannot read the report there, and the token is in no log.
    assert!(!join.log().contains("0123456789abcdef") && !node.log().contains("0123456789abcdef"));
    // A replaced token is read by both sides, and a wrong one is said.
    let before = join.lines(&["were replaced"]).len();
    replace(&token, "fedcba9876543210fedcba9876543210\n");
    until("the correlator has the new token", || {
        join.lines(&["were replaced"]).len() > before
    });
    server.send_row(Connection::new(100).ts_ns, &Connection::new(100).request(0));
    until("it goes on with the new one", || {
        hop.joined_of(server.boot).len() == 101
    });
    let wrong = hop.tls().join("wrong");
    replace(&wrong, "00000000000000000000000000000000\n");
    let _ledger = node.stop();
    let node = hop.start_node("", &more.replace(&at("token"), &at("wrong")));
    until("it is said on both sides", || {
        !node.lines(&["token that is not known"]).is_empty() && !join.lines(&["(reason token)"]).is_empty()
    });
}

#[test]
fn what_does_not_fit_together_is_refused_at_the_start_in_one_line() {
    let hop = Hop::new();
    for (change, words) in [
        ("remote: {listen: \"127.0.0.1:0\"}\n", "has no listeners"),
        ("forward: null\n", "needs the section forward"),
    ] {
        hop.configure_node("", "");
        let path = hop.node().join("correlator.yaml");
        let mut text = fs::read_to_string(&path).unwrap();
        if change.starts_with("forward") {
            text = text
                .lines()
                .filter(|line| !line.starts_with("forward:"))
                .collect::<Vec<_>>()
                .join("\n")
                + "\n";
        }
        fs::write(&path, text + change).unwrap();
        let output = std::process::Command::new(common::program("ja4-correlator"))
            .args(["run", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
