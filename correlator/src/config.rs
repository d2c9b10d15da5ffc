//! Configuration of the correlator: one documented struct, every key with its default.

use std::net::SocketAddr;
use std::path::PathBuf;

use correlator_engine::{ServerSide, Settings};
use ja4_common::admin::AdminListen;
use ja4_common::clickhouse::StoreConfig;
use ja4_common::config::ProcessConfig;
use ja4_common::units::{Bytes, Span};
use ja4_transport::remote::{Admission, CertificateFiles, RemoteConfig, TokenSource};
use ja4_transport::{ListenerConfig, Quotas, Role, SocketKind};
use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CorrelatorConfig {
    /// Log, admin endpoint, ledger file.
    pub(crate) process: ProcessConfig,
    /// What the correlator does: `join`, or `forward` on a node whose events another one joins.
    pub(crate) mode: Mode,
    /// Name of this host, stamped on events of local sockets; default: the kernel's.
    pub(crate) node: Option<String>,
    /// Sockets that events come in on.
    pub(crate) sources: Vec<SourceConfig>,
    /// Rules of the join.
    pub(crate) join: JoinConfig,
    /// What is taken out of requests before they are written.
    pub(crate) redaction: RedactionConfig,
    /// The store.
    pub(crate) store: StoreSection,
    /// Batches on their way to the store.
    pub(crate) spool: SpoolSection,
    /// A file that joined records are appended to as JSON lines; nothing for none.
    pub(crate) file: Option<PathBuf>,
    /// Print joined records as JSON lines.
    pub(crate) stdout: bool,
    /// Only with `mode: forward`: where events go.
    pub(crate) forward: Option<ForwardSection>,
    /// A listener with mutual TLS for nodes that forward, and for the report; nothing for none.
    pub(crate) remote: Option<RemoteSection>,
    /// A listener with TLS and a token for each source, for HTTP sources that cannot have a socket; nothing for none.
    pub(crate) ingest: Option<IngestSection>,
    /// Longest time for draining at the end; what the store has not taken by then stays in the spool.
    pub(crate) drain_timeout: Span,
}

impl Default for CorrelatorConfig {
    fn default() -> Self {
        Self {
            process: ProcessConfig::default(),
            mode: Mode::Join,
            node: None,
            sources: vec![
                SourceConfig::new(
                    "/var/run/logcorr/network.socket",
                    SourceKind::Stream,
                    SourceRole::Network,
                ),
                SourceConfig::new(
                    "/var/run/logcorr/http.socket",
                    SourceKind::Seqpacket,
                    SourceRole::Http,
                ),
            ],
            join: JoinConfig::default(),
            redaction: RedactionConfig::default(),
            store: StoreSection::default(),
            spool: SpoolSection::default(),
            file: None,
            stdout: false,
            forward: None,
            remote: None,
            ingest: None,
            drain_timeout: Span::seconds(20),
        }
    }
}

/// What the correlator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Joins requests with connections and writes rows.
    Join,
    /// Takes events from the sockets of a node, redacts and spools them, and sends them to another correlator.
    Forward,
}

/// Where a node sends its events.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ForwardSection {
    /// `HOST:PORT` of the correlator; the name is looked up at each connection.
    pub(crate) address: String,
    /// Name in the correlator's certificate; default: the host of `address`.
    pub(crate) server_name: Option<String>,
    /// Bundle of the issuers of the correlator's certificate, PEM.
    pub(crate) trust: PathBuf,
    /// Own certificate, whose URI `ja4://PIPELINE/forward/NODE` names this node; nothing where a token is used.
    pub(crate) certificate: Option<PathBuf>,
    /// Its key.
    pub(crate) key: Option<PathBuf>,
    /// Token of this source, for an ingest listener; then only sockets of the role `http` are of use.
    pub(crate) token_file: Option<PathBuf>,
    /// Source that all events are sent under, whatever their producers call themselves; a token needs its own.
    pub(crate) source: Option<String>,
    /// How often these files are looked at; changed ones are used on a new connection at once.
    pub(crate) reload_interval: Span,
    /// Longest time for connecting and for the handshake, each.
    pub(crate) connect_timeout: Span,
    /// Longest pause between two tries; the first ones are shorter. Each is spread by a half.
    pub(crate) retry_max: Span,
    /// Bytes that may be on their way without being acknowledged. Raising it helps where the correlator holds requests
    /// for seconds, and makes more come twice after a broken connection.
    pub(crate) window: Bytes,
    /// Bytes after which a batch is sealed; more delay and fewer syncs when raised.
    pub(crate) batch_bytes: Bytes,
    /// Age after which a batch is sealed. It is the delay that the hop adds.
    pub(crate) batch_age: Span,
    /// Memory for the beginnings of open connections, which a restarted correlator is told again.
    pub(crate) reannounce_memory: Bytes,
    /// How often the node says how it is.
    pub(crate) facts_interval: Span,
    /// Admin endpoint of the sensor beside this process: its metrics are served with our own, its state is reported.
    pub(crate) sensor_admin: Option<AdminListen>,
}

