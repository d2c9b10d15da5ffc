//! What comes in: time, connection events, requests and their ends, gaps.

use std::fmt;

use crate::address::{Endpoint, Pair, Transport};

/// The two clocks at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic clock, nanoseconds: waits are measured on it. A value below the last one is read as the last one.
    pub mono_ns: u64,
    /// Nanoseconds since the epoch: compared with event times only for the reasons `late` and `warmup`.
    pub wall_ns: i64,
}

/// The sensor's id of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConnUid(pub u128);

impl fmt::Debug for ConnUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How sure it is that the client really sent what was seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Confirmed {
    /// A lone packet: it could be forged.
    #[default]
    None,
    /// The server acknowledged it.
    Acked,
    /// Valid client data followed.
    Followed,
}

/// Why a sensor ends a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    /// Both sides finished.
    Fin,
    /// Reset at the exact sequence number.
    Rst,
    /// A confirmed connection took its addresses.
    Replaced,
    /// The sensor forgot it; the connection may live on.
    Evicted,
    /// The sensor stopped watching it; the connection may live on.
    Idle,
}

impl CloseReason {
    /// True if the connection is over, false if only the sensor's view of it is.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Fin | Self::Rst | Self::Replaced)
    }
}

/// Application protocols that a hello offers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Alpn(u8);

impl Alpn {
    /// Not known what was offered.
    pub const UNKNOWN: Self = Self(0);
    /// Known, and nothing of the below was offered.
    pub const NOTHING: Self = Self(1);
    /// `http/1.1` or `http/1.0`.
    pub const HTTP1: Self = Self(1 | 2);
    /// `h2`.
    pub const HTTP2: Self = Self(1 | 4);
    /// `h3`.
    pub const HTTP3: Self = Self(1 | 8);

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// False if it is known that the version was not offered. HTTP/1 needs no offer.
    pub(crate) const fn allows(self, version: HttpVersion) -> bool {
        match version {
            HttpVersion::Http2 => self.0 == 0 || self.0 & 4 != 0,
            HttpVersion::Http3 => self.0 == 0 || self.0 & 8 != 0,
            HttpVersion::Unknown | HttpVersion::Http1 => true,
        }
    }
}

/// What of a hello can be compared with a request. Hashes are the caller's, one function for both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HelloFacts {
    /// Hash of the JA4.
    pub ja4_hash: Option<u64>,
    /// Hash of the server name, lower case; none if absent.
    pub sni_hash: Option<u64>,
    /// With Encrypted ClientHello the visible name need not be the real one: names are not compared.
    pub ech: bool,
    /// Application protocols offered.
    pub alpn: Alpn,
}

/// A ClientHello was seen.
#[derive(Clone, Debug)]
pub struct Hello<C> {
    /// Transport.
    pub transport: Transport,
    /// Wire addresses, innermost if encapsulated.
    pub pair: Pair,
    /// The other pairs under which this sensor saw the same hello.
    pub views: Vec<Pair>,
    /// Time of the SYN, nanoseconds since the epoch, if it was seen.
    pub open_ts_ns: Option<i64>,
    /// Time of the hello, nanoseconds since the epoch.
    pub ts_ns: i64,
    /// 0 for the first hello of the connection, 1 for the one after a HelloRetryRequest.
    pub hello_index: u8,
    /// What is known of it now; a `Confirm` may raise it.
    pub confirmed: Confirmed,
    /// The client's random.
    pub client_random: Option<[u8; 32]>,
    /// What can be compared with a request.
    pub facts: HelloFacts,
    /// Bytes that the payload occupies.
    pub weight: u32,
    /// The caller's own.
    pub payload: C,
}

