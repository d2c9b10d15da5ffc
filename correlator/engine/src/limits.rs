//! Limits of the engine, each with the reason for its number.

/// Most address pairs of one connection: 8 that one sensor may report, and as many again merged from
/// the sensors of other nodes.
pub const VIEWS_MAX: usize = 16;

/// Most confirmed connections kept with the same two endpoints. Requests arrive when they end, and a
/// port comes back after a minute on a normal system; four cover a client that reuses one at once.
pub const GENERATIONS_MAX: usize = 4;

/// Most unconfirmed connections kept with the same two endpoints: what forged hellos can occupy.
pub const UNCONFIRMED_MAX: usize = 4;

/// Most entries kept on one client endpoint over all servers. It bounds the work of one lookup.
pub const ON_ENDPOINT_MAX: usize = 32;

/// Most producers that one connection is bound for: an edge and its access log, with room for two more.
pub const BINDINGS_MAX: usize = 4;

/// Most distinct hellos of one connection: the first, the one after a HelloRetryRequest, and room.
/// The bits of a byte.
pub const HELLOS_MAX: u8 = 8;

/// Most `confirm` and `close` events kept that came before their connection. Within one sensor the
/// order is kept, so this holds what several paths may reorder in `merge_wait`.
pub const EARLY_MAX: usize = 8_192;

/// Sequence numbers remembered per producer process for recognising duplicates. A producer keeps at most
/// 8 MiB for sending again, some 40 000 events of 200 bytes. A power of two; one bit each.
pub const SEQ_WINDOW: u64 = 65_536;

/// Gaps of sensors remembered. More are merged with the last one.
pub const GAPS_MAX: usize = 256;

/// Orphans remembered on one endpoint for corrections, so that one connection's requests neither
/// fill the memory nor make one event long.
pub const ORPHANS_ON_ENDPOINT_MAX: usize = 64;

/// Most connections: an index of 27 bits leaves room for the number of the view in 32 bits.
pub const CONNECTIONS_MAX: usize = 1 << 27;

/// A node counts as present this long after its last connection event. Only then are rows of
/// `tls_logs` held for views from another node.
pub const NODE_PRESENT_NS: u64 = 300_000_000_000;
