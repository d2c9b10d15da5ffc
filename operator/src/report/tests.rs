//! Reports as they are and as they should not be, and the way to them over TLS.

use std::net::SocketAddr;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::pki::{self, Existing, Needs, Part, Times};

/// What a correlator of two nodes said: one with a sensor, one whose sensor never answered and whose spool ran over.
const REAL: &[u8] = include_bytes!("report.json");

#[test]
fn a_real_report_is_read() {
    let report = parse(REAL).unwrap();
    assert!(report.version.is_some() && report.made_ns.unwrap() > 0 && report.schema.is_none());
    let [one, two] = &report.nodes[..] else {
        panic!("{:?}", report.nodes)
    };
    assert!(one.connected && one.node == "web-1" && one.software.starts_with("ja4-correlator "));
    assert!(one.interfaces().unwrap()["eth0"]);
    assert_eq!(
        one.sensor_passages()["sensor.frames"],
        Passage {
            received: 1_200,
            dropped: 12
        }
    );
    assert!(one.dropped_events().is_empty());
    assert!(!two.connected && two.interfaces().is_none() && two.sensor_passages().is_empty());
    assert!(!two.facts.as_ref().unwrap().sensor.as_ref().unwrap().answers);
    assert_eq!(
        two.dropped_events(),
        [("spool_full", 1_107), ("malformed", 2)].into()
    );
    assert!(
        two.facts
            .as_ref()
            .unwrap()
            .spool
            .as_ref()
            .unwrap()
            .max_bytes
            .is_some()
    );
    let store = report.store.unwrap();
    assert_eq!(
        (store.error.as_deref(), store.age_ms),
        (Some("WrongPassword"), Some(412))
    );
    let counts = report.counts.unwrap();
    let joined = counts.joined.unwrap();
    assert_eq!((joined.over_tls(), joined.none["plaintext"]), (402, 9));
    assert_eq!(counts.requests, Some(411));
    assert_eq!(
        counts.listeners[0].refused,
        [("certificate_untrusted".to_owned(), 3)].into()
    );
    assert!(
        counts
            .stages
            .iter()
            .any(|stage| stage.name == "correlator.requests")
    );
}

#[track_caller]
fn reads(value: &serde_json::Value) -> Report {
    parse(value.to_string().as_bytes()).unwrap()
}

#[test]
fn the_first_report_of_a_process_has_nothing_but_its_version() {
    let report = reads(&json!({"version": "1", "made_ns": 5, "nodes": [], "store": null, "counts": null}));
    assert_eq!((report.nodes.len(), report.store, report.counts), (0, None, None));
    assert_eq!(reads(&json!({})), Report::default());
}

#[test]
fn parts_that_cannot_be_read_are_not_there_and_the_others_are() {
    let report = reads(&json!({
        "version": 7, "made_ns": "yesterday", "new": {"x": [1]},
        "nodes": [
            {"node": 1},
            {"node": "a", "connected": true, "facts": "none"},
            null,
            {"node": "b", "facts": {"sensor": {"too_long": true}, "spool": 5}},
        ],
        "store": [], "schema": {"drift": "table http_logs lacks the column x", "age_ms": 4},
        "counts": {"age_ms": 1, "stages": {"a": 1}, "joined": "many", "listeners": 5, "requests": -1, "hellos": 6},
    }));
    let names: Vec<&str> = report.nodes.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(report.nodes[0].facts, None);
    assert_eq!((report.version, report.made_ns, report.store), (None, None, None));
    let sensor = report.nodes[1].facts.clone().unwrap().sensor.unwrap();
    assert!(
        sensor.answers && sensor.interfaces.is_none(),
        "too long to be sent is no silence"
    );
    let counts = report.counts.unwrap();
    assert_eq!(
        (counts.age_ms, counts.requests, counts.hellos, counts.joined),
        (Some(1), None, Some(6), None)
    );
    assert!(counts.stages.is_empty() && counts.listeners.is_empty());
    assert!(report.schema.unwrap().drift.unwrap().contains("http_logs"));
    for list in [
        json!(null),
        json!(true),
        json!(-1),
        json!(1),
        json!(0.5),
        json!("x"),
        json!({"a": [{}]}),
    ] {
        assert!(reads(&json!({"nodes": list, "version": "1"})).version.is_some());
    }
    for none in ["", "[", " []", "null", "5", "\"x\"", "{\"version\":"] {
        assert!(parse(none.as_bytes()).is_err(), "{none}");
    }
}

#[test]
fn what_happens_now_is_a_difference_and_a_restart_begins_anew() {
    let joined = |exact, none: &[(&str, u64)]| Joined {
        exact,
        none: none
            .iter()
            .map(|(reason, n)| ((*reason).to_owned(), *n))
            .collect(),
        ..Joined::default()
    };
    let earlier = joined(100, &[("no_conn", 5), ("plaintext", 50)]);
    let now = joined(130, &[("no_conn", 15), ("plaintext", 50)]);
    let since = now.since(&earlier);
    assert_eq!(since, joined(30, &[("no_conn", 10)]));
    assert_eq!(earlier.since(&now), earlier);
    // Reasons that are gone from the ledger are of another process too.
    let other = joined(200, &[]);
    assert_eq!(other.since(&earlier), other);
    let passage = |received, dropped| Passage { received, dropped };
    assert_eq!(passage(1_000, 6).since(passage(500, 1)), passage(500, 5));
    assert_eq!(passage(1_000, 0).since(passage(500, 1)), passage(1_000, 0));
    assert_eq!(passage(500, 5).share_dropped(), Some(0.01));
    assert_eq!(passage(0, 0).share_dropped(), None);
}

