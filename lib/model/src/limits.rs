//! Limits of the wire, each with the reason for its number.

/// Longest JSON message in bytes. Fits the largest request line and header block that the common
/// servers accept (64 KiB each); the producer cuts what is longer and names it in `truncated`.
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// Most headers kept of one request: Apache accepts 100 by default, `HAProxy` 101, nginx about 250.
pub const MAX_HEADERS: usize = 256;

/// Most ALPN values kept of one hello. Browsers send 2; a hello of 16 KiB could hold thousands.
pub const MAX_ALPN: usize = 32;

/// Most address pairs of one connection: NIC, bridge, veth, and room for a tunnel on each.
pub const MAX_VIEWS: usize = 8;

/// Longest text of the identity fields `source` and `node`: a DNS name.
pub const MAX_NAME_BYTES: usize = 253;

/// Most TCP options kept of one SYN: 40 bytes of options, one byte each at least.
pub const MAX_TCP_OPTIONS: usize = 40;

/// Largest difference between an event's own time and its arrival before it is clamped: one day.
/// A batch that spans a hundred daily partitions is refused by ClickHouse as a whole.
pub const MAX_TS_DISTANCE_NS: i64 = 24 * 3600 * 1_000_000_000;

/// Version of the events and frames that this crate writes.
pub const WIRE_VERSION: u32 = 1;