impl Default for ForwardSection {
    fn default() -> Self {
        let folder = PathBuf::from("/var/run/ja4/tls");
        Self {
            address: "correlator:9443".to_owned(),
            server_name: None,
            trust: folder.join("ca.crt"),
            certificate: Some(folder.join("tls.crt")),
            key: Some(folder.join("tls.key")),
            token_file: None,
            source: None,
            reload_interval: Span::seconds(5),
            connect_timeout: Span::seconds(5),
            retry_max: Span::seconds(5),
            window: Bytes::mib(32),
            batch_bytes: Bytes(512 << 10),
            batch_age: Span::millis(100),
            reannounce_memory: Bytes::mib(32),
            facts_interval: Span::seconds(5),
            sensor_admin: None,
        }
    }
}

/// A listener for nodes that forward.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoteSection {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The correlator's certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Bundle of the issuers of nodes' and readers' certificates, PEM. Who is taken out of it is cut off at once.
    pub(crate) client_trust: PathBuf,
    /// Name of the pipeline in the certificates' `ja4://PIPELINE/ROLE/NODE`.
    pub(crate) pipeline: String,
    /// Limits.
    pub(crate) limits: RemoteLimits,
}

impl Default for RemoteSection {
    fn default() -> Self {
        let folder = PathBuf::from("/var/run/ja4/tls");
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 9443)),
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            client_trust: folder.join("ca.crt"),
            pipeline: "pipeline".to_owned(),
            limits: RemoteLimits::default(),
        }
    }
}

/// A listener for HTTP sources with tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IngestSection {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The server's certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Who may send.
    pub(crate) sources: Vec<IngestSource>,
    /// Limits.
    pub(crate) limits: RemoteLimits,
}

impl Default for IngestSection {
    fn default() -> Self {
        let folder = PathBuf::from("/var/run/ja4/ingest-tls");
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 9444)),
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            sources: Vec::new(),
            limits: RemoteLimits::default(),
        }
    }
}

/// A source with a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngestSource {
    /// Source of all its events.
    pub(crate) name: String,
    /// File with its token, 32 characters or more.
    pub(crate) token_file: PathBuf,
}

/// Limits of a listener for nodes or sources.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoteLimits {
    /// How often certificates, bundle and tokens are looked at.
    pub(crate) reload_interval: Span,
    /// A connection is ended in order at this age and up to a tenth more: how long a replaced certificate is spoken under.
    pub(crate) max_connection_age: Span,
    /// A stream that says nothing for so long is closed.
    pub(crate) idle_timeout: Span,
    /// Longest time for a handshake and for a greeting, each.
    pub(crate) greeting_timeout: Span,
    /// Most connections.
    pub(crate) max_connections: usize,
    /// Most events a second of one node or source.
    pub(crate) events_per_second: u64,
    /// Most bytes a second of one node or source.
    pub(crate) bytes_per_second: Bytes,
    /// Most new producer processes an hour of one node or source.
    pub(crate) boots_per_hour: u64,
    /// Memory for what of one node or source waits for the join.
    pub(crate) queue: Bytes,
}

