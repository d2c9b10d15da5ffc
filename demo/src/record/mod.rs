//! `ja4-demo record`: makes the recorded "yesterday" of the demo from real clients on the real site.
//!
//! ```text
//! clients --TLS--> site --events--> here          tcpdump on lo --packets--> here
//! both: stretched between visits, trimmed, compressed, written with a card of who was what
//! ```
//!
//! Clients are real and run at speed, for a quarter of an hour or so. What happens inside a visit keeps its times;
//! only the time between visits is stretched, so that they spread over hours ([`stretch`]). Packets that the sensor
//! does not read are left out ([`capture`]).

mod capture;
mod stretch;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ja4_common::Shutdown;
use ja4_common::config::ProcessConfig;
use ja4_common::ledger::Ledger;
use ja4_common::units::Span;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clients::{Clients, ClientsConfig};
use crate::origin::Origin;
use crate::origin::config::OriginConfig;
use capture::Packet;
use stretch::{Connection, Key, Plan};

/// Longest event: as the receiver's.
const EVENT_MAX_BYTES: usize = 256 << 10;
/// Bytes kept of each packet: a hello with post-quantum key shares has two thousand.
const SNAPLEN_BYTES: u32 = 6000;

/// Configuration of `ja4-demo record`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordConfig {
    /// Logs, admin address, ledger file.
    pub process: ProcessConfig,
    /// Folder of the result. Default `testdata/demo`.
    pub out: PathBuf,
    /// Who visits, for how long (`duration`), and where the site is (`server`).
    pub clients: ClientsConfig,
    /// What the recording spans after stretching. Default 12 hours.
    pub span: Span,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            out: "testdata/demo".into(),
            clients: ClientsConfig {
                humans: 190,
                behind_nat: 12,
                apps: 60,
                bots: Some(0),
                // Everybody is at home: those who come back are known by their addresses.
                newcomers: 0,
                seed: Some(1_000),
                visit_gap: Span::seconds(240),
                open_pages: 22,
                service_pause: Span::seconds(6),
                // A replay in moments brings the whole day of one port at once, of which the join keeps a few.
                health_port: 0,
                duration: Some(Span::seconds(900)),
                ..ClientsConfig::default()
            },
            span: Span::seconds(12 * 3600),
        }
    }
}

/// Records until the clients are done, and writes the result.
///
/// # Errors
/// The port is taken, tcpdump is not here or may not capture, the folder cannot be written.
pub async fn run(config: RecordConfig, node: String, shutdown: Shutdown) -> anyhow::Result<Ledger> {
    let work = tempfile::tempdir().context("cannot make a folder")?;
    let socket = work.path().join("http.socket");
    let events = Receiver::listen(&socket)?;
    let server = config.clients.server;
    let site_end = Shutdown::manual().context("cannot make a signal")?;
    let origin_config = OriginConfig {
        listen: server,
        socket,
        ..OriginConfig::default()
    };
    let origin = Origin::bind(origin_config, node, site_end.clone())?;
    let site = tokio::spawn(origin.run());
    let pcap = work.path().join("all.pcap");
    let tcpdump = Tcpdump::start(&pcap, server.port()).await?;

    let truth = work.path().join("truth.json");
    let clients_config = ClientsConfig {
        truth_file: Some(truth.clone()),
        ..config.clients.clone()
    };
    let clients = Clients::new(clients_config, shutdown)?;
    let shared = clients.shared();
    clients.run().await;
    site_end.request();
    site.await.context("the site ended by a panic")?;
    tcpdump.stop().await?;
    let events = events.join()?;

    let packets = capture::read(&std::fs::read(&pcap).context("cannot read what tcpdump wrote")?)?;
    tracing::info!(
        "{} packets and {} events were recorded",
        packets.len(),
        events.len()
    );
    let (packets, events) = assemble(packets, events, server, config.span.0)?;
    write(&config.out, &packets, &events, &truth)?;
    Ok(shared.ledger())
}

