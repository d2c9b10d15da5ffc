//! Live capture between two network namespaces that the test makes: real clients and a real server, faults of
//! the interface, of the receiver and of the process itself.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it skips"
)]

#[path = "../flow/tests/common/mod.rs"]
mod frames;
mod lab;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use frames::{ACK, SYN, Talk, hello};
use lab::receiver::{Manner, Received, Receiver};
use lab::sensor::{BINARY, Sensor, socket_path, stage};
use lab::server::{TlsServer, visit};
use lab::{Lab, Place, eventually};
use rustix::process::Signal;
use sensor_wire::fingerprint::{Carrier, Fingerprints};
use sensor_wire::tls::ClientHello;
use serde_json::Value;

const NEAR: &str = "capture: {interfaces: [near]}\n";

fn start(lab: &Lab, dir: &Path, config: &str) -> Sensor {
    Sensor::start(lab.command(Place::Inside, BINARY), dir, config)
}

/// Frames that the cable had carried when the sensor started. The kernel's own (neighbour discovery) come at
/// any time, so that there is a lower and an upper bound for what a sensor sees.
struct Carried(u64);

impl Carried {
    fn from_now(lab: &Lab) -> Self {
        Self(lab.n_frames(Place::Inside, "near"))
    }

    /// `n_received` frames from the start until a moment ago: none lost, none counted twice.
    #[track_caller]
    fn check(&self, lab: &Lab, n_received: u64) {
        let now = lab.n_frames(Place::Inside, "near");
        let slack = 20;
        assert!(
            n_received <= now && n_received + slack >= now - self.0,
            "{n_received} received, {now} carried, {} of them before the start",
            self.0
        );
    }
}

/// One frame that holds a whole hello of a connection whose SYN was not seen; `n` makes it unlike others.
fn lone_hello(n: u32) -> Vec<u8> {
    let mut talk = Talk::new(u16::try_from(1024 + n % 60_000).unwrap());
    talk.client.0 = std::net::Ipv4Addr::from_bits(0x0b00_0001 + n / 60_000);
    talk.client(ACK, &hello(u8::try_from(n % 251).unwrap())).frame()
}

// ---- real clients ----

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

/// Each hello that the servers received is an event, once, with the fingerprints of the bytes received.
#[track_caller]
fn check_hellos(servers: &[&TlsServer], receiver: &Receiver, n_expected: usize) -> Vec<Received> {
    let mut expected = BTreeSet::new();
    for server in servers {
        for message in server.hellos() {
            let hello = ClientHello::parse(&message).unwrap();
            let fingerprints = Fingerprints::of(&hello, Carrier::Tcp);
            let random = ja4_model::connection::Hex(&hello.random).to_string();
            // The second hello of a connection has the random of the first.
            let key = (
                random,
                fingerprints.ja4,
                fingerprints.ja3,
                server.port,
                message.len(),
            );
            expected.insert(key);
        }
    }
    assert_eq!(expected.len(), n_expected, "hellos that the servers saw");
    let events = eventually("events of all hellos", || {
        let events = receiver.of_kind("client_hello");
        (events.len() >= n_expected).then_some(events)
    });
    let mut seen = BTreeSet::new();
    for Received { event, .. } in &events {
        let key = (
            text(event, "client_random").to_owned(),
            text(event, "ja4").to_owned(),
            text(event, "ja3").to_owned(),
            u16::try_from(event["server_port"].as_u64().unwrap()).unwrap(),
            usize::try_from(event["hello_bytes"].as_u64().unwrap()).unwrap(),
        );
        assert!(expected.contains(&key), "not what a server received: {event}");
        assert!(seen.insert(key), "reported twice: {event}");
    }
    assert_eq!(seen.len(), expected.len());
    events
}

