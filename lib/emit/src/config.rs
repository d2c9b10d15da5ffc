//! What a producer tells the emitter about itself and its socket.

use std::path::PathBuf;
use std::time::Duration;

use ja4_model::BootId;

/// Type of the UNIX socket. Datagrams are not offered: kernels queue ten of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketKind {
    /// JSON lines, acknowledged: events are kept until they are, and sent again after a reconnect.
    Stream,
    /// One event a packet, not acknowledged: what the kernel took counts as sent.
    Seqpacket,
}

/// Settings of an [`Emitter`](crate::Emitter).
#[derive(Clone, Debug)]
pub struct EmitConfig {
    /// The receiver's socket. At most 107 bytes, a limit of the kernel.
    pub path: PathBuf,
    /// Type of that socket.
    pub kind: SocketKind,
    /// Kind of producer, such as `sensor`, `apache`: 1 to 253 bytes.
    pub source: String,
    /// Host name, the same that the receiver has in its settings: 1 to 253 bytes.
    pub node: String,
    /// This process; see [`random_boot`](crate::random_boot).
    pub boot: BootId,
    /// Most memory for events that are not sent or not acknowledged, default 8 MiB. More survives a
    /// longer outage of the receiver; over it the oldest event is dropped and counted.
    pub buffer_bytes: usize,
    /// Time between two status events, default 5 s.
    pub status_interval: Duration,
    /// Longest wait for more events before a write, default 1 ms. Longer makes fewer, larger writes.
    pub flush_interval: Duration,
    /// `SO_SNDBUF` of a SEQPACKET socket, default 4 MiB; the kernel caps it at `net.core.wmem_max`.
    pub send_buffer_bytes: usize,
}

impl EmitConfig {
    /// The defaults for a socket and a producer.
    pub fn new(
        path: impl Into<PathBuf>,
        kind: SocketKind,
        source: impl Into<String>,
        node: impl Into<String>,
        boot: BootId,
    ) -> Self {
        Self {
            path: path.into(),
            kind,
            source: source.into(),
            node: node.into(),
            boot,
            buffer_bytes: 8 << 20,
            status_interval: Duration::from_secs(5),
            flush_interval: Duration::from_millis(1),
            send_buffer_bytes: 4 << 20,
        }
    }
}