/// Trims, stretches and sorts.
fn assemble(
    packets: Vec<Packet>,
    events: Vec<Value>,
    server: SocketAddr,
    span: Duration,
) -> anyhow::Result<(Vec<Packet>, Vec<Value>)> {
    let (kept, owners) = capture::trim(packets, server.port());
    let mut connections: Vec<Connection> = Vec::new();
    for (packet, owner) in kept.iter().zip(&owners) {
        if *owner == connections.len() {
            connections.push(Connection::new(
                capture::client_of(packet, server.port()),
                packet.ts_ns,
            ));
        }
    }
    // Which connection a request is on: the newest of its address and port that was open.
    let mut on = Vec::new();
    let mut by_request = std::collections::BTreeMap::new();
    for event in &events {
        let ts_ns = event["ts_ns"].as_i64().context("an event has no time")?;
        let owner = if event["event"] == "request" {
            let key = key_of(event).context("a request has no client address")?;
            let owner = connections
                .iter()
                .rposition(|connection| connection.key == key && connection.first_ns <= ts_ns);
            by_request.insert(event["seq"].as_u64(), owner);
            owner
        } else {
            by_request.get(&event["request_seq"].as_u64()).copied().flatten()
        };
        if let Some(owner) = owner {
            connections[owner].saw(ts_ns);
        }
        on.push(owner);
    }
    let first_ns = connections.iter().map(|connection| connection.first_ns).min();
    let last_ns = connections.iter().map(|connection| connection.last_ns).max();
    let (first_ns, last_ns) = first_ns.zip(last_ns).context("no connection was recorded")?;
    let plan = Plan::new(&connections, first_ns, last_ns, span);
    let mut packets: Vec<Packet> = kept
        .into_iter()
        .zip(owners)
        .map(|(packet, owner)| Packet {
            ts_ns: packet.ts_ns + plan.shift_ns(owner),
            ..packet
        })
        .collect();
    packets.sort_by_key(|packet| packet.ts_ns);
    let n_events = events.len();
    let mut events: Vec<(i64, Value)> = events
        .into_iter()
        .zip(on)
        .filter_map(|(mut event, owner)| {
            let ts_ns = event["ts_ns"].as_i64()? + plan.shift_ns(owner?);
            event["ts_ns"] = ts_ns.into();
            Some((ts_ns, event))
        })
        .collect();
    ensure!(
        events.len() * 1000 >= n_events * 999,
        "{} of {n_events} events are on no captured connection; did the kernel drop packets?",
        n_events - events.len()
    );
    events.sort_by_key(|(ts_ns, _)| *ts_ns);
    Ok((packets, events.into_iter().map(|(_, event)| event).collect()))
}

fn key_of(event: &Value) -> Option<Key> {
    let ip: Ipv4Addr = event["client_ip"].as_str()?.parse().ok()?;
    let port = u16::try_from(event["client_port"].as_u64()?).ok()?;
    Some(Key { ip, port })
}

fn write(out: &Path, packets: &[Packet], events: &[Value], truth: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event).context("an event is plain data")?;
        lines.push(b'\n');
    }
    let truth = std::fs::read(truth).context("the clients wrote no truth")?;
    for (name, bytes) in [
        ("yesterday.pcap.br", capture::write(packets)),
        ("yesterday.jsonl.br", lines),
        ("yesterday.truth.json.br", truth),
    ] {
        let path = out.join(name);
        let compressed = compress(&bytes)?;
        tracing::info!("{name}: {} bytes, {} compressed", bytes.len(), compressed.len());
        std::fs::write(&path, compressed).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn compress(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let params = brotli::enc::BrotliEncoderParams {
        quality: 11,
        lgwin: 24,
        size_hint: bytes.len(),
        ..Default::default()
    };
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut &bytes[..], &mut compressed, &params).context("cannot compress")?;
    Ok(compressed)
}

/// Takes the site's events on a thread of its own.
struct Receiver(std::thread::JoinHandle<anyhow::Result<Vec<Value>>>);

impl Receiver {
    fn listen(path: &Path) -> anyhow::Result<Self> {
        let kind = SocketType::SEQPACKET;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .context("cannot make a socket")?;
        let address = SocketAddrUnix::new(path).context("the folder's name is too long")?;
        rustix::net::bind(&socket, &address).context("cannot bind a socket")?;
        rustix::net::listen(&socket, 1).context("cannot listen on a socket")?;
        Ok(Self(std::thread::spawn(move || {
            let peer: OwnedFd = rustix::net::accept(&socket).context("cannot accept the site")?;
            let mut buffer = vec![0; EVENT_MAX_BYTES];
            let mut events = Vec::new();
            loop {
                let (n, _) = rustix::net::recv(&peer, &mut buffer[..], RecvFlags::empty())
                    .context("cannot receive from the site")?;
                if n == 0 {
                    return Ok(events);
                }
                let event: Value = serde_json::from_slice(&buffer[..n]).context("an event is no JSON")?;
                if event["event"] == "request" || event["event"] == "end" {
                    events.push(event);
                }
            }
        })))
    }