#[test]
fn every_hello_of_real_clients_is_reported_once_with_its_fingerprints_and_its_end() {
    let Some(lab) = Lab::new() else { return };
    let has_vlan = lab.add_vlan(7);
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let server = TlsServer::start(&lab, dir.path(), 4433, &[]);
    let picky = TlsServer::start(&lab, dir.path(), 4434, &["-groups", "P-384"]);
    let carried = Carried::from_now(&lab);
    let mut sensor = start(&lab, dir.path(), NEAR);
    let clients = ["curl", "curl-tls12", "openssl", "gnutls", "python"];
    let mut hosts = vec!["10.9.0.1"];
    if has_vlan {
        hosts.push("10.9.7.1");
    }
    if lab.has_ipv6() {
        hosts.push("fd09::1");
        hosts.extend(has_vlan.then_some("fd09:7::1"));
    }
    for &host in &hosts {
        for client in clients {
            visit(&lab, client, host, server.port);
        }
    }
    visit(&lab, "openssl-retried", "10.9.0.1", picky.port);
    let n_connections = clients.len() * hosts.len() + 1;
    let events = check_hellos(&[&server, &picky], &receiver, n_connections + 1);

    for &host in &hosts {
        let of_host: Vec<&Value> = events
            .iter()
            .map(|received| &received.event)
            .filter(|event| text(event, "server_ip") == host)
            .collect();
        let n_hellos = clients.len() + if host == "10.9.0.1" { 2 } else { 0 };
        assert_eq!(of_host.len(), n_hellos, "hellos to {host}");
        for event in of_host {
            let client = format!("{}2", host.trim_end_matches('1'));
            assert_eq!(text(event, "client_ip"), client, "{event}");
            let vlan = host.contains('7').then_some(7);
            assert_eq!(event["encap"]["network_id"].as_u64(), vlan, "{event}");
            assert!(
                event["syn_to_hello_us"].is_u64() && event["tcp"]["mss"].is_u64(),
                "{event}"
            );
        }
    }
    let ja4: BTreeSet<&str> = events
        .iter()
        .map(|received| text(&received.event, "ja4"))
        .collect();
    assert!(ja4.len() >= 4, "{ja4:?}");
    let mut delays_ns: Vec<i64> = events
        .iter()
        .map(|received| received.at_ns - received.event["ts_ns"].as_i64().unwrap())
        .collect();
    delays_ns.sort_unstable();
    let (median, slowest) = (delays_ns[delays_ns.len() / 2], delays_ns[delays_ns.len() - 1]);
    println!(
        "{} hellos from the wire to the receiver: median {median} ns, slowest {slowest} ns",
        events.len()
    );
    // The promise is two seconds, forty block timeouts. The machine may stand still for one hello, not for half.
    assert!(median < 2_000_000_000, "{delays_ns:?} ns");

    // Every connection was confirmed by both sides and its end was seen.
    let uids: BTreeSet<String> = events
        .iter()
        .map(|received| text(&received.event, "conn_uid").to_owned())
        .collect();
    assert_eq!(uids.len(), n_connections);
    for uid in &uids {
        let (followed, closed) = eventually("confirmation and close", || {
            let own = |kind| {
                let mut events = receiver.of_kind(kind);
                events.retain(|received| text(&received.event, "conn_uid") == uid);
                events
            };
            let followed = own("confirm")
                .into_iter()
                .any(|received| text(&received.event, "confirmed") == "followed");
            own("close").pop().map(|received| (followed, received.event))
        });
        assert!(followed, "{closed}");
        assert!(["fin", "rst"].contains(&text(&closed, "reason")), "{closed}");
    }

    // Rights: NET_RAW, in every thread, and no way to get more.
    for set in ["CapPrm", "CapEff"] {
        let all = sensor.status_of_threads(set);
        assert!(
            all.len() > 1
                && all
                    .iter()
                    .all(|caps| u64::from_str_radix(caps, 16) == Ok(1 << 13)),
            "{set}: {all:?}"
        );
    }
    for (set, value) in [("CapInh", 0), ("CapAmb", 0)] {
        let all = sensor.status_of_threads(set);
        assert!(
            all.iter().all(|caps| u64::from_str_radix(caps, 16) == Ok(value)),
            "{set}: {all:?}"
        );
    }
    assert!(
        sensor
            .status_of_threads("NoNewPrivs")
            .iter()
            .all(|value| value == "1")
    );

    let (status, took) = sensor.stop();
    assert!(
        status.success() && took < lab::PATIENCE,
        "{status} after {took:?}"
    );
    let ledger = sensor.ledger_on_disk();
    let events = stage(&ledger, "sensor.events");
    assert_eq!((events.pending, events.dropped_total()), (0, 0), "{ledger}");
    assert_eq!(events.passed, receiver.events().len() as u64);
    let frames = stage(&ledger, "sensor.frames");
    assert_eq!(frames.dropped_total(), 0, "{ledger}");
    carried.check(&lab, frames.received);
}

