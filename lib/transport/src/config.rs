//! Settings of a receiver: its sockets, who may speak on them and how much.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ja4_model::{BootId, EventKind, WallNs};

use crate::remote::RemoteConfig;

/// Type of a UNIX socket. Datagrams are not offered: kernels queue ten of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketKind {
    /// JSON lines, acknowledged. A producer that is over its quota or queue is not read: it waits.
    Stream,
    /// One event a packet, not acknowledged. It is always read; what is over is dropped and counted.
    Seqpacket,
}

/// What a socket may carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Connection facts of a sensor.
    Network,
    /// Requests of a web server.
    Http,
}

impl Role {
    /// True if an event of this kind may come on such a socket; a status may on both.
    pub const fn allows(self, kind: EventKind) -> bool {
        match kind {
            EventKind::Open | EventKind::ClientHello | EventKind::Confirm | EventKind::Close => {
                matches!(self, Self::Network)
            }
            EventKind::Request | EventKind::End => matches!(self, Self::Http),
            EventKind::Status => true,
        }
    }
}

/// Limits of one identity (listener, source, node, user).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quotas {
    /// Sustained rate; a second's worth may come at once. Default 256 MiB/s: above what one core
    /// of a consumer can decode.
    pub bytes_per_second: u64,
    /// Sustained rate; a second's worth may come at once. Default 500 000: what one core of the
    /// correlator joins.
    pub events_per_second: u64,
    /// New processes per hour; an hour's worth may come at once. Default 3600: a server that
    /// recycles a child every second.
    pub boots_per_hour: u64,
    /// Connections of one user on the listener, default 1024.
    pub connections_per_uid: usize,
    /// Memory for what the consumer has not taken, default 4 MiB.
    pub queue_bytes: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            bytes_per_second: 256 << 20,
            events_per_second: 500_000,
            boots_per_hour: 3600,
            connections_per_uid: 1024,
            queue_bytes: 4 << 20,
        }
    }
}

/// One socket.
#[derive(Clone, PartialEq, Debug)]
pub struct ListenerConfig {
    /// Where it is made; at most 103 bytes. A dead socket of an earlier process is replaced.
    pub path: PathBuf,
    /// Type of the socket.
    pub kind: SocketKind,
    /// What it may carry.
    pub role: Role,
    /// Sources that may greet, such as `apache`; empty for any.
    pub sources: Vec<String>,
    /// Source of a peer that sends events without a greeting; such peers are refused if absent.
    pub default_source: Option<String>,
    /// Users that may connect. If neither users nor groups are named, only the receiver's own user may.
    pub uids: Vec<u32>,
    /// Primary groups that may connect.
    pub gids: Vec<u32>,
    /// Mode of the socket, default 0660.
    pub mode: u32,
    /// Mode of its directory if the receiver has to make it, default 0750.
    pub dir_mode: u32,
    /// Group that the socket and a directory that was made are given to, such as the web server's.
    pub group: Option<u32>,
    /// Limits of each identity on it.
    pub quotas: Quotas,
}

impl ListenerConfig {
    /// A listener with the usual modes and limits, open to the receiver's own user.
    pub fn new(path: impl Into<PathBuf>, kind: SocketKind, role: Role, sources: &[&str]) -> Self {
        Self {
            path: path.into(),
            kind,
            role,
            sources: sources.iter().map(|&source| source.to_owned()).collect(),
            default_source: None,
            uids: Vec::new(),
            gids: Vec::new(),
            mode: 0o660,
            dir_mode: 0o750,
            group: None,
            quotas: Quotas::default(),
        }
    }
}

/// Nanoseconds since the epoch, now.
pub type Clock = dyn Fn() -> WallNs + Send + Sync;

/// First number of (source, node, boot) that is not settled, 0 for one never seen. Called on the
/// receiver's thread at a greeting, without a lock held.
pub type NextUnsettled = dyn Fn(&str, &str, BootId) -> u64 + Send + Sync;

/// Settings of a [`Receiver`](crate::Receiver).
#[derive(Clone)]
pub struct ReceiverConfig {
    /// This host's name: local peers must greet with it.
    pub node: String,
    /// The sockets.
    pub listeners: Vec<ListenerConfig>,
    /// Listeners for nodes, none by default.
    pub remotes: Vec<RemoteConfig>,
    /// Stamps arrivals.
    pub clock: Arc<Clock>,
    /// What the consumer's marks say about a producer that greets.
    pub next_unsettled: Arc<NextUnsettled>,
    /// Longest time from a connection to its greeting, default 5 s.
    pub greeting_timeout: Duration,
    /// Most connections of all listeners, default 16 384.
    pub max_connections: usize,
    /// Most producer processes that are remembered, default 4096; connected ones are never forgotten.
    pub max_origins: usize,
    /// Most identities, default 64. With the queues of 4 MiB that bounds memory to 256 MiB.
    pub max_identities: usize,
}

impl ReceiverConfig {
    /// The defaults with the system's clock.
    pub fn new(
        node: impl Into<String>,
        listeners: Vec<ListenerConfig>,
        next_unsettled: Arc<NextUnsettled>,
    ) -> Self {
        Self {
            node: node.into(),
            listeners,
            remotes: Vec::new(),
            clock: Arc::new(system_clock),
            next_unsettled,
            greeting_timeout: Duration::from_secs(5),
            max_connections: 16_384,
            max_origins: 4096,
            max_identities: 64,
        }
    }
}

impl fmt::Debug for ReceiverConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverConfig")
            .field("node", &self.node)
            .field("listeners", &self.listeners)
            .field("remotes", &self.remotes)
            .field("greeting_timeout", &self.greeting_timeout)
            .field("max_connections", &self.max_connections)
            .field("max_origins", &self.max_origins)
            .field("max_identities", &self.max_identities)
            .finish_non_exhaustive()
    }
}

fn system_clock() -> WallNs {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
