//! Settings of a listener for nodes.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::hub::NodeFacts;
use super::tls::CertificateFiles;
use crate::config::Quotas;

/// Makes the report of what the nodes have said, as JSON.
pub type Report = dyn Fn(Vec<NodeFacts>) -> Vec<u8> + Send + Sync;

/// A source that proves itself with a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenSource {
    /// Name that all its events carry as their source.
    pub name: String,
    /// File with the token; read again when it changes.
    pub token_file: PathBuf,
}

/// Who may speak.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Mutual TLS: the certificate says role and node.
    Certificates {
        /// Bundle of the issuers of clients' certificates, PEM.
        client_trust: PathBuf,
        /// Name of the pipeline in the certificates.
        pipeline: String,
    },
    /// A token for each source, which may send requests only.
    Tokens(Vec<TokenSource>),
}

/// One listener.
#[derive(Clone)]
pub struct RemoteConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The server's certificate.
    pub tls: CertificateFiles,
    /// Who may speak.
    pub admission: Admission,
    /// Answers `/report`; nothing for none.
    pub report: Option<Arc<Report>>,
    /// Limits of each identity: a node, or a source with a token on its node.
    pub quotas: Quotas,
    /// Random for each process: who sees another one knows that connections were forgotten.
    pub boot: u64,
    /// How often files are looked at, default 5 s.
    pub reload_interval: Duration,
    /// Longest time for a TLS handshake, for a request to come on a connection and for its hello, default 5 s.
    pub greeting_timeout: Duration,
    /// Longest silence of a stream, default 60 s: nodes say something every 5 s.
    pub idle_timeout: Duration,
    /// A connection is ended in order after this time and up to a tenth more, default 10 min. It bounds how long a
    /// replaced certificate is still spoken under.
    pub max_connection_age: Duration,
    /// Most connections, default 1024.
    pub max_connections: usize,
    /// Most connections of one certificate's subject, default 64; where that names no node, of one address with it.
    pub max_connections_per_peer: usize,
    /// Most identities, default 4096.
    pub max_identities: usize,
    /// Most producer processes on one stream, default 4096: children of a web server, with those that wait in a spool.
    pub max_producers: usize,
}

impl RemoteConfig {
    /// The defaults.
    pub fn new(listen: SocketAddr, tls: CertificateFiles, admission: Admission) -> Self {
        Self {
            listen,
            tls,
            admission,
            report: None,
            quotas: Quotas {
                // A stream waits without loss, so a small queue does: 4096 nodes hold 1 GiB at most.
                queue_bytes: 256 << 10,
                ..Quotas::default()
            },
            boot: 0,
            reload_interval: Duration::from_secs(5),
            greeting_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(1),
            max_connection_age: Duration::from_mins(10),
            max_connections: 1024,
            max_connections_per_peer: 64,
            max_identities: 4096,
            max_producers: 4096,
        }
    }
}

impl fmt::Debug for RemoteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteConfig")
            .field("listen", &self.listen)
            .field("tls", &self.tls)
            .field("admission", &self.admission)
            .field("quotas", &self.quotas)
            .finish_non_exhaustive()
    }
}