/// The kernel takes a VLAN tag out of the frame and hands it over beside it; the sensor must see it again.
#[test]
fn tagged_frames_keep_their_ids() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let _sensor = start(&lab, dir.path(), NEAR);
    let tagged = |tags: &[u8]| {
        let mut talk = Talk::new(40_000);
        let mut segments = talk.handshake();
        segments.extend(talk.client_pieces(&hello(1), &[100]));
        let tag = |frame: Vec<u8>| [&frame[..12], tags, &frame[12..]].concat();
        segments.iter().map(|segment| tag(segment.frame())).collect()
    };
    let cases: [(&[u8], Option<u64>); 4] = [
        (&[], None),
        (&[0x81, 0, 0xe0, 7], Some(7)),
        (&[0x81, 0, 0, 8], Some(8)),
        (&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 10], Some(9)),
    ];
    for (n, (tags, id)) in cases.into_iter().enumerate() {
        let frames: Vec<Vec<u8>> = tagged(tags);
        lab.inject(&frames);
        let received = eventually("a hello for each network of the same addresses", || {
            receiver.of_kind("client_hello").into_iter().nth(n)
        });
        assert_eq!(
            received.event["encap"]["network_id"].as_u64(),
            id,
            "{}",
            received.event
        );
        assert_eq!(
            text(&received.event, "ja4"),
            "t13d0206h2_62ed6f6ca7ad_512672a2931d",
            "{}",
            received.event
        );
    }
}

// ---- the interface ----

/// A ring of the kernel hands over a block when it is full or old; a reader that waits for the next frame to
/// see the last one would wait for ever here.
#[test]
fn one_frame_on_a_quiet_interface_is_delivered() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let sensor = start(&lab, dir.path(), NEAR);
    let mut best = i64::MAX;
    for n in 0..3 {
        // Quiet for longer than every timeout of ring and loop.
        std::thread::sleep(Duration::from_millis(1200));
        lab.inject(&[lone_hello(n)]);
        let received = eventually("the hello of one frame", || {
            receiver.of_kind("client_hello").into_iter().nth(n as usize)
        });
        best = best.min(received.at_ns - received.event["ts_ns"].as_i64().unwrap());
    }
    println!("best of three from the wire to the receiver: {best} ns");
    assert!(best < 2_000_000_000, "{best} ns");
    // Waiting costs nothing: 4 s at two ticks of counting a second are far below a spinning loop.
    assert!(sensor.cpu_ticks() < 100, "{} ticks", sensor.cpu_ticks());
}

