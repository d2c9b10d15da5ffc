//! Configuration of `ja4-demo origin`.

use std::net::SocketAddr;
use std::path::PathBuf;

use ja4_common::config::ProcessConfig;
use ja4_common::units::{Bytes, Span};
use serde::{Deserialize, Serialize};

/// The whole configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OriginConfig {
    /// Logs, admin address, ledger file.
    pub process: ProcessConfig,
    /// Where HTTPS is served. Default `127.0.0.1:8443`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where plain HTTP is served too. Default: nowhere.
    pub listen_plain: Option<SocketAddr>,
    /// Every connection begins with a PROXY header (version 1 or 2), as behind a load balancer that sends one. Default false.
    pub proxy_protocol: bool,
    /// Names of the certificate. Default `demo.test`, `localhost`, `127.0.0.1`.
    pub names: Vec<String>,
    /// Folder for `ca.pem`, for clients that check the certificate. Default: not written.
    pub data: Option<PathBuf>,
    /// The content. Default 1.
    pub seed: u64,
    /// The receiver's socket. Default `/var/run/logcorr/http.socket`.
    pub socket: PathBuf,
    /// Its type. Default `seqpacket`.
    pub socket_kind: SocketType,
    /// Kind of producer in events. Default `demo`.
    pub source: String,
    /// Host name in events. Default: the system's.
    pub node: Option<String>,
    /// When a request is reported. Default `start_and_end`.
    pub emit: EmitMode,
    /// Memory for events that are not sent yet. Default 8MiB.
    pub buffer: Bytes,
    /// Most connections at once; more are closed at once and counted. Each takes some 40 KiB. Default 4096.
    pub max_connections: usize,
    /// Longest time for a handshake, and for a request's head and body to arrive. Default 10s.
    pub request_timeout: Span,
    /// Longest time without a request. Default 60s.
    pub idle_timeout: Span,
    /// Longest time for answers and events to go out at the end. Default 5s.
    pub drain_timeout: Span,
}

/// Type of the receiver's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketType {
    /// One event a packet, not acknowledged.
    Seqpacket,
    /// Lines, acknowledged.
    Stream,
}

impl From<SocketType> for ja4_emit::SocketKind {
    fn from(kind: SocketType) -> Self {
        match kind {
            SocketType::Seqpacket => Self::Seqpacket,
            SocketType::Stream => Self::Stream,
        }
    }
}

/// When a request is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmitMode {
    /// As soon as its head is read; status, bytes and duration follow in an `end`.
    StartAndEnd,
    /// Once it is answered, in one event.
    AtEnd,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            listen_plain: None,
            proxy_protocol: false,
            names: ["demo.test", "localhost", "127.0.0.1"]
                .map(str::to_owned)
                .to_vec(),
            data: None,
            seed: 1,
            socket: "/var/run/logcorr/http.socket".into(),
            socket_kind: SocketType::Seqpacket,
            source: "demo".to_owned(),
            node: None,
            emit: EmitMode::StartAndEnd,
            buffer: Bytes::mib(8),
            max_connections: 4096,
            request_timeout: Span::seconds(10),
            idle_timeout: Span::seconds(60),
            drain_timeout: Span::seconds(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_states_the_defaults() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/samples/demo.yaml");
        let sample: OriginConfig = ja4_common::config::load(&path).unwrap();
        let mut default = OriginConfig::default();
        default.process.admin = sample.process.admin.clone();
        assert_eq!(
            ja4_common::config::print(&sample).unwrap(),
            ja4_common::config::print(&default).unwrap()
        );
    }
}
