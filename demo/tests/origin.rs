//! The origin under real connections: what is reported is what was sent, and hostile clients stay bounded.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use demo::clients::{Clients, ClientsConfig};
use demo::origin::config::{EmitMode, OriginConfig};
use demo::origin::{Origin, Shared};
use ja4_common::Shutdown;
use ja4_common::ledger::Stage;
use ja4_common::units::Span;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A receiver of SEQPACKET events on a thread of its own; all packets come back when the emitter is gone.
struct Receiver(std::thread::JoinHandle<Vec<Value>>);

impl Receiver {
    fn listen(path: &std::path::Path) -> Self {
        let kind = SocketType::SEQPACKET;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        Self(std::thread::spawn(move || {
            let peer: OwnedFd = rustix::net::accept(&socket).unwrap();
            let mut buffer = vec![0; 256 << 10];
            let mut events = Vec::new();
            loop {
                let (n, _) = rustix::net::recv(&peer, &mut buffer[..], RecvFlags::empty()).unwrap();
                if n == 0 {
                    return events;
                }
                events.push(serde_json::from_slice(&buffer[..n]).unwrap());
            }
        }))
    }
}

struct Site {
    _dir: tempfile::TempDir,
    receiver: Receiver,
    shutdown: Shutdown,
    shared: Arc<Shared>,
    secure: SocketAddr,
    plain: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Site {
    fn start(change: impl FnOnce(&mut OriginConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("http.socket");
        let receiver = Receiver::listen(&socket);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = OriginConfig {
            listen: any,
            listen_plain: Some(any),
            socket,
            drain_timeout: Span::seconds(2),
            ..OriginConfig::default()
        };
        change(&mut config);
        let shutdown = Shutdown::manual().unwrap();
        let origin = Origin::bind(config, "node".to_owned(), shutdown.clone()).unwrap();
        Self {
            _dir: dir,
            receiver,
            shutdown,
            shared: origin.shared(),
            secure: origin.address().unwrap(),
            plain: origin.plain_address().unwrap(),
            task: tokio::spawn(origin.run()),
        }
    }

    fn stage(&self, name: &str) -> Stage {
        let stages = self.shared.ledger().stages;
        stages.into_iter().find(|stage| stage.name == name).unwrap()
    }

    /// The dropped connections by reason, once `is_enough` says so: a peer sees the end of its connection before
    /// the site has counted it.
    async fn dropped(&self, is_enough: impl Fn(&BTreeMap<String, u64>) -> bool) -> BTreeMap<String, u64> {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let dropped = self.stage("demo.connections").dropped;
            if is_enough(&dropped) {
                return dropped;
            }
            assert!(std::time::Instant::now() < deadline, "{dropped:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops, and returns requests and ends.
    async fn stop(self) -> (Vec<Value>, Vec<Value>) {
        self.shutdown.request();
        self.task.await.unwrap();
        let ledger = self.shared.ledger();
        assert_eq!(ledger.imbalances(), []);
        assert!(ledger.stages.iter().all(|stage| stage.pending == 0), "{ledger:?}");
        drop(self.shared);
        let events = self.receiver.0.join().unwrap();
        let of = |kind: &str| events.iter().filter(|e| e["event"] == kind).cloned().collect();
        (of("request"), of("end"))
    }
}

/// Sends raw bytes and reads until the server closes.
async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after an error answer is as good as an end.
    let _ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
        .await
        .expect("the server ends the connection")
        .is_ok();
    String::from_utf8_lossy(&answer).into_owned()
}

const PIPELINED: &[u8] = b"GET /health?a=1 HTTP/1.1\r\nhOsT: h\r\nX-B: 1\r\nx-a: 2\r\nX-b: 3\r\n\r\n\
    POST /api/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: h\r\n\r\n\
    1b\r\nGET /not HTTP/1.1\r\nA: b\r\n\r\n\r\n0\r\n\r\n\
    GET /nowhere HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_is_reported_as_it_was_sent() {
    let site = Site::start(|_| {});
    let answer = talk(site.plain, PIPELINED).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 404 ").count(), 1, "{answer}");
    let (requests, ends) = site.stop().await;
    let paths: Vec<_> = requests.iter().map(|r| r["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/health", "/api/events", "/nowhere"]);
    let expected = serde_json::json!([["hOsT", "h"], ["X-B", "1"], ["x-a", "2"], ["X-b", "3"]]);
    assert_eq!(requests[0]["headers"], expected);
    assert_eq!(requests[0]["query"], "a=1");
    let indexes: Vec<_> = requests
        .iter()
        .map(|r| r["req_index"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, [0, 1, 2]);
    let statuses: Vec<_> = ends.iter().map(|e| e["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 404]);
    for (request, end) in requests.iter().zip(&ends) {
        assert_eq!(request["seq"], end["request_seq"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_suffices_at_the_end() {
    let site = Site::start(|config| config.emit = EmitMode::AtEnd);
    talk(site.plain, PIPELINED).await;
    let (requests, ends) = site.stop().await;
    let statuses: Vec<_> = requests.iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!((statuses, ends.len()), (vec![200, 200, 404], 0));
}

const GET: &[u8] = b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_balancer_the_client_is_whom_its_header_names() {
    let site = Site::start(|config| {
        config.proxy_protocol = true;
        config.request_timeout = Span::millis(500);
    });
    let line = b"PROXY TCP4 203.0.113.9 198.51.100.1 40112 443\r\n";
    let own_check = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [&line[..], own_check] {
        let answer = talk(site.plain, &[header, GET].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    for (bytes, reason) in [(GET, "proxy_header"), (&line[..20], "proxy_timeout")] {
        assert_eq!(talk(site.plain, bytes).await, "");
        site.dropped(|dropped| dropped.contains_key(reason)).await;
    }
    let (requests, _) = site.stop().await;
    let fields = [
        "client_ip",
        "proxy_client_ip",
        "proxy_client_port",
        "effective_ip",
        "effective_source",
    ];
    let said: Vec<_> = requests
        .iter()
        .map(|request| fields.map(|field| request[field].to_string()))
        .collect();
    assert_eq!(
        said[0],
        [
            "\"127.0.0.1\"",
            "\"203.0.113.9\"",
            "40112",
            "\"203.0.113.9\"",
            "\"proxy_protocol\""
        ]
    );
    assert_eq!(said[1][..4], ["\"127.0.0.1\"", "null", "null", "null"]);
    assert_eq!(said.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_request_of_real_clients_is_reported_once_on_its_connection() {
    let site = Site::start(|_| {});
    let host = format!("demo.test:{}", site.secure.port());
    let shutdown = Shutdown::manual().unwrap();
    let config = ClientsConfig {
        server: site.secure,
        humans: 0,
        think_time: Span::seconds(1),
        visit_gap: Span::seconds(8),
        service_pause: Span::seconds(4),
        bots: Some(6),
        ..ClientsConfig::default()
    };
    let clients = Clients::new(config, shutdown.clone()).unwrap();
    let sent = clients.shared();
    let running = tokio::spawn(clients.run());
    // As long as it takes: a busy machine starts programs slowly.
    let deadline = std::time::Instant::now() + Duration::from_mins(3);
    loop {
        let ledger = sent.ledger();
        let n_connections = ledger.facts["client_connections"].as_u64().unwrap();
        if ledger.stages[0].passed > 400 && n_connections > 60 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{ledger:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    shutdown.request();
    running.await.unwrap();
    let client_stage = sent.ledger().stages.remove(0);
    let (mut requests, ends) = site.stop().await;
    assert_eq!(requests.len(), ends.len());
    // The bot with a browser is counted by pages, and cannot send the id of its connection.
    requests.retain(|request| !request["headers"].to_string().contains("\"sec-fetch-mode\""));
    assert_eq!(client_stage.imbalance(), 0);
    assert!(client_stage.passed > 200, "{client_stage:?}");
    // What a client gave up on may or may not have been answered.
    let n_reported = requests.len() as u64;
    assert!(
        (client_stage.passed..=client_stage.received).contains(&n_reported),
        "{n_reported} {client_stage:?}"
    );
    let mut by_cid = BTreeMap::new();
    let mut by_conn = BTreeMap::new();
    let mut fingerprints = std::collections::BTreeSet::new();
    for request in &requests {
        let query = request["query"].as_str().unwrap();
        let cid = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("_cid="))
            .unwrap();
        let conn = format!(
            "{} {} {}",
            request["client_ip"], request["client_port"], request["conn_id"]
        );
        assert_eq!(
            by_cid.entry(cid.to_owned()).or_insert_with(|| conn.clone()),
            &conn
        );
        assert_eq!(by_conn.entry(conn).or_insert_with(|| cid.to_owned()), cid);
        // Also of programs that cannot choose it.
        assert_ne!(
            request["client_ip"], "127.0.0.1",
            "an address of its own: {request}"
        );
        assert_eq!(request["host"], host, "everybody asks the same host: {request}");
        fingerprints.extend(request["h2_fp"].as_str().map(str::to_owned));
    }
    assert!(by_cid.len() > 30, "{} connections", by_cid.len());
    if std::path::Path::new("/usr/bin/curl").exists() {
        assert!(
            fingerprints.len() >= 2,
            "curl and our own client differ: {fingerprints:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_http1_is_answered_counted_and_closed() {
    let site = Site::start(|config| config.request_timeout = Span::millis(500));
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(100_000));
    for (bytes, expected) in [
        (&b"\x01\x02 garbage\r\n\r\n"[..], "400"),
        (long.as_bytes(), "431"),
        (b"GET / HTTP/1.1\r\nHost:", "408"),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", "408"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400",
        ),
    ] {
        let answer = talk(site.plain, bytes).await;
        // The server may close before it has read all: then the answer can be lost with a reset.
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")) || (expected == "431" && answer.is_empty()),
            "{expected}: {answer}"
        );
    }
    let reasons = [
        "malformed_head",
        "head_too_large",
        "request_timeout",
        "ambiguous_framing",
    ];
    site.dropped(|dropped| reasons.iter().all(|reason| dropped.contains_key(*reason)))
        .await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_beyond_the_limit_are_closed_and_the_site_recovers() {
    let site = Site::start(|config| {
        config.max_connections = 50;
        config.request_timeout = Span::millis(500);
    });
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(TcpStream::connect(site.secure).await.unwrap());
    }
    let dropped = site.dropped(|dropped| dropped.values().sum::<u64>() == 500).await;
    // How many came while fifty were open depends on the machine; the rest sent nothing for too long.
    assert!(dropped["max_connections"] > 0, "{dropped:?}");
    let answer = talk(site.plain, b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    site.stop().await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes.into()
}

#[derive(Debug)]
struct AnyCertificate(rustls::crypto::CryptoProvider);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS connection that negotiated HTTP/2.
async fn connect_h2(address: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    let provider = rustls::crypto::ring::default_provider();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(address).await.unwrap();
    connector
        .connect("demo.test".try_into().unwrap(), tcp)
        .await
        .unwrap()
}

/// Sends an opening, then `flood` again and again until the server ends the connection.
async fn flood(address: SocketAddr, flood: impl Fn(u32) -> Vec<Bytes>) {
    let (mut reader, mut writer) = tokio::io::split(connect_h2(address).await);
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while matches!(reader.read(&mut buffer).await, Ok(n) if n > 0) {}
    });
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    writer.write_all(preface).await.unwrap();
    writer.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    for n in 0..50_000 {
        for bytes in flood(n) {
            if writer.write_all(&bytes).await.is_err() || reading.is_finished() {
                return;
            }
        }
    }
    // What was written last may still lie in the socket.
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .expect("the server ends a flood")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_floods_end_their_connection_only() {
    // :method GET, :scheme https, :path /, :authority "h".
    const BLOCK: [u8; 6] = [0x82, 0x87, 0x84, 0x01, 0x01, b'h'];
    let site = Site::start(|_| {});
    flood(site.secure, |_| vec![frame(4, 0, 0, &[])]).await;
    flood(site.secure, |_| vec![frame(6, 0, 0, &[0; 8])]).await;
    flood(site.secure, |n| {
        vec![
            frame(1, 5, n * 2 + 1, &BLOCK),
            frame(3, 0, n * 2 + 1, &[0, 0, 0, 8]),
        ]
    })
    .await;
    flood(site.secure, |n| {
        vec![if n == 0 {
            frame(1, 1, 1, &BLOCK)
        } else {
            frame(9, 0, 1, &[])
        }]
    })
    .await;
    flood(site.secure, |_| {
        vec![Bytes::from_static(b"garbage garbage garbage")]
    })
    .await;
    site.dropped(|dropped| dropped.values().sum::<u64>() == 5).await;
    // Another client is served as ever, and its order and duplicates arrive.
    let (mut send, connection) = h2::client::handshake(connect_h2(site.secure).await)
        .await
        .unwrap();
    let driving = tokio::spawn(connection);
    let request = http::Request::get("https://demo.test/health?last")
        .header("x-b", "1")
        .header("x-b", "2")
        .header("x-a", "3")
        .body(())
        .unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    drop(send);
    driving.await.unwrap().unwrap();
    let (requests, _) = site.stop().await;
    let last = requests.iter().find(|r| r["query"] == "last").unwrap();
    let expected = serde_json::json!([["x-b", "1"], ["x-b", "2"], ["x-a", "3"]]);
    assert_eq!(last["headers"], expected);
    assert_eq!(
        (&last["http_version"], &last["stream_id"]),
        (&"2".into(), &1.into())
    );
}
