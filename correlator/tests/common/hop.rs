//! A node and a correlator beside each other: certificates, configurations, the report.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

use super::{Correlator, NODE, Store};

/// An authority of a test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Replaces the bundle at `path` by these authorities.
    pub fn write_bundle(authorities: &[&Self], path: &Path) {
        let pem: String = authorities.iter().map(|authority| authority.0.pem()).collect();
        replace(path, &pem);
    }

    /// Replaces `NAME.key` and `NAME.crt` by a new pair for this URI.
    pub fn issue(&self, uri: &str, folder: &Path, name: &str) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        if !uri.is_empty() {
            params
                .subject_alt_names
                .push(SanType::URI(uri.try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        // Between the two they do not fit: whoever reads them then must stay with what it had.
        replace(&folder.join(name).with_extension("key"), &key.serialize_pem());
        replace(&folder.join(name).with_extension("crt"), &certificate.pem());
    }
}

/// As a mounted Secret is replaced: whole or not at all.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// A folder each for node, correlator and certificates, and their ports.
pub struct Hop {
    pub dir: tempfile::TempDir,
    pub authority: Authority,
    pub port: u16,
    pub ingest_port: u16,
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

impl Hop {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["node", "join", "tls"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let hop = Self {
            dir,
            authority: Authority::new("first"),
            port: free_port(),
            ingest_port: free_port(),
        };
        let tls = hop.tls();
        Authority::write_bundle(&[&hop.authority], &tls.join("ca.crt"));
        hop.authority.issue("", &tls, "server");
        hop.authority.issue(&node_uri(), &tls, "node");
        hop.authority.issue("ja4://pipeline/reader", &tls, "reader");
        hop
    }

    pub fn node(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    pub fn join(&self) -> PathBuf {
        self.dir.path().join("join")
    }

    pub fn tls(&self) -> PathBuf {
        self.dir.path().join("tls")
    }

    /// Joined records of a correlator without a store.
    pub fn joined_file(&self) -> PathBuf {
        self.join().join("joined.jsonl")
    }

    /// Starts the correlator that joins: into a store, or into a file.
    pub fn start_join(&self, store: Option<&Store>, more: &str) -> Correlator {
        let tls = self.tls();
        let at = |name: &str| tls.join(name).display().to_string();
        let limits = "{reload_interval: 30ms, max_connection_age: 10m}";
        let mut config = format!(
            "remote: {{listen: \"127.0.0.1:{}\", certificate: \"{}\", key: \"{}\", client_trust: \"{}\", limits: {limits}}}\n",
            self.port,
            at("server.crt"),
            at("server.key"),
            at("ca.crt"),
        );
        if store.is_none() {
            let file = format!("file: \"{}\"\n", self.joined_file().display());
            config.push_str(&file);
        }
        config.push_str(more);
        Correlator::start(&self.join(), store, &config)
    }

    /// Starts the forwarder; `spool` and `forward` are more keys of these sections.
    pub fn start_node(&self, spool: &str, forward: &str) -> Correlator {
        self.configure_node(spool, forward);
        Correlator::start_configured(&self.node())
    }

    pub fn configure_node(&self, spool: &str, forward: &str) {
        let tls = self.tls();
        let at = |name: &str| tls.join(name).display().to_string();
        let own = if forward.contains("token_file") {
            "certificate: null, key: null".to_owned()
        } else {
            format!("certificate: \"{}\", key: \"{}\"", at("node.crt"), at("node.key"))
        };
        let address = if forward.contains("address") {
            String::new()
        } else {
            format!("address: \"127.0.0.1:{}\", ", self.port)
        };
        let age = if forward.contains("batch_age") {
            ""
        } else {
            ", batch_age: 20ms"
        };
        let config = format!(
            "mode: forward\nspool: {{dir: \"{}\"{spool}}}\nforward: {{{address}server_name: localhost, trust: \"{}\", {own}, \
             retry_max: 200ms, reload_interval: 30ms, facts_interval: 100ms{age}{forward}}}\n",
            self.node().join("spool").display(),
            at("ca.crt"),
        );
        Correlator::configure(&self.node(), None, &config);
    }

    /// `GET /report` with this certificate: status and body; nothing if the connection was refused.
    pub fn report(&self, name: Option<&str>) -> Option<(u16, Value)> {
        let tls = self.tls();
        let mut roots = rustls::RootCertStore::empty();
        for issuer in CertificateDer::pem_file_iter(tls.join("ca.crt")).unwrap() {
            roots.add(issuer.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::pem_file_iter(tls.join(name).with_extension("crt")).unwrap();
                let key = PrivateKeyDer::from_pem_file(tls.join(name).with_extension("key")).unwrap();
                builder
                    .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
                    .unwrap()
            }
        };
        let server = ServerName::try_from("localhost").unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), server).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let mut stream = rustls::StreamOwned::new(connection, tcp);
        stream
            .write_all(b"GET /report HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }

    /// The report as the reader gets it; null while there is none.
    pub fn report_now(&self) -> Value {
        self.report(Some("reader"))
            .map_or(Value::Null, |(_, report)| report)
    }

    /// Joined records in the file so far.
    pub fn joined(&self) -> Vec<Value> {
        let Ok(file) = fs::File::open(self.joined_file()) else {
            return Vec::new();
        };
        let lines = std::io::BufReader::new(file).lines().map(Result::unwrap);
        // The last line may be half written.
        lines
            .filter_map(|line| serde_json::from_str(&line).ok())
            .collect()
    }

    /// Records joined so far.
    pub fn joined_of_any(&self) -> usize {
        self.joined().len()
    }

    /// How often each number of a producer process was joined.
    pub fn joined_of(&self, boot: ja4_model::BootId) -> HashMap<u64, u64> {
        let boot = boot.to_string();
        let mut times = HashMap::new();
        for record in self
            .joined()
            .iter()
            .filter(|record| record["boot"] == boot.as_str())
        {
            *times.entry(record["seq"].as_u64().unwrap()).or_insert(0) += 1;
        }
        times
    }
}

pub fn node_uri() -> String {
    format!("ja4://pipeline/forward/{NODE}")
}

/// Bytes that wait in the forwarder's spool, by its ledger; nothing before there is one.
pub fn segments_of(ledger: &Value) -> Option<u64> {
    ledger["facts"]["spool"]["segments"].as_u64()
}
