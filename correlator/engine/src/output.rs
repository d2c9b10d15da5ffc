//! What comes out: joined requests, rows of hellos, corrections, drops.

use crate::address::Pair;
use crate::input::{Confirmed, ConnUid};

/// How a request found its connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Match {
    /// By a unique confirmed client random, or by a connection id that was bound before.
    Exact,
    /// By addresses and time; nothing else fits.
    Asof,
    /// By addresses and time, and another connection fits too or a fact disagrees.
    Ambiguous,
    /// Not at all.
    None(NoneReason),
}

impl Match {
    /// One step less sure.
    #[must_use]
    pub(crate) fn lowered(self) -> Self {
        match self {
            Self::Exact => Self::Asof,
            Self::Asof => Self::Ambiguous,
            other => other,
        }
    }
}

/// Why a request has no connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NoneReason {
    /// None is known on its addresses at its time.
    NoConn,
    /// The request is plain HTTP and its connection is not watched.
    Plaintext,
    /// Its addresses cannot be a key: no port or no address.
    KeyUnusable,
    /// It came after closed connections are forgotten.
    Late,
    /// Its connection was forgotten for lack of memory.
    Evicted,
    /// A sensor lost events when its connection may have begun.
    SensorGap,
    /// It was let go early for lack of memory.
    Overflow,
    /// Its connection may be older than this process.
    Warmup,
    /// The engine stopped before its wait was over.
    Shutdown,
}

impl NoneReason {
    /// All reasons, in the order of [`crate::JoinCounts::none`].
    pub const ALL: [Self; 9] = [
        Self::NoConn,
        Self::Plaintext,
        Self::KeyUnusable,
        Self::Late,
        Self::Evicted,
        Self::SensorGap,
        Self::Overflow,
        Self::Warmup,
        Self::Shutdown,
    ];

    /// The name in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoConn => "no_conn",
            Self::Plaintext => "plaintext",
            Self::KeyUnusable => "key_unusable",
            Self::Late => "late",
            Self::Evicted => "evicted",
            Self::SensorGap => "sensor_gap",
            Self::Overflow => "overflow",
            Self::Warmup => "warmup",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What led from the request to its connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeySource {
    /// Nothing did.
    None,
    /// The socket's peer.
    Wire,
    /// The client of the PROXY protocol.
    Proxy,
    /// The client random.
    Random,
    /// The server's connection id, bound by an earlier request.
    Binding,
}

impl KeySource {
    /// The name in records and metrics; empty for nothing.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Wire => "wire",
            Self::Proxy => "proxy",
            Self::Random => "client_random",
            Self::Binding => "conn_id",
        }
    }
}

/// Facts of request and hello that disagree. They lower the match by a step or only mark it; they drop nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Contradictions(u8);

impl Contradictions {
    /// None.
    pub const NONE: Self = Self(0);
    /// Host differs from the hello's server name: normal for coalesced HTTP/2. Marks only.
    pub const SNI_HOST: Self = Self(1);
    /// The server saw another server name than the sensor. Lowers.
    pub const SNI_SERVER: Self = Self(2);
    /// The server computed another JA4 than the sensor. Lowers.
    pub const JA4: Self = Self(4);
    /// The HTTP version was not offered in the hello. Lowers.
    pub const ALPN: Self = Self(8);
    /// The scheme says TLS and the connection is plain, or the reverse. Lowers.
    pub const SCHEME: Self = Self(16);
    /// The client random belongs to another connection than the addresses. Marks only.
    pub const RANDOM: Self = Self(32);

    const LOWERING: u8 = Self::SNI_SERVER.0 | Self::JA4.0 | Self::ALPN.0 | Self::SCHEME.0;
    const NAMES: [(Self, &'static str); 6] = [
        (Self::SNI_HOST, "sni_host"),
        (Self::SNI_SERVER, "sni_server"),
        (Self::JA4, "ja4"),
        (Self::ALPN, "alpn"),
        (Self::SCHEME, "scheme"),
        (Self::RANDOM, "client_random"),
    ];

    /// True if there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if all of `other` are here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Names in records, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(mark, _)| self.contains(*mark))
            .map(|(_, name)| name)
    }