impl Default for RemoteLimits {
    fn default() -> Self {
        let files = CertificateFiles {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
        };
        let remote = RemoteConfig::new(([0, 0, 0, 0], 0).into(), files, Admission::Tokens(Vec::new()));
        Self {
            reload_interval: Span(remote.reload_interval),
            max_connection_age: Span(remote.max_connection_age),
            idle_timeout: Span(remote.idle_timeout),
            greeting_timeout: Span(remote.greeting_timeout),
            max_connections: remote.max_connections,
            events_per_second: remote.quotas.events_per_second,
            bytes_per_second: Bytes(remote.quotas.bytes_per_second),
            boots_per_hour: remote.quotas.boots_per_hour,
            queue: Bytes(remote.quotas.queue_bytes as u64),
        }
    }
}

impl RemoteLimits {
    fn apply(&self, remote: &mut RemoteConfig) {
        remote.reload_interval = self.reload_interval.0.max(Span::millis(10).0);
        remote.max_connection_age = self.max_connection_age.0;
        remote.idle_timeout = self.idle_timeout.0;
        remote.greeting_timeout = self.greeting_timeout.0;
        remote.max_connections = self.max_connections;
        remote.quotas.events_per_second = self.events_per_second;
        remote.quotas.bytes_per_second = self.bytes_per_second.0;
        remote.quotas.boots_per_hour = self.boots_per_hour;
        remote.quotas.queue_bytes = self.queue.as_usize();
    }
}

impl RemoteSection {
    /// As the receiver wants it.
    pub(crate) fn listener(&self) -> RemoteConfig {
        let files = CertificateFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        };
        let admission = Admission::Certificates {
            client_trust: self.client_trust.clone(),
            pipeline: self.pipeline.clone(),
        };
        let mut remote = RemoteConfig::new(self.listen, files, admission);
        self.limits.apply(&mut remote);
        remote
    }
}

impl IngestSection {
    /// As the receiver wants it.
    pub(crate) fn listener(&self) -> RemoteConfig {
        let files = CertificateFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        };
        let source = |source: &IngestSource| TokenSource {
            name: source.name.clone(),
            token_file: source.token_file.clone(),
        };
        let admission = Admission::Tokens(self.sources.iter().map(source).collect());
        let mut remote = RemoteConfig::new(self.listen, files, admission);
        self.limits.apply(&mut remote);
        remote
    }
}

/// One socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceConfig {
    /// Path of the UNIX socket.
    pub(crate) path: PathBuf,
    /// `stream` (acknowledged) or `seqpacket` (one message a packet, not acknowledged).
    pub(crate) kind: SourceKind,
    /// `network` (sensors) or `http` (HTTP sources).
    pub(crate) role: SourceRole,
    /// Kinds of producer that may greet here; empty for any.
    #[serde(default)]
    pub(crate) producers: Vec<String>,
    /// Users that may connect; with `gids` empty too, only this process's own.
    #[serde(default)]
    pub(crate) uids: Vec<u32>,
    /// Groups that may connect.
    #[serde(default)]
    pub(crate) gids: Vec<u32>,
    /// Group that owns the socket; default: this process's.
    #[serde(default)]
    pub(crate) group: Option<u32>,
    /// Most events a second of one producer; nothing for the built-in limit.
    #[serde(default)]
    pub(crate) events_per_second: Option<u64>,
    /// Most bytes a second of one producer; nothing for the built-in limit.
    #[serde(default)]
    pub(crate) bytes_per_second: Option<Bytes>,
}

/// Kind of socket. `SOCK_DGRAM` loses 28–43 % of events under load and is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceKind {
    Stream,
    Seqpacket,
}

/// What a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceRole {
    Network,
    Http,
}

impl SourceConfig {
    pub(crate) fn new(path: &str, kind: SourceKind, role: SourceRole) -> Self {
        Self {
            path: path.into(),
            kind,
            role,
            producers: Vec::new(),
            uids: Vec::new(),
            gids: Vec::new(),
            group: None,
            events_per_second: None,
            bytes_per_second: None,
        }
    }