/// On a link that carries nothing at all, not even what the kernel sends of itself, timers, counts and a stop
/// request must not wait for a frame.
#[test]
fn a_silent_interface_holds_nothing_up() {
    let Some(lab) = Lab::new() else { return };
    for (place, device) in [(Place::Inside, "near"), (Place::Outside, "far")] {
        for change in ["down", "addrgenmode none", "up"] {
            lab.ip(place, &format!("link set {device} {change}"));
        }
        lab.ip(place, &format!("-6 address flush dev {device}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let _receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let config = "capture: {interfaces: [near]}\nflow: {handshake_timeout: 1s}\n";
    let mut sensor = start(&lab, dir.path(), config);
    // What was under way when the link came up has passed.
    std::thread::sleep(Duration::from_millis(1500));
    let before = lab.n_frames(Place::Inside, "near");
    lab.inject(&[Talk::new(40_000).client(SYN, &[]).frame()]);
    eventually("the SYN without answer is let go", || {
        let metrics = sensor.get("/metrics")?;
        metrics
            .contains("sensor_connections_lost_total{reason=\"handshake_timeout\"} 1")
            .then_some(())
    });
    let (status, took) = sensor.stop();
    let n_frames = lab.n_frames(Place::Inside, "near") - before;
    println!("ended after {took:?}, with {n_frames} frame on the link");
    assert_eq!(
        n_frames, 1,
        "the link was not silent, and this test proves nothing"
    );
    assert!(
        status.success() && took < lab::PATIENCE,
        "{status} after {took:?}"
    );
}

#[test]
fn an_interface_that_goes_down_or_away_and_comes_back_is_captured_on_again() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let mut sensor = start(&lab, dir.path(), NEAR);
    let mut n_hellos = 0;
    let mut see_one_more = |why: &str| {
        lab.inject(&[lone_hello(n_hellos)]);
        n_hellos += 1;
        eventually(why, || {
            (receiver.of_kind("client_hello").len() == n_hellos as usize).then_some(())
        });
    };
    see_one_more("before");
    lab.ip(Place::Inside, "link set near down");
    std::thread::sleep(Duration::from_millis(700));
    lab.ip(Place::Inside, "link set near up");
    see_one_more("after down and up");
    lab.ip(Place::Inside, "link delete near");
    eventually("readiness names the interface", || {
        let answer = sensor.get("/readyz")?;
        (answer.starts_with("HTTP/1.1 503") && answer.contains("capture on near ended")).then_some(())
    });
    let metrics = sensor.get("/metrics").unwrap();
    assert!(
        metrics.contains("sensor_interface_up{interface=\"near\"} 0"),
        "{metrics}"
    );
    lab.plug();
    eventually("capture goes on", || {
        sensor.log().contains("near is back").then_some(())
    });
    see_one_more("after it was made anew");
    assert!(sensor.get("/readyz").unwrap().starts_with("HTTP/1.1 200"));
    let said = sensor.log();
    assert_eq!(
        said.matches("capture goes on when it is back").count(),
        1,
        "{said}"
    );
    let (status, _) = sensor.stop();
    assert!(status.success());
    stage(&sensor.ledger_on_disk(), "sensor.frames");
}

#[test]
fn an_interface_that_is_down_at_the_start_is_captured_on_once_it_is_up() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    lab.ip(Place::Inside, "link set near down");
    let sensor = start(&lab, dir.path(), NEAR);
    assert!(
        sensor
            .log()
            .contains("near is down: bring it up with `ip link set near up`")
    );
    lab.ip(Place::Inside, "link set near up");
    eventually("capture begins", || {
        sensor.log().contains("near is back").then_some(())
    });
    lab.inject(&[lone_hello(0)]);
    eventually("a hello", || receiver.of_kind("client_hello").pop());
}

/// Frames that found no room in the ring are counted once, whoever asks how often: received frames are those
/// that the cable carried.
#[test]
fn frames_that_the_kernel_drops_are_counted_once() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let _receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let config = "capture: {interfaces: [near], buffer: 1MiB, snaplen: 1024}\n";
    let frames_carried = Carried::from_now(&lab);
    let mut sensor = start(&lab, dir.path(), config);
    sensor.signal(Signal::STOP);
    let frames: Vec<Vec<u8>> = (0..20_000).map(lone_hello).collect();
    lab.inject(&frames);
    sensor.signal(Signal::CONT);
    for _ in 0..5 {
        sensor.ledger();
        sensor.get("/metrics").unwrap();
    }
    eventually("the drops in the ledger", || {
        stage(&sensor.ledger(), "sensor.frames")
            .dropped
            .contains_key("kernel")
            .then_some(())
    });
    assert!(sensor.log().contains("raise capture.buffer"), "{}", sensor.log());
    let (status, _) = sensor.stop();
    assert!(status.success());
    let frames = stage(&sensor.ledger_on_disk(), "sensor.frames");
    println!("{frames:?}");
    frames_carried.check(&lab, frames.received);
}

// ---- the receiver ----