    fn join(self) -> anyhow::Result<Vec<Value>> {
        self.0
            .join()
            .map_err(|_| anyhow::anyhow!("the receiver ended by a panic"))?
    }
}

/// The capture.
struct Tcpdump(tokio::process::Child);

impl Tcpdump {
    async fn start(file: &Path, port: u16) -> anyhow::Result<Self> {
        let mut child = tokio::process::Command::new("tcpdump")
            .args(["-i", "lo", "-n", "-U", "-B", "65536", "-Z", "root"])
            .arg("--time-stamp-precision=nano")
            .args(["-s", &SNAPLEN_BYTES.to_string()])
            .arg("-w")
            .arg(file)
            .arg(format!("tcp port {port}"))
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start tcpdump; apt-get install tcpdump")?;
        // The file is there once it captures.
        for _ in 0..100 {
            if file.exists() {
                return Ok(Self(child));
            }
            if let Some(status) = child.try_wait().context("cannot wait for tcpdump")? {
                anyhow::bail!("tcpdump ended at once with {status}; its own line says why");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("tcpdump did not begin within 10 s")
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        // What is in the kernel's ring is written within a second.
        tokio::time::sleep(Duration::from_secs(2)).await;
        if let Some(pid) = self
            .0
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::INT).context("cannot end tcpdump")?;
        }
        self.0.wait().await.context("cannot wait for tcpdump")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::clients::addresses_of_cast;

    fn recorded(name: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../testdata/demo")
            .join(name);
        let mut bytes = Vec::new();
        brotli::BrotliDecompress(&mut &std::fs::read(path).unwrap()[..], &mut bytes).unwrap();
        bytes
    }

    fn requests() -> Vec<Value> {
        let lines = String::from_utf8(recorded("yesterday.jsonl.br")).unwrap();
        let events = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        events
            .filter(|event: &Value| event["event"] == "request")
            .collect()
    }

    #[test]
    fn the_recorded_clients_are_those_who_come_back() {
        let cast = addresses_of_cast(&RecordConfig::default().clients);
        let there: BTreeSet<Ipv4Addr> = requests()
            .iter()
            .map(|request| key_of(request).unwrap().ip)
            .collect();
        assert!(there.is_subset(&cast), "{:?}", there.difference(&cast));
        assert!(
            there.len() * 100 >= cast.len() * 95,
            "{} of {} asked for anything",
            there.len(),
            cast.len()
        );
    }

    #[test]
    fn two_hundred_recorded_clients_ask_five_times_or_more_over_hours() {
        let (mut n_requests, mut minutes) = (BTreeMap::new(), BTreeSet::new());
        for request in requests() {
            *n_requests.entry(key_of(&request).unwrap().ip).or_insert(0) += 1;
            minutes.insert(request["ts_ns"].as_i64().unwrap() / 60_000_000_000);
        }
        let n_clients = n_requests.values().filter(|n| **n >= 5).count();
        assert!(n_clients >= 200, "{n_clients} addresses");
        assert!(minutes.len() >= 300, "{} minutes with requests", minutes.len());
    }

    #[test]
    fn the_recording_names_no_folder_of_the_machine_that_made_it() {
        let checkout = env!("CARGO_MANIFEST_DIR").split('/').nth(1).unwrap();
        let checkout = format!("/{checkout}/");
        for name in [
            "yesterday.pcap.br",
            "yesterday.jsonl.br",
            "yesterday.truth.json.br",
        ] {
            let bytes = recorded(name);
            for folder in ["/root/", "/home/", "/tmp/", "/usr/", &checkout] {
                let is_named = bytes.windows(folder.len()).any(|text| text == folder.as_bytes());
                assert!(!is_named, "{folder} in {name}");
            }
        }
    }
}