    /// As the receiver wants it.
    pub(crate) fn listener(&self) -> ListenerConfig {
        let kind = match self.kind {
            SourceKind::Stream => SocketKind::Stream,
            SourceKind::Seqpacket => SocketKind::Seqpacket,
        };
        let role = match self.role {
            SourceRole::Network => Role::Network,
            SourceRole::Http => Role::Http,
        };
        let mut listener = ListenerConfig::new(&self.path, kind, role, &[]);
        listener.sources.clone_from(&self.producers);
        listener.uids.clone_from(&self.uids);
        listener.gids.clone_from(&self.gids);
        listener.group = self.group;
        let defaults = Quotas::default();
        listener.quotas = Quotas {
            events_per_second: self.events_per_second.unwrap_or(defaults.events_per_second),
            bytes_per_second: self
                .bytes_per_second
                .map_or(defaults.bytes_per_second, |bytes| bytes.0),
            ..defaults
        };
        listener
    }
}

/// Rules of the join.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JoinConfig {
    /// How much of the server's address must agree: `strict`, `port` or `ignore` (default; behind NAT it differs).
    pub(crate) server_side: ServerSideConfig,
    /// Tolerance between clocks of one node.
    pub(crate) skew_same_node: Span,
    /// Tolerance between clocks of two nodes.
    pub(crate) skew_cross_node: Span,
    /// How long a request waits for its connection. Raising it joins more late hellos and delays rows.
    pub(crate) orphan_wait: Span,
    /// How long a request waits for its end.
    pub(crate) end_wait: Span,
    /// How long a closed connection stays findable.
    pub(crate) late_retention: Span,
    /// How long the row of a hello waits for confirmation.
    pub(crate) confirm_wait: Span,
    /// How long after a start a missing connection may be older than the process.
    pub(crate) warmup: Span,
    /// Memory of connections.
    pub(crate) connection_memory: Bytes,
    /// Memory of waiting requests.
    pub(crate) pending_memory: Bytes,
    /// Write a correction when a connection turns up after its request.
    pub(crate) corrections: bool,
}

/// How much of the server's address must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServerSideConfig {
    Strict,
    Port,
    Ignore,
}

impl Default for JoinConfig {
    fn default() -> Self {
        let engine = Settings::default();
        Self {
            server_side: ServerSideConfig::Ignore,
            skew_same_node: Span(engine.skew_same_node),
            skew_cross_node: Span(engine.skew_cross_node),
            orphan_wait: Span(engine.orphan_wait),
            end_wait: Span(engine.end_wait),
            late_retention: Span(engine.late_retention),
            confirm_wait: Span(engine.confirm_wait),
            warmup: Span(engine.warmup),
            connection_memory: Bytes(engine.connection_bytes_max as u64),
            pending_memory: Bytes(engine.pending_bytes_max as u64),
            corrections: engine.corrections,
        }
    }
}

impl JoinConfig {
    /// As the engine wants it.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            server_side: match self.server_side {
                ServerSideConfig::Strict => ServerSide::Strict,
                ServerSideConfig::Port => ServerSide::Port,
                ServerSideConfig::Ignore => ServerSide::Ignore,
            },
            skew_same_node: self.skew_same_node.0,
            skew_cross_node: self.skew_cross_node.0,
            orphan_wait: self.orphan_wait.0,
            end_wait: self.end_wait.0,
            late_retention: self.late_retention.0,
            confirm_wait: self.confirm_wait.0,
            warmup: self.warmup.0,
            connection_bytes_max: self.connection_memory.as_usize(),
            pending_bytes_max: self.pending_memory.as_usize(),
            corrections: self.corrections,
            ..Settings::default()
        }
    }
}

/// What is taken out of requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RedactionConfig {
    /// File with the key of the keyed hashes, mode 0600, made at the first start.
    pub(crate) key_file: PathBuf,
    /// Query keys whose values are secrets, compared without case.
    pub(crate) query_keys: Vec<String>,
    /// Cookies that name a session, compared without case; without one the whole header stands for it.
    pub(crate) session_cookies: Vec<String>,
}

impl Default for RedactionConfig {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            key_file: "/var/lib/ja4-platform/redaction.key".into(),
            query_keys: names(&[
                "token",
                "access_token",
                "id_token",
                "refresh_token",
                "password",
                "passwd",
                "pwd",
                "secret",
                "api_key",
                "apikey",
                "key",
                "auth",
                "code",
                "session",
                "sid",
                "signature",
                "sig",
            ]),
            session_cookies: names(&[
                "session",
                "sessionid",
                "sid",
                "phpsessid",
                "jsessionid",
                "connect.sid",
            ]),
        }
    }
}

