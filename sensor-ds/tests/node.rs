//! A sensor on a node: interfaces of pods come and go, and one connection passes several of them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it skips"
)]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::time::Duration;

use lab::receiver::{Manner, Received, Receiver};
use lab::sensor::{BINARY, Sensor, socket_path, stage};
use lab::server::{TlsServer, visit};
use lab::{Lab, Place, eventually};

/// A proxy that passes TLS on to the pod, as an ingress with passthrough does.
struct Passthrough(Child);

impl Passthrough {
    fn start(lab: &Lab) -> Self {
        const RELAY: &str = "import socket, threading\n\
            def pump(a, b):\n\
            \x20   try:\n\
            \x20       while data := a.recv(65536): b.sendall(data)\n\
            \x20       b.shutdown(socket.SHUT_WR)\n\
            \x20   except OSError: pass\n\
            s = socket.create_server(('0.0.0.0', 8443))\n\
            print('up', flush=True)\n\
            while True:\n\
            \x20   a, _ = s.accept()\n\
            \x20   b = socket.create_connection(('10.10.0.2', 4433))\n\
            \x20   for pair in ((a, b), (b, a)): threading.Thread(target=pump, args=pair, daemon=True).start()\n";
        let child = lab
            .command(Place::Inside, "python3")
            .args(["-c", RELAY])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the proxy listens", || {
            let probe = lab
                .command(Place::Inside, "python3")
                .args([
                    "-c",
                    "import socket; socket.create_connection(('127.0.0.1', 8443), 1).close()",
                ])
                .stderr(Stdio::null())
                .status();
            probe.unwrap().success().then_some(())
        });
        Self(child)
    }
}