/// A connection to a plain HTTP port was opened.
#[derive(Clone, Debug)]
pub struct Opened<C> {
    /// Transport.
    pub transport: Transport,
    /// Wire addresses.
    pub pair: Pair,
    /// The other pairs under which this sensor saw it.
    pub views: Vec<Pair>,
    /// Time of the SYN, nanoseconds since the epoch.
    pub ts_ns: i64,
    /// What is known of it now.
    pub confirmed: Confirmed,
    /// Bytes that the payload occupies.
    pub weight: u32,
    /// The caller's own.
    pub payload: C,
}

/// What happened to a connection.
#[derive(Clone, Debug)]
pub enum ConnectionEvent<C> {
    /// It was opened on a plain port.
    Open(Opened<C>),
    /// It began TLS.
    ClientHello(Hello<C>),
    /// Its confirmation rose.
    Confirm {
        /// To this level.
        confirmed: Confirmed,
    },
    /// It ended, or the sensor stopped watching.
    Close {
        /// When, nanoseconds since the epoch.
        ts_ns: i64,
        /// Why.
        reason: CloseReason,
    },
}

/// An event of a sensor.
#[derive(Clone, Debug)]
pub struct ConnectionInput<C> {
    /// The sensor's id of the connection.
    pub conn_uid: ConnUid,
    /// The node whose clock the times are of, numbered by the caller.
    pub node: u32,
    /// What happened.
    pub event: ConnectionEvent<C>,
}

/// HTTP version of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HttpVersion {
    /// Not known.
    #[default]
    Unknown,
    /// 1.0 or 1.1: requests of a connection follow each other.
    Http1,
    /// 2.
    Http2,
    /// 3.
    Http3,
}

/// Scheme of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Scheme {
    /// Not known.
    #[default]
    Unknown,
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

/// What of a request can be compared with a hello. Hashes are the caller's, one function for both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RequestFacts {
    /// Hash of the JA4 that the server computed.
    pub ja4_hash: Option<u64>,
    /// Hash of the server name that the server saw in TLS, lower case.
    pub sni_hash: Option<u64>,
    /// Hash of Host or `:authority` without port, lower case.
    pub host_hash: Option<u64>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct RequestInput<R> {
    /// The producer, numbered by the caller.
    pub source: u32,
    /// Its process.
    pub boot: u64,
    /// Number of the event in it: with the two above the identity of the request.
    pub seq: u64,
    /// The node whose clock the times are of, numbered by the caller as for sensors.
    pub node: u32,
    /// Transport.
    pub transport: Transport,
    /// The socket's peer and own address; an endpoint without port or address is unusable.
    pub pair: Pair,
    /// The client of the PROXY protocol.
    pub proxy_client: Option<Endpoint>,
    /// Start, nanoseconds since the epoch.
    pub ts_ns: i64,
    /// Resolution of the start, nanoseconds.
    pub resolution_ns: u64,
    /// Duration, nanoseconds; 0 if unknown.
    pub duration_ns: u64,
    /// The server's id of the connection, unique within the producer's process, hashed by the caller.
    pub conn_id: Option<u64>,
    /// Index of the request on its connection, from 0.
    pub req_index: Option<u32>,
    /// HTTP version.
    pub http: HttpVersion,
    /// Scheme.
    pub scheme: Scheme,
    /// The client's random, where the server knows it.
    pub client_random: Option<[u8; 32]>,
    /// What can be compared with a hello.
    pub facts: RequestFacts,
    /// An `end` event will follow.
    pub end_follows: bool,
    /// Bytes that the payload occupies.
    pub weight: u32,
    /// The caller's own.
    pub payload: R,
}

/// The end of a request.
#[derive(Clone, Debug)]
pub struct RequestEnd<R> {
    /// The producer.
    pub source: u32,
    /// Its process.
    pub boot: u64,
    /// `seq` of the request that ended.
    pub request_seq: u64,
    /// Bytes that the payload occupies.
    pub weight: u32,
    /// The caller's own.
    pub payload: R,
}

/// A time in which some sensor lost events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Begin, nanoseconds since the epoch.
    pub from_ns: i64,
    /// End, nanoseconds since the epoch.
    pub to_ns: i64,
}