fn made(pipeline: &str) -> Existing {
    let needs = Needs {
        namespace: "shop".to_owned(),
        pipeline: pipeline.to_owned(),
        parts: Part::CERTIFICATES.into(),
        rotate: None,
        times: Times::default(),
    };
    let mut random = |bytes: &mut [u8]| getrandom::fill(bytes);
    pki::plan(&Existing::new(), &needs, SystemTime::now(), &mut random)
        .unwrap()
        .after
}

fn credentials(secrets: &Existing, part: Part) -> Credentials {
    let data = &secrets[&part].data;
    Credentials {
        trust: data.get("ca.crt").to_vec(),
        certificate: data.get("tls.crt").to_vec(),
        key: data.get("tls.key").to_vec(),
    }
}

/// As the correlator's listener is set up.
fn server(secrets: &Existing) -> Arc<ServerConfig> {
    let own = credentials(secrets, Part::CorrelatorTls);
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&own.trust) {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = CertificateDer::pem_slice_iter(&own.certificate)
        .map(Result::unwrap)
        .collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&own.key).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Answers every request with these bytes; with none it stays silent. A refused client gets its alert and no more.
async fn serve(config: Arc<ServerConfig>, answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut tls) = TlsAcceptor::from(Arc::clone(&config)).accept(tcp).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(tls.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"GET /report HTTP/1.1\r\n"));
            if answer.is_empty() {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
            // Who has heard enough goes.
            tls.write_all(&answer).await.ok();
            tls.shutdown().await.ok();
        }
    });
    address
}

fn http(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn ask_at(address: SocketAddr, credentials: &Credentials, name: &str) -> Result<Report, ReportError> {
    let endpoint = Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
        server_name: name.to_owned(),
    };
    fetch_within(&endpoint, credentials, Duration::from_secs(2)).await
}

const NAME: &str = "main-correlator.shop.svc";

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

#[test]
fn the_operators_certificate_gets_the_report() {
    block_on(async {
        let secrets = made("main");
        let address = serve(server(&secrets), http("200 OK", REAL)).await;
        let report = ask_at(address, &credentials(&secrets, Part::OperatorTls), NAME)
            .await
            .unwrap();
        assert_eq!(report.nodes.len(), 2);
    });
}

#[track_caller]
fn fails(answer: &[u8], expected: &str) {
    let line = block_on(async {
        let secrets = made("main");
        let address = serve(server(&secrets), answer.to_vec()).await;
        ask_at(address, &credentials(&secrets, Part::OperatorTls), NAME)
            .await
            .unwrap_err()
            .line()
    });
    assert!(line.contains(expected) && !line.contains('\n'), "{line}");
}

#[test]
fn answers_that_are_no_report_are_said_in_one_line() {
    fails(
        &http("403 Forbidden", b"the report needs the role operator or reader\n"),
        "answers 403 Forbidden: the report needs the role operator or reader",
    );
    fails(
        &http("200 OK", b"<html>\n</html>"),
        "cannot be read: expected value",
    );
    fails(&http("200 OK", b""), "cannot be read: EOF");
    fails(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "cut off");
    fails(b"", "does not answer within 2s");
    fails(b"\x00\x01", "ended the connection: ");
    let long = vec![b' '; MAX_BYTES + 1];
    fails(&http("200 OK", &long), "longer than 8388608 bytes");
}

#[test]
fn who_is_not_believed_is_told_apart() {
    block_on(async {
        let (secrets, others) = (made("main"), made("other"));
        let address = serve(server(&secrets), http("200 OK", REAL)).await;
        let own = credentials(&secrets, Part::OperatorTls);
        let line = |result: Result<Report, ReportError>| result.unwrap_err().line();
        // The correlator's certificate is of another authority.
        let stranger = Credentials {
            trust: credentials(&others, Part::OperatorTls).trust,
            ..own.clone()
        };
        let text = line(ask_at(address, &stranger, NAME).await);
        assert!(
            text.contains("does not pass the TLS handshake") && text.contains("UnknownIssuer"),
            "{text}"
        );
        let text = line(ask_at(address, &own, "main-store.shop.svc").await);
        assert!(text.contains("not valid for name"), "{text}");
        // Ours is.
        let refused = Credentials {
            trust: own.trust.clone(),
            ..credentials(&others, Part::OperatorTls)
        };
        let text = line(ask_at(address, &refused, NAME).await);
        assert!(
            text.contains("ended the connection") && text.contains("alert"),
            "{text}"
        );
        // Nobody is there.
        let free = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let text = line(ask_at(free, &own, NAME).await);
        assert!(text.contains("cannot be reached: Connection refused"), "{text}");
        for damaged in [
            Credentials {
                trust: Vec::new(),
                ..own.clone()
            },
            Credentials {
                key: b"-----BEGIN PRIVATE KEY-----\nx".to_vec(),
                ..own.clone()
            },
            Credentials {
                key: credentials(&others, Part::OperatorTls).key,
                ..own.clone()
            },
        ] {
            let text = line(ask_at(address, &damaged, NAME).await);
            assert!(
                text.contains("certificate for the report cannot be used"),
                "{text}"
            );
        }
        assert_eq!(format!("{own:?}"), "Credentials { .. }");
    });
}