/// The store.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreSection {
    /// False: nothing is written to a store.
    pub(crate) disabled: bool,
    /// Where it is.
    pub(crate) connection: StoreConfig,
}

/// Batches on their way to the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SpoolSection {
    /// `spool`: a batch is on disk before its events are acknowledged. `memory`: it is acknowledged when
    /// the store has it, and a crash may store it twice; for laptops.
    pub(crate) durability: Durability,
    /// Folder of the spool.
    pub(crate) dir: PathBuf,
    /// Most bytes that wait; over it the oldest batches are dropped and counted.
    pub(crate) max_bytes: Bytes,
    /// Rows after which a batch is sealed, at most a million. Fewer cost more CPU: an insert costs 40–60 ms whatever
    /// its size.
    pub(crate) batch_rows: usize,
    /// Bytes after which a batch is sealed.
    pub(crate) batch_bytes: Bytes,
    /// Age after which a batch is sealed.
    pub(crate) batch_age: Span,
}

/// When events count as safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    Spool,
    Memory,
}

impl Durability {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Spool => "spool",
            Self::Memory => "memory",
        }
    }
}

impl Default for SpoolSection {
    fn default() -> Self {
        Self {
            durability: Durability::Spool,
            dir: "/var/lib/ja4-platform/spool".into(),
            max_bytes: Bytes::mib(1024),
            batch_rows: 50_000,
            batch_bytes: Bytes::mib(32),
            batch_age: Span::seconds(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_sample_is_valid_and_shows_every_key() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/samples/correlator.yaml");
        let sample: CorrelatorConfig = ja4_common::config::load(Path::new(path)).unwrap();
        let printed = ja4_common::config::print(&CorrelatorConfig::default()).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        for key in printed
            .lines()
            .filter_map(|line| line.trim().split_once(':').map(|(key, _)| key))
        {
            let key = key.trim_start_matches("- ");
            assert!(text.contains(&format!("{key}:")), "the sample lacks {key}");
        }
        assert_eq!(
            sample.spool.batch_rows,
            CorrelatorConfig::default().spool.batch_rows
        );
    }

    fn load_sample(name: &str) -> CorrelatorConfig {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs/samples")
            .join(name);
        ja4_common::config::load(&path).unwrap()
    }

    /// The keys of a section as it is printed, and whether the sample has them.
    fn lacking(name: &str, section: &impl Serialize) -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs/samples")
            .join(name);
        let text = std::fs::read_to_string(path).unwrap();
        let printed = ja4_common::config::print(section).unwrap();
        let keys = printed.lines().filter_map(|line| line.trim().split_once(':'));
        let keys = keys.map(|(key, _)| key.trim_start_matches("- ").to_owned());
        keys.filter(|key| !text.contains(&format!("{key}:"))).collect()
    }

    #[test]
    fn the_samples_of_a_cluster_are_valid_and_show_every_key_of_their_sections() {
        let forward = load_sample("correlator-forward.yaml");
        assert_eq!(forward.mode, Mode::Forward);
        assert!(forward.forward.is_some());
        let none: Vec<String> = Vec::new();
        assert_eq!(
            lacking("correlator-forward.yaml", &ForwardSection::default()),
            none
        );
        let cluster = load_sample("correlator-cluster.yaml");
        assert_eq!(cluster.mode, Mode::Join);
        assert_eq!(cluster.ingest.unwrap().sources.len(), 1);
        assert_eq!(
            lacking("correlator-cluster.yaml", &RemoteSection::default()),
            none
        );
        assert_eq!(
            lacking("correlator-cluster.yaml", &IngestSection::default()),
            none
        );
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let refusal =
            ja4_common::config::parse::<CorrelatorConfig>("join:\n  orphan_waits: 1s\n", Path::new("c.yaml"))
                .unwrap_err()
                .to_string();
        assert!(refusal.contains("orphan_wait\"?"), "{refusal}");
        let dgram = "sources:\n  - {path: /x, kind: dgram, role: http}\n";
        assert!(ja4_common::config::parse::<CorrelatorConfig>(dgram, Path::new("c.yaml")).is_err());
    }
}