impl Drop for Passthrough {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start(lab: &Lab, dir: &std::path::Path, config: &str) -> Sensor {
    Sensor::start(lab.command(Place::Inside, BINARY), dir, config)
}

const AUTO: &str = "capture: {interfaces: [auto]}\n";

#[test]
fn a_pod_s_interface_is_captured_on_from_its_coming_to_its_going() {
    let Some(mut lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let mut sensor = start(&lab, dir.path(), AUTO);
    assert!(sensor.log().contains("capturing on near\n"), "{}", sensor.log());
    lab.add_pod();
    eventually("the pod's interface came", || {
        let metrics = sensor.get("/metrics")?;
        metrics
            .contains("sensor_interface_up{interface=\"pod0\"} 1")
            .then_some(())
    });
    let server = TlsServer::start_at(&lab, Place::Pod, dir.path(), 4433, &[]);
    let proxy = Passthrough::start(&lab);
    let clients = ["curl", "openssl", "gnutls", "python", "curl-tls12"];
    for client in clients {
        visit(&lab, client, "10.9.0.1", 8443);
    }
    let events = eventually("hellos and ends of all connections", || {
        let n_ends = receiver.of_kind("close").len();
        (n_ends >= clients.len()).then(|| receiver.of_kind("client_hello"))
    });
    assert_eq!(events.len(), clients.len(), "each connection is told of once");
    let sent: BTreeSet<String> = server
        .hellos()
        .iter()
        .map(|message| {
            let hello = sensor_wire::tls::ClientHello::parse(message).unwrap();
            ja4_model::connection::Hex(&hello.random).to_string()
        })
        .collect();
    for Received { event, .. } in &events {
        assert!(sent.contains(event["client_random"].as_str().unwrap()), "{event}");
        let outer =
            [&event["client_ip"], &event["server_ip"], &event["server_port"]].map(ToString::to_string);
        assert_eq!(
            outer,
            ["\"10.9.0.2\"", "\"10.9.0.1\"", "8443"],
            "the client's own address: {event}"
        );
        let views = event["views"].as_array().unwrap();
        assert_eq!(views.len(), 1, "{event}");
        assert_eq!(views[0]["client_ip"], "10.10.0.1", "{event}");
        assert_eq!(
            (&views[0]["server_ip"], &views[0]["server_port"]),
            (&"10.10.0.2".into(), &4433.into()),
            "{event}"
        );
    }
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for Received { event, .. } in receiver.of_kind("close") {
        *ends
            .entry(event["conn_uid"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    let uids = events
        .iter()
        .map(|Received { event, .. }| event["conn_uid"].as_str().unwrap().to_owned());
    assert_eq!(
        ends,
        uids.map(|uid| (uid, 1)).collect(),
        "each ends once, under its own number"
    );
    drop((proxy, server));
    lab.ip(Place::Inside, "link delete pod0");
    eventually("the pod's interface went", || {
        let metrics = sensor.get("/metrics")?;
        (!metrics.contains("interface=\"pod0\"")).then_some(())
    });
    assert!(
        sensor.get("/readyz").unwrap().starts_with("HTTP/1.1 200"),
        "a pod that ends is no fault"
    );
    let (status, _) = sensor.stop();
    assert!(status.success(), "{}", sensor.log());
    stage(&sensor.ledger_on_disk(), "sensor.frames");
}

#[test]
fn what_our_own_programs_fetch_elsewhere_is_left_out_unless_asked_for() {
    let Some(lab) = Lab::new() else { return };
    for (egress, n_expected) in [(false, 1), (true, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
        let config = format!("{AUTO}networks: {{own: [10.9.0.1], egress: {egress}}}\n");
        let mut sensor = start(&lab, dir.path(), &config);
        let near = TlsServer::start(&lab, dir.path(), 4433, &[]);
        let far = TlsServer::start_at(&lab, Place::Outside, dir.path(), 4434, &[]);
        let ours = lab
            .command(Place::Inside, "curl")
            .args(["-sSk", "--max-time", "20", "https://10.9.0.2:4434/"])
            .output()
            .unwrap();
        assert!(ours.status.success(), "{}", String::from_utf8_lossy(&ours.stderr));
        visit(&lab, "curl", "10.9.0.1", 4433);
        eventually("the visitor's hello", || {
            receiver
                .of_kind("client_hello")
                .iter()
                .find(|hello| hello.event["direction"] == "ingress")
                .cloned()
        });
        let (status, _) = sensor.stop();
        assert!(status.success(), "{}", sensor.log());
        assert_eq!(
            receiver.of_kind("client_hello").len(),
            n_expected,
            "egress: {egress}"
        );
        drop((near, far));
    }
}

/// The cost of many pods: a sensor on a hundred idle ones takes little, and gives it all back.
#[test]
fn a_hundred_pods_that_come_and_go_leave_nothing_behind() {
    let Some(lab) = Lab::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let _receiver = Receiver::listen(&socket_path(dir.path()), Manner::Kind);
    let mut sensor = start(
        &lab,
        dir.path(),
        "capture: {interfaces: [auto], pod_buffer: 1MiB}\n",
    );
    let mut held = Vec::new();
    let outside = lab.pid(Place::Outside);
    let n_up = |sensor: &Sensor| {
        let metrics = sensor.get("/metrics").unwrap_or_default();
        metrics
            .lines()
            .filter(|line| line.starts_with("sensor_interface_up{interface=\"pod") && line.ends_with(" 1"))
            .count()
    };
    for round in 0..4 {
        for n in 0..100 {
            lab.ip(
                Place::Inside,
                &format!("link add pod{n} type veth peer name far{n} netns {outside}"),
            );
            lab.ip(Place::Inside, &format!("link set pod{n} up"));
        }
        eventually("all are captured on", || (n_up(&sensor) == 100).then_some(()));
        if round == 0 {
            let ticks = sensor.cpu_ticks();
            std::thread::sleep(Duration::from_secs(3));
            println!(
                "100 idle pods: {} ms of processor time in 3 s",
                10 * (sensor.cpu_ticks() - ticks)
            );
        }
        for n in 0..100 {
            lab.ip(Place::Inside, &format!("link delete pod{n}"));
        }
        eventually("all went", || (n_up(&sensor) == 0).then_some(()));
        held.push(sensor.anon_bytes());
    }
    // What the allocator keeps of the first hundred serves the next ones.
    println!("memory after each round, bytes: {held:?}");
    assert!(held[3] < held[0] + (2 << 20), "{held:?}");
    let (status, _) = sensor.stop();
    assert!(status.success(), "{}", sensor.log());
}