/// Bounded memory, loss by reason, capture goes on; then a receiver comes and gets what was kept.
#[test]
fn without_a_receiver_the_oldest_events_are_dropped_and_counted() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut sensor = start(&lab, dir.path(), NEAR);
    let hellos: Vec<Vec<u8>> = (0..6000).map(lone_hello).collect();
    lab.inject(&hellos);
    let events = eventually("all events numbered", || {
        let events = stage(&sensor.ledger(), "sensor.events");
        (events.received >= 6000).then_some(events)
    });
    assert!(
        events.dropped["no_receiver"] > 1000 && events.dropped.len() == 1,
        "{events:?}"
    );
    assert!(sensor.anon_bytes() < 48 << 20, "{} bytes", sensor.anon_bytes());
    let answer = sensor.get("/readyz").unwrap();
    assert!(answer.contains("receiver: nobody listens"), "{answer}");
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    eventually("what was kept is delivered", || {
        let events = stage(&sensor.ledger(), "sensor.events");
        (events.pending == 0).then_some(())
    });
    let (status, _) = sensor.stop();
    assert!(status.success());
    let events = stage(&sensor.ledger_on_disk(), "sensor.events");
    assert_eq!(events.passed, receiver.events().len() as u64);
    // The newest were kept, and the receiver is told how many are missing.
    assert_eq!(
        receiver.events()[0].event["seq"].as_u64(),
        Some(events.dropped_total())
    );
    let told = eventually("the last status", || receiver.status());
    assert_eq!(told["next_seq"].as_u64(), Some(events.received), "{told}");
    assert_eq!(
        told["dropped"]["no_receiver"].as_u64(),
        Some(events.dropped_total()),
        "{told}"
    );
}

#[test]
fn a_receiver_that_never_reads_holds_nothing_up() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let _receiver = Receiver::listen(&socket_path(dir.path()), Manner::Deaf);
    let mut sensor = start(&lab, dir.path(), NEAR);
    let hellos: Vec<Vec<u8>> = (0..6000).map(lone_hello).collect();
    lab.inject(&hellos);
    let first = eventually("events are dropped", || {
        let ledger = sensor.ledger();
        let events = stage(&ledger, "sensor.events");
        (events.received >= 6000 && events.dropped.contains_key("overflow")).then_some(ledger)
    });
    // Capture goes on.
    let later: Vec<Vec<u8>> = (6000..6500).map(lone_hello).collect();
    lab.inject(&later);
    eventually("later hellos", || {
        let n = |ledger: &Value| stage(ledger, "sensor.frames").received;
        (n(&sensor.ledger()) >= n(&first) + 500).then_some(())
    });
    assert!(sensor.anon_bytes() < 48 << 20, "{} bytes", sensor.anon_bytes());
    // `timeout` and some supervisors signal a process and then its group: that is one wish to end in order.
    sensor.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(50));
    let (status, took) = sensor.stop();
    // `drain_timeout` is 2 s in these tests.
    println!("ended after {took:?}");
    assert!(
        status.success() && took < lab::PATIENCE,
        "{status} after {took:?}"
    );
    let events = stage(&sensor.ledger_on_disk(), "sensor.events");
    assert_eq!(events.passed, 0);
    assert!(events.dropped.contains_key("overflow"), "{events:?}");
    assert!(
        sensor.log().contains("not acknowledged before the end"),
        "{}",
        sensor.log()
    );
}

// ---- the process ----

#[test]
fn after_kill_9_the_ledger_says_what_was_not_accepted_and_the_next_process_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mute = Receiver::listen(&socket_path(dir.path()), Manner::Mute);
    let mut sensor = start(&lab, dir.path(), NEAR);
    let hellos: Vec<Vec<u8>> = (0..50).map(lone_hello).collect();
    lab.inject(&hellos);
    eventually("50 hellos read", || {
        (mute.of_kind("client_hello").len() == 50).then_some(())
    });
    eventually("the ledger on the disk has them", || {
        let ledger = sensor.try_ledger_on_disk()?;
        (stage(&ledger, "sensor.events").received >= 50).then_some(())
    });
    sensor.signal(Signal::KILL);
    assert!(!sensor.wait().success());
    let events = stage(&sensor.ledger_on_disk(), "sensor.events");
    assert_eq!((events.passed, events.pending), (0, 50), "{events:?}");
    let first_boot = text(&mute.events()[0].event, "boot").to_owned();
    drop(mute);

    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let mut again = start(&lab, dir.path(), NEAR);
    lab.inject(&[lone_hello(100)]);
    let received = eventually("a hello of the next process", || {
        receiver.of_kind("client_hello").pop()
    });
    assert_ne!(text(&received.event, "boot"), first_boot);
    assert_eq!(received.event["seq"].as_u64(), Some(0));
    let (status, _) = again.stop();
    assert!(status.success());
    let events = stage(&again.ledger_on_disk(), "sensor.events");
    assert_eq!((events.received, events.passed), (1, 1), "{events:?}");
}

