//! Budgets and timeouts of the flow table.

use std::time::Duration;

use crate::networks::OwnNetworks;

/// Seed of the hash tables: random per process when keys come from an attacker, fixed in replays.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(pub [u64; 4]);

impl std::fmt::Debug for Seed {
    /// The value stays out of logs: who knows it can aim for collisions.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Budgets and timeouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowSettings {
    /// Most connections that are being set up: from the SYN until the hello is confirmed. About 300
    /// bytes each. Raising it helps when many clients open connections and stay silent.
    pub n_opening_max: usize,
    /// Bytes for parts of hellos that are not whole yet. Raising it helps against floods of half hellos.
    pub reassembly_bytes_max: usize,
    /// Most connections followed after their hello, 32 bytes each with the table's own share. Raising it lets
    /// more long connections be followed to their end; evicted ones are reported as `evicted`.
    pub n_tracked_max: usize,
    /// How long a SYN waits for the handshake to end.
    pub handshake_timeout: Duration,
    /// How long an open connection may stay silent before its hello.
    pub hello_timeout: Duration,
    /// How long a hello waits for its confirmation, and for a second hello, with full state.
    pub settle_timeout: Duration,
    /// How long a followed connection may stay silent before it is let go as `idle`; at most
    /// [`FlowSettings::IDLE_TIMEOUT_MAX_S`].
    pub idle_timeout: Duration,
    /// Server ports that speak HTTP without TLS: their connections are reported as `open`.
    pub plain_ports: Vec<u16>,
    /// Whether the VLAN ids are part of a connection's key: tenants' addresses may overlap.
    pub key_on_vlan: bool,
    /// Networks of our own servers and clients.
    pub own: OwnNetworks,
    /// Whether connections from own networks to others are reported.
    pub egress: bool,
}

impl FlowSettings {
    /// Longest idle timeout in seconds, 97 days: half of what the 24 bits of a followed connection tell apart.
    pub const IDLE_TIMEOUT_MAX_S: u32 = 1 << 23;

    /// Most interfaces that are told apart.
    pub const INTERFACES_MAX: u16 = crate::key::Views::INTERFACES_MAX;
}

impl Default for FlowSettings {
    /// About 26 MiB when all three budgets are spent: 8, 4 and 14.
    fn default() -> Self {
        Self {
            n_opening_max: 24 * 1024,
            reassembly_bytes_max: 4 * 1024 * 1024,
            n_tracked_max: 7 * 64 * 1024,
            handshake_timeout: Duration::from_secs(30),
            hello_timeout: Duration::from_mins(1),
            settle_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_hours(1),
            plain_ports: Vec::new(),
            key_on_vlan: true,
            own: OwnNetworks::default(),
            egress: true,
        }
    }
}
