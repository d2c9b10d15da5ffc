//! What the flow table reports. The shell turns these into the events of the wire.

use std::net::SocketAddr;

use sensor_wire::Fingerprints;
use sensor_wire::ip::IpAddress;
use sensor_wire::registry::TlsVersion;
use sensor_wire::tcp::SynOptions;

/// Nanoseconds since the Unix epoch; negative before 1970.
pub type TimeNs = i64;

/// Number of a connection in this table, from 0 in order of first report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddress,
    /// Port.
    pub port: u16,
}

/// Both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Who sent the ClientHello; for plain HTTP who sent the SYN.
    pub client: Endpoint,
    /// The other end.
    pub server: Endpoint,
}

/// How well a connection is known to be real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Confirmed {
    /// A lone packet: it could be forged.
    #[default]
    None,
    /// The server acknowledged the hello.
    Acked,
    /// The client went on behind the hello, after that.
    Followed,
}

/// Why a connection is no longer tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// Both sides sent a FIN.
    Fin,
    /// A RST at the exact expected sequence number.
    Rst,
    /// A confirmed newer connection has the same addresses.
    Replaced,
    /// Out of budget; the connection may live.
    Evicted,
    /// Silent for [`crate::FlowSettings::idle_timeout`]; the connection may live.
    Idle,
}

/// What was odd, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowFlags(pub u8);

impl FlowFlags {
    /// Bytes of the hello came twice and were equal.
    pub const RETRANSMITTED: Self = Self(1);
    /// Bytes of the hello came twice and differed; the first won.
    pub const OVERLAP_CONFLICT: Self = Self(1 << 1);
    /// The SYN was not seen.
    pub const MIDSTREAM: Self = Self(1 << 2);
    /// A later segment of the hello came before an earlier one.
    pub const OUT_OF_ORDER: Self = Self(1 << 3);
    /// The hello lay in several TLS records.
    pub const FRAGMENTED_RECORDS: Self = Self(1 << 4);
    /// Lengths inside the hello do not fit.
    pub const DAMAGED: Self = Self(1 << 5);
    /// The hello announces early data.
    pub const EARLY_DATA: Self = Self(1 << 6);

    /// Adds the bits of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// True if all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What the SYN says about the stack that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynFacts {
    /// Time to live or hop limit as it arrived.
    pub ttl: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Options.
    pub options: SynOptions,
}

/// What a connection travels in. Tunnels will be further variants, with their outer addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encap {
    /// VLAN tags, outermost first.
    Vlan {
        /// The outermost id.
        outer: u16,
        /// The second id.
        inner: Option<u16>,
    },
}

/// What is known of a connection when it is first reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnFacts {
    /// Number of the connection.
    pub conn: ConnId,
    /// Addresses.
    pub pair: Pair,
    /// Other address pairs under which the same hello was seen. Filled in by [`crate::ViewMerger`].
    pub views: Vec<Pair>,
    /// Set if the frames were tagged.
    pub encap: Option<Encap>,
    /// Number of the interface on which the connection was seen first.
    pub interface: u16,
    /// When the client's SYN was captured.
    pub open_at: Option<TimeNs>,
    /// From the SYN to this event, microseconds, saturating.
    pub syn_to_hello_us: Option<u32>,
    /// From the client's SYN.
    pub syn: Option<SynFacts>,
    /// What is known now; a later rise is a [`FlowEvent::Confirm`].
    pub confirmed: Confirmed,
    /// What was odd.
    pub flags: FlowFlags,
}

/// What a ClientHello says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloFacts {
    /// JA4, JA3 and their relatives.
    pub fingerprints: Fingerprints,
    /// Server name as sent; not always UTF-8.
    pub sni: Option<Box<[u8]>>,
    /// ALPN values in order, at most [`HelloFacts::ALPN_MAX`].
    pub alpn: Vec<Box<[u8]>>,
    /// Highest version offered.
    pub version: TlsVersion,
    /// Client random.
    pub random: [u8; 32],
    /// Length of the message in bytes with its header.
    pub message_bytes: u32,
    /// Encrypted ClientHello offered, real or GREASE.
    pub ech: bool,
    /// A pre-shared key is offered: a resumption.
    pub psk: bool,
    /// A post-quantum group is offered.
    pub pq: bool,
}

impl HelloFacts {
    /// Most ALPN values kept: browsers send two, a hello of 32 KiB could hold ten thousand.
    pub const ALPN_MAX: usize = 32;
}

/// A ClientHello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloEvent {
    /// The connection.
    pub conn: ConnFacts,
    /// 0, or 1 for the hello that answers a HelloRetryRequest.
    pub hello_index: u8,
    /// Number of the frame that completed the hello.
    pub frame: u64,
    /// What it says.
    pub hello: HelloFacts,
    /// The client that a PROXY header before it has named: a claim of whoever sent it.
    pub proxy_client: Option<SocketAddr>,
}

/// What the table reports, each with the capture time of its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowEvent {
    /// A connection to a plain-HTTP port carried its first data.
    Open(TimeNs, Box<ConnFacts>),
    /// A ClientHello is whole.
    Hello(TimeNs, Box<HelloEvent>),
    /// The confirmation of a reported connection rose.
    Confirm {
        /// When.
        at: TimeNs,
        /// Which.
        conn: ConnId,
        /// To what.
        confirmed: Confirmed,
    },
    /// A reported connection ended or is no longer tracked.
    Close {
        /// When.
        at: TimeNs,
        /// Which.
        conn: ConnId,
        /// Its addresses, if a packet caused the close.
        pair: Option<Pair>,
        /// Why.
        reason: CloseReason,
        /// What was known at the end.
        confirmed: Confirmed,
    },
}
