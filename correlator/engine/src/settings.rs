//! Settings of the engine: waits, tolerances, caps.

use std::time::Duration;

/// How much of the server's side must agree when addresses are compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ServerSide {
    /// Address and port. For a sensor that sees the very addresses of the server's socket.
    Strict,
    /// The port only. For an address that is translated.
    Port,
    /// Nothing, behind DNAT or a virtual address. A connection whose server agrees is still preferred.
    #[default]
    Ignore,
}

/// Seed of the hash tables. Keys are chosen by attackers: make it random per process. No output
/// depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed(pub [u64; 4]);

/// What can be set. Durations are of monotonic time unless they are compared with event times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How much of the server's side must agree.
    pub server_side: ServerSide,
    /// Look a request up under its PROXY address too, if its wire address has no connection.
    pub proxy_key: bool,
    /// Tolerance between clocks of one node (default 5 ms). Never below the request's resolution.
    pub skew_same_node: Duration,
    /// Tolerance between clocks of two nodes (default 250 ms).
    pub skew_cross_node: Duration,
    /// How long a request that nothing proves waits for its connection (default 500 ms).
    pub orphan_wait: Duration,
    /// How long a request waits for its `end` event, from its arrival (default 5 s; zero: not at all).
    pub end_wait: Duration,
    /// How long a closed connection stays findable after its close arrived (default 30 s).
    pub late_retention: Duration,
    /// How long the row of a hello waits for the highest level of confirmation (default 200 ms).
    pub confirm_wait: Duration,
    /// How long it waits for the same hello from another node, when there is one (default 2 s).
    pub merge_wait: Duration,
    /// How long after the start a request's connection may be older than this process (default 300 s;
    /// zero: a snapshot was loaded).
    pub warmup: Duration,
    /// How long after a gap of a sensor a missing connection is put down to it (default 300 s).
    pub gap_memory: Duration,
    /// Bytes that connections may occupy, payloads and indexes included (default 512 MiB).
    pub connection_bytes_max: usize,
    /// Bytes that waiting requests may occupy, payloads included (default 128 MiB).
    pub pending_bytes_max: usize,
    /// Report connections that turn up after their request went out as `none`.
    pub corrections: bool,
    /// How long a request that went out as `none` can be corrected (default 30 s).
    pub correction_window: Duration,
    /// Requests remembered for corrections (default 65 536, some 250 bytes each).
    pub corrections_max: usize,
    /// Endpoints of evicted connections remembered for the reason `evicted` (default 65 536, 48 bytes each).
    pub evicted_keys_max: usize,
    /// Producer processes remembered (default 1 024, 8 KiB each). Past it the least recently heard of is forgotten.
    pub streams_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_side: ServerSide::Ignore,
            proxy_key: true,
            skew_same_node: Duration::from_millis(5),
            skew_cross_node: Duration::from_millis(250),
            orphan_wait: Duration::from_millis(500),
            end_wait: Duration::from_secs(5),
            late_retention: Duration::from_secs(30),
            confirm_wait: Duration::from_millis(200),
            merge_wait: Duration::from_secs(2),
            warmup: Duration::from_mins(5),
            gap_memory: Duration::from_mins(5),
            connection_bytes_max: 512 << 20,
            pending_bytes_max: 128 << 20,
            corrections: false,
            correction_window: Duration::from_secs(30),
            corrections_max: 65_536,
            evicted_keys_max: 65_536,
            streams_max: 1_024,
        }
    }
}

/// Nanoseconds of a duration; 584 years at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds of a duration as a difference of event times; 292 years at most.
pub(crate) fn wall_nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