/// Frames that were captured when the signal comes are still read, those of the last block too, which the kernel
/// has not handed over then.
#[test]
fn sigterm_drains_what_lies_ready() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let config = "capture: {interfaces: [near], buffer: 64MiB}\n";
    let mut sensor = start(&lab, dir.path(), config);
    sensor.signal(Signal::STOP);
    let hellos: Vec<Vec<u8>> = (0..5000).map(lone_hello).collect();
    lab.inject(&hellos);
    sensor.signal(Signal::TERM);
    sensor.signal(Signal::CONT);
    assert!(sensor.wait().success());
    let ledger = sensor.ledger_on_disk();
    assert_eq!(ledger["facts"]["hellos"].as_u64(), Some(5000), "{ledger}");
    let events = stage(&ledger, "sensor.events");
    assert_eq!(events.passed, receiver.events().len() as u64);
}

// ---- errors ----

/// The one line that a command ends with.
#[track_caller]
fn check_refused(command: &mut Command, expected: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(
        said.starts_with("ja4-sensor: ") && said.contains(expected),
        "{said}"
    );
}

#[test]
fn without_the_right_to_capture_the_command_that_grants_it_is_named() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sensor.yaml");
    std::fs::write(&config, NEAR).unwrap();
    let mut command = lab.command(Place::Inside, "setpriv");
    command.args([
        "--bounding-set=-net_raw",
        "--inh-caps=-all",
        BINARY,
        "run",
        "--config",
    ]);
    check_refused(
        command.arg(&config),
        &format!("not allowed to capture on near: grant it with `sudo setcap cap_net_raw+ep {BINARY}`"),
    );
}

#[test]
fn an_unknown_interface_a_bad_filter_and_an_unknown_key_are_named() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sensor.yaml");
    for (text, expected) in [
        (
            "capture: {interfaces: [neat]}",
            "there is no interface \"neat\", did you mean \"near\"?; there are: lo, near",
        ),
        (
            "capture: {interfaces: [near], filter: 'tcp prot 443'}",
            "capture.filter \"tcp prot 443\" is not valid",
        ),
        (
            "capture: {interface: [near]}",
            "unknown key \"interface\" (line 1, column 11), did you mean \"interfaces\"?",
        ),
        (
            "",
            "nothing to capture: set capture.interfaces to a list such as [eth0]",
        ),
    ] {
        std::fs::write(&config, text).unwrap();
        let mut command = lab.command(Place::Inside, BINARY);
        check_refused(command.args(["run", "--config"]).arg(&config), expected);
    }
}

/// A SYN flood from outside: bounded memory, counted, and a real client is still seen.
#[test]
fn a_flood_of_syns_leaves_a_real_client_visible() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let server = TlsServer::start(&lab, dir.path(), 4433, &[]);
    let config = "capture: {interfaces: [near]}\nflow: {opening_max: 1000}\n";
    let sensor = start(&lab, dir.path(), config);
    let syns: Vec<Vec<u8>> = (0..10_000_u32)
        .map(|n| {
            let mut talk = Talk::new(u16::try_from(1024 + n % 60_000).unwrap());
            talk.client_next = n;
            talk.client(SYN, &[]).frame()
        })
        .collect();
    lab.inject(&syns);
    visit(&lab, "curl", "10.9.0.1", server.port);
    check_hellos(&[&server], &receiver, 1);
    let metrics = eventually("evictions are counted", || {
        let metrics = sensor.get("/metrics")?;
        metrics
            .contains("sensor_connections_lost_total{reason=\"opening_evicted\"} 900")
            .then_some(metrics)
    });
    assert!(
        metrics.contains("sensor_connections{state=\"opening\"} 1000")
            || metrics.contains("sensor_connections{state=\"opening\"} 999"),
        "{metrics}"
    );
}