    pub(crate) fn add_if(&mut self, mark: Self, condition: bool) {
        if condition {
            self.0 |= mark.0;
        }
    }

    /// True if they make the match less sure.
    pub(crate) const fn lowers(self) -> bool {
        self.0 & Self::LOWERING != 0
    }
}

/// The connection of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnRef<C> {
    /// The sensor's id; the first one if sensors of several nodes saw it.
    pub conn_uid: ConnUid,
    /// Of its first hello, or of its opening if it is plain.
    pub payload: C,
    /// False for a plain connection.
    pub has_hello: bool,
    /// When the row was made.
    pub confirmed: Confirmed,
    /// Its addresses, outermost view when the row was made.
    pub pair: Pair,
}

/// A request with its connection: exactly one for each request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined<C, R> {
    /// The request.
    pub request: R,
    /// Its end, if it came in time.
    pub end: Option<R>,
    /// How it was joined.
    pub verdict: Match,
    /// By what.
    pub key_source: KeySource,
    /// Start of the request minus the hello (or the opening of a plain connection), microseconds.
    pub delta_us: Option<i64>,
    /// How many requests were joined to the connection before; 0 without one.
    pub conn_req_index: u32,
    /// The connection.
    pub conn: Option<ConnRef<C>>,
    /// What disagrees.
    pub contradictions: Contradictions,
}

/// A ClientHello: exactly one for each that is not a repetition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsRow<C> {
    /// The hello's.
    pub payload: C,
    /// The sensor's id.
    pub conn_uid: ConnUid,
    /// The highest level until now.
    pub confirmed: Confirmed,
    /// Outermost view.
    pub pair: Pair,
    /// The others, merged across nodes.
    pub views: Vec<Pair>,
    /// Repetitions that were folded into it: retransmissions and the same hello from other nodes.
    pub repeats: u32,
}

/// A connection that turned up after its request went out as `none`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Correction<C> {
    /// Producer of the request.
    pub source: u32,
    /// Its process.
    pub boot: u64,
    /// Number of the request.
    pub seq: u64,
    /// Start of the request, nanoseconds since the epoch.
    pub ts_ns: i64,
    /// How it fits.
    pub verdict: Match,
    /// By what.
    pub key_source: KeySource,
    /// As in [`Joined`].
    pub delta_us: Option<i64>,
    /// The connection.
    pub conn: ConnRef<C>,
}

/// Why an input ended without a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DropReason {
    /// A request with an identity that was seen before.
    DuplicateRequest,
    /// An end whose request is not waiting: it was never seen, or its row is out.
    NoRequest,
    /// A second end of a request.
    DuplicateEnd,
    /// The hello was seen before on its connection.
    DuplicateHello,
    /// The same hello from another node: folded into the first.
    MergedHello,
    /// More hellos on a connection than are kept.
    TooManyHellos,
    /// The opening was seen before.
    DuplicateOpen,
    /// A `confirm` or `close` whose connection is not known.
    UnknownConn,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::DuplicateRequest,
        Self::NoRequest,
        Self::DuplicateEnd,
        Self::DuplicateHello,
        Self::MergedHello,
        Self::TooManyHellos,
        Self::DuplicateOpen,
        Self::UnknownConn,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DuplicateRequest => "duplicate_request",
            Self::NoRequest => "no_request",
            Self::DuplicateEnd => "duplicate_end",
            Self::DuplicateHello => "duplicate_hello",
            Self::MergedHello => "merged_hello",
            Self::TooManyHellos => "too_many_hellos",
            Self::DuplicateOpen => "duplicate_open",
            Self::UnknownConn => "unknown_conn",
        }
    }
}

/// What the engine hands out. Every payload that came in comes out in one of these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output<C, R> {
    /// A request with its connection, or without one and why.
    Joined(Joined<C, R>),
    /// A hello.
    Tls(TlsRow<C>),
    /// A late connection.
    Correction(Correction<C>),
    /// A request or an end that makes no row.
    DroppedRequest {
        /// As it came.
        payload: R,
        /// Why.
        reason: DropReason,
    },
    /// A hello or an opening that makes no row.
    DroppedConnection {
        /// As it came.
        payload: C,
        /// Why.
        reason: DropReason,
    },
}
