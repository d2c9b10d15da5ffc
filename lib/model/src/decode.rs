//! Reads events: one JSON object to a [`Head`] and an [`Event`].
//!
//! Reads are zero-copy where a string has no escapes. The kind is found without a parse where the
//! object starts as our own writer starts it, by a first pass otherwise.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::WallNs;
use crate::address::{CanonicalAddr, Endpoint, Pair};
use crate::connection::{
    ClientHello, Close, CloseReason, Confirm, Confirmed, ConnFacts, ConnFlags, Direction, Encap, Open,
    TcpFacts, TlsFacts, Transport,
};
use crate::event::{Event, EventKind, Head, IdKind, TsKind};
use crate::frame::Hello;
use crate::id::{BootId, ConnUid, EventId};
use crate::limits;
use crate::request::{EffectiveSource, HeadersForm, Request, RequestEnd, ServerTls, Tier};
use crate::status::Status;
use crate::text::Text;

/// Why bytes are no event. The text names the field where that is known.
#[derive(Debug)]
pub enum DecodeError {
    /// Longer than [`limits::MAX_MESSAGE_BYTES`].
    TooLong(usize),
    /// Not JSON, or a field of the wrong type or value.
    Json(serde_json::Error),
    /// Another version of the wire.
    Version(u64),
    /// A kind that this version does not know.
    Kind(String),
    /// A field that this kind of event must have.
    Missing(&'static str),
}

impl DecodeError {
    /// Short name for counters.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "too_long",
            Self::Json(_) => "malformed",
            Self::Version(_) => "version",
            Self::Kind(_) => "unknown_kind",
            Self::Missing(_) => "missing_field",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(n) => write!(
                f,
                "event of {n} bytes, at most {} are allowed",
                limits::MAX_MESSAGE_BYTES
            ),
            Self::Json(error) => write!(f, "event is malformed: {error}"),
            Self::Version(v) => write!(f, "event has version {v}, only {} is known", limits::WIRE_VERSION),
            Self::Kind(kind) => write!(f, "event kind {kind:?} is not known"),
            Self::Missing(field) => write!(f, "event lacks the field {field:?}"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// Reads one event. `bytes` is one JSON object, with or without a line end.
///
/// An event of a producer that cannot count has no `boot` and `seq`; the head then says
/// [`IdKind::Receiver`] with zeros, and the receiver stamps its own.
///
/// # Errors
/// Anything that is not a whole event of version 1.
pub fn event(bytes: &[u8]) -> Result<(Head<'_>, Event<'_>), DecodeError> {
    if bytes.len() > limits::MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(<serde_json::Error as de::Error>::custom)?;
    let kind = match kind_at_start(text) {
        Some(kind) => kind,
        None => kind_by_parsing(text)?,
    };
    match kind {
        EventKind::Open => {
            let wire: OpenWire<'_> = serde_json::from_str(text)?;
            let (head, conn) = (wire.head(kind)?, wire.conn()?);
            Ok((head, Event::Open(Open { conn })))
        }
        EventKind::ClientHello => {
            let wire: HelloWire<'_> = serde_json::from_str(text)?;
            let (head, conn) = (wire.head(kind)?, wire.conn()?);
            Ok((head, Event::ClientHello(Box::new(wire.hello(conn)?))))
        }
        EventKind::Confirm => {
            let wire: ConfirmWire<'_> = serde_json::from_str(text)?;
            Ok((
                wire.head(kind)?,
                Event::Confirm(Confirm {
                    conn_uid: wire.conn_uid.0,
                    confirmed: wire.confirmed.0,
                }),
            ))
        }
        EventKind::Close => {
            let wire: CloseWire<'_> = serde_json::from_str(text)?;
            let close = Close {
                conn_uid: wire.conn_uid.0,
                pair: wire.pair(),
                reason: wire.reason.0,
                confirmed: wire.confirmed.0,
            };
            Ok((wire.head(kind)?, Event::Close(close)))
        }
        EventKind::Request => {
            let wire: RequestWire<'_> = serde_json::from_str(text)?;
            let head = wire.head(kind)?;
            Ok((head, Event::Request(Box::new(wire.request()))))
        }
        EventKind::End => {
            let wire: EndWire<'_> = serde_json::from_str(text)?;
            let end = RequestEnd {
                request_seq: wire.request_seq,
                status: wire.status,
                bytes_sent: wire.bytes_sent,
                duration_us: wire.duration_us,
            };
            Ok((wire.head(kind)?, Event::End(end)))
        }
        EventKind::Status => {
            let mut wire: StatusWire<'_> = serde_json::from_str(text)?;
            let head = wire.head(kind)?;
            let dropped = std::mem::take(&mut wire.dropped.0);
            Ok((
                head,
                Event::Status(Status {
                    next_seq: wire.next_seq,
                    dropped,
                    last: wire.last,
                }),
            ))
        }
    }
}

/// Reads the greeting of a producer.
///
/// # Errors
/// Anything that is not a greeting with a version that we share.
pub fn hello(bytes: &[u8]) -> Result<Hello<'_>, DecodeError> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        event: Cow<'a, str>,
        versions: Vec<u32>,
        #[serde(borrow)]
        source: Text<'a>,
        #[serde(borrow)]
        node: Text<'a>,
        boot: Parsed<BootId>,
    }
    if bytes.len() > limits::MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let wire: Wire<'_> = serde_json::from_slice(bytes)?;
    if wire.event != "hello" {
        return Err(DecodeError::Kind(wire.event.into_owned()));
    }
    if !wire.versions.contains(&limits::WIRE_VERSION) {
        return Err(DecodeError::Version(
            wire.versions.first().copied().unwrap_or(0).into(),
        ));
    }
    for (name, value) in [("source", &wire.source), ("node", &wire.node)] {
        if value.is_empty() || value.as_bytes().len() > limits::MAX_NAME_BYTES {
            return Err(DecodeError::Missing(name));
        }
    }
    Ok(Hello {
        versions: wire.versions,
        source: wire.source,
        node: wire.node,
        boot: wire.boot.0,
    })
}

/// What of an event is needed to order and route it.
#[derive(Debug)]
pub struct Brief<'a> {
    /// Its kind.
    pub kind: EventKind,
    /// What it says of its producer.
    pub source: Text<'a>,
    /// What it says of its host.
    pub node: Text<'a>,
    /// Its identity, if its producer counts; a status has none.
    pub id: Option<EventId>,
    /// When the thing happened.
    pub ts_ns: WallNs,
    /// When it arrived, if that was recorded.
    pub recv_ns: Option<WallNs>,
}

/// Reads just the head of an event; its body may still be malformed.
///
/// # Errors
/// Anything that cannot be an event of version 1.
pub fn brief(bytes: &[u8]) -> Result<Brief<'_>, DecodeError> {
    if bytes.len() > limits::MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(<serde_json::Error as de::Error>::custom)?;
    let kind = match kind_at_start(text) {
        Some(kind) => kind,
        None => kind_by_parsing(text)?,
    };
    let wire: BriefWire<'_> = serde_json::from_str(text)?;
    let head = wire.head(kind)?;
    let id = (wire.boot.is_some() && wire.seq.is_some()).then(|| head.id());
    Ok(Brief {
        kind,
        source: head.source,
        node: head.node,
        id,
        ts_ns: head.ts_ns,
        recv_ns: head.recv_ns,
    })
}

/// The kind, if the object starts as [`Event::write_json`] starts it.
fn kind_at_start(text: &str) -> Option<EventKind> {
    let rest = text.strip_prefix("{\"v\":1,\"event\":\"")?;
    EventKind::from_name(rest.split_once('"')?.0)
}

fn kind_by_parsing(text: &str) -> Result<EventKind, DecodeError> {
    #[derive(Deserialize)]
    struct Tag<'a> {
        v: Option<u64>,
        #[serde(borrow)]
        event: Option<Cow<'a, str>>,
    }
    let tag: Tag<'_> = serde_json::from_str(text)?;
    let version = tag.v.ok_or(DecodeError::Missing("v"))?;
    if version != u64::from(limits::WIRE_VERSION) {
        return Err(DecodeError::Version(version));
    }
    let name = tag.event.ok_or(DecodeError::Missing("event"))?;
    EventKind::from_name(&name).ok_or_else(|| DecodeError::Kind(name.into_owned()))
}

/// Declares a wire struct with the fields of the head (and, with `conn`, those of a connection) and
/// the functions that take them out. `serde(flatten)` would do it in one line, at several times the cost.
macro_rules! wire {
    ($name:ident { $($(#[$meta:meta])* $field:ident : $type:ty,)* }) => {
        #[derive(Deserialize)]
        struct $name<'a> {
            v: u64,
            #[serde(borrow, default)] source: Text<'a>,
            #[serde(borrow, default)] node: Text<'a>,
            #[serde(default)] boot: Option<Parsed<BootId>>,
            #[serde(default)] seq: Option<u64>,
            #[serde(default)] id_kind: Named<IdKind>,
            ts_ns: Nanos,
            #[serde(default)] ts_kind: Named<TsKind>,
            #[serde(default)] ts_resolution_ns: Option<u64>,
            #[serde(default)] recv_ns: Option<Nanos>,
            #[serde(default)] sample_rate: Option<f64>,
            $($(#[$meta])* $field: $type,)*
        }
        impl<'a> $name<'a> {
            fn head(&self, kind: EventKind) -> Result<Head<'a>, DecodeError> {
                if self.v != u64::from(limits::WIRE_VERSION) {
                    return Err(DecodeError::Version(self.v));
                }
                let (id, id_kind) = match (self.boot, self.seq) {
                    (Some(boot), Some(seq)) => (EventId { boot: boot.0, seq }, self.id_kind.0),
                    (Some(boot), None) if kind == EventKind::Status => (EventId { boot: boot.0, seq: 0 }, self.id_kind.0),
                    (None, None) => (EventId::default(), IdKind::Receiver),
                    (None, Some(_)) => return Err(DecodeError::Missing("boot")),
                    (Some(_), None) => return Err(DecodeError::Missing("seq")),
                };
                Ok(Head {
                    source: self.source.clone(),
                    node: self.node.clone(),
                    boot: id.boot,
                    seq: id.seq,
                    id_kind,
                    ts_ns: self.ts_ns.0,
                    ts_kind: self.ts_kind.0,
                    ts_resolution_ns: self.ts_resolution_ns.unwrap_or(1).max(1),
                    recv_ns: self.recv_ns.map(|at| at.0),
                    sample_rate: self.sample_rate.unwrap_or(1.0),
                })
            }
        }
    };
    ($name:ident conn { $($(#[$meta:meta])* $field:ident : $type:ty,)* }) => {
        wire!($name {
            conn_uid: Parsed<ConnUid>,
            #[serde(default)] transport: Named<Transport>,
            client_ip: Parsed<CanonicalAddr>,
            client_port: u16,
            server_ip: Parsed<CanonicalAddr>,
            server_port: u16,
            #[serde(default)] views: Views,
            #[serde(borrow, default)] encap: Option<EncapWire<'a>>,
            #[serde(default)] open_ts_ns: Option<Nanos>,
            #[serde(default)] syn_to_hello_us: Option<u32>,
            #[serde(default)] tcp: Option<TcpWire>,
            #[serde(default)] direction: Named<Direction>,
            #[serde(default)] confirmed: Named<Confirmed>,
            #[serde(default)] flags: Flags,
            $($(#[$meta])* $field: $type,)*
        });
        impl<'a> $name<'a> {
            fn conn(&self) -> Result<ConnFacts<'a>, DecodeError> {
                Ok(ConnFacts {
                    conn_uid: self.conn_uid.0,
                    transport: self.transport.0,
                    pair: Pair {
                        client: Endpoint::new(self.client_ip.0, self.client_port),
                        server: Endpoint::new(self.server_ip.0, self.server_port),
                    },
                    views: self.views.0.clone(),
                    encap: self.encap.as_ref().map(EncapWire::encap),
                    open_ts_ns: self.open_ts_ns.map(|at| at.0),
                    syn_to_hello_us: self.syn_to_hello_us,
                    tcp: self.tcp.as_ref().map(TcpWire::facts),
                    direction: self.direction.0,
                    confirmed: self.confirmed.0,
                    flags: self.flags.0,
                })
            }
        }
    };
}

wire!(BriefWire {});

wire!(OpenWire conn {});

wire!(HelloWire conn {
    #[serde(default)] hello_index: u8,
    #[serde(borrow)] ja4: Text<'a>,
    #[serde(borrow, default)] ja4_r: Text<'a>,
    #[serde(borrow, default)] ja3: Text<'a>,
    #[serde(borrow, default)] ja3_raw: Text<'a>,
    #[serde(borrow, default)] ja4_norm: Text<'a>,
    #[serde(borrow, default)] sni: Text<'a>,
    #[serde(borrow, default)] alpn: Vec<Text<'a>>,
    #[serde(borrow, default)] tls_version: Text<'a>,
    client_random: HexRandom,
    #[serde(default)] hello_bytes: u32,
    #[serde(default)] ech: bool,
    #[serde(default)] psk: bool,
    #[serde(default)] pq: bool,
    #[serde(default)] proxy: Option<EndpointWire>,
});

impl<'a> HelloWire<'a> {
    fn hello(self, conn: ConnFacts<'a>) -> Result<ClientHello<'a>, DecodeError> {
        if self.ja4.is_empty() {
            return Err(DecodeError::Missing("ja4"));
        }
        let mut alpn = self.alpn;
        alpn.truncate(limits::MAX_ALPN);
        Ok(ClientHello {
            conn,
            hello_index: self.hello_index,
            tls: Arc::new(TlsFacts {
                ja4: self.ja4,
                ja4_r: self.ja4_r,
                ja4_norm: self.ja4_norm,
                ja3: self.ja3,
                ja3_raw: self.ja3_raw,
                alpn,
                tls_version: self.tls_version,
                ech: self.ech,
                psk: self.psk,
                pq: self.pq,
            }),
            sni: self.sni,
            client_random: self.client_random.0,
            hello_bytes: self.hello_bytes,
            proxy: self
                .proxy
                .map(|endpoint| Endpoint::new(endpoint.client_ip.0, endpoint.client_port)),
        })
    }
}

wire!(ConfirmWire {
    conn_uid: Parsed<ConnUid>,
    confirmed: Named<Confirmed>,
});

wire!(CloseWire {
    conn_uid: Parsed<ConnUid>,
    #[serde(default)] client_ip: Option<Parsed<CanonicalAddr>>,
    #[serde(default)] client_port: Option<u16>,
    #[serde(default)] server_ip: Option<Parsed<CanonicalAddr>>,
    #[serde(default)] server_port: Option<u16>,
    reason: Required<CloseReason>,
    #[serde(default)] confirmed: Named<Confirmed>,
});

impl CloseWire<'_> {
    fn pair(&self) -> Option<Pair> {
        Some(Pair {
            client: Endpoint::new(self.client_ip?.0, self.client_port?),
            server: Endpoint::new(self.server_ip?.0, self.server_port?),
        })
    }
}

wire!(RequestWire {
    #[serde(default)] transport: Named<Transport>,
    client_ip: Parsed<CanonicalAddr>,
    client_port: u16,
    #[serde(default)] server_ip: Option<Parsed<CanonicalAddr>>,
    #[serde(default)] server_port: u16,
    #[serde(default)] proxy_client_ip: Option<Parsed<CanonicalAddr>>,
    #[serde(default)] proxy_client_port: Option<u16>,
    #[serde(default)] effective_ip: Option<Parsed<CanonicalAddr>>,
    #[serde(default)] effective_source: Named<EffectiveSource>,
    #[serde(borrow, default)] conn_id: Scalar<'a>,
    #[serde(default)] req_index: Option<u32>,
    #[serde(default)] stream_id: Option<u64>,
    #[serde(borrow, default)] method: Text<'a>,
    #[serde(borrow, default)] scheme: Text<'a>,
    #[serde(borrow, default)] host: Text<'a>,
    #[serde(borrow, default)] path: Text<'a>,
    #[serde(borrow, default)] query: Text<'a>,
    #[serde(borrow, default)] http_version: Text<'a>,
    #[serde(borrow, default)] headers: Headers<'a>,
    #[serde(default)] headers_form: Named<HeadersForm>,
    #[serde(default)] headers_case: bool,
    #[serde(default)] headers_dups: bool,
    #[serde(borrow, default)] h2_fp: Text<'a>,
    #[serde(default)] status: Option<u16>,
    #[serde(default)] bytes_sent: Option<u64>,
    #[serde(default)] duration_us: Option<u64>,
    #[serde(default)] end_follows: bool,
    #[serde(borrow, default)] tls: Option<ServerTlsWire<'a>>,
    #[serde(borrow, default)] request_id: Text<'a>,
    #[serde(default)] tier: Named<Tier>,
    #[serde(borrow, default)] truncated: Vec<Text<'a>>,
});

impl<'a> RequestWire<'a> {
    fn request(self) -> Request<'a> {
        let server_ip = self.server_ip.map_or(CanonicalAddr::UNSPECIFIED, |ip| ip.0);
        let mut truncated = self.truncated;
        if self.headers.cut {
            truncated.push(Text::from("headers"));
        }
        Request {
            transport: self.transport.0,
            pair: Pair {
                client: Endpoint::new(self.client_ip.0, self.client_port),
                server: Endpoint::new(server_ip, self.server_port),
            },
            proxy_client: self
                .proxy_client_ip
                .map(|ip| Endpoint::new(ip.0, self.proxy_client_port.unwrap_or(0))),
            effective_ip: self.effective_ip.map(|ip| ip.0),
            // Without an address of its own the effective client is the wire's.
            effective_source: if self.effective_ip.is_some() {
                self.effective_source.0
            } else {
                EffectiveSource::Wire
            },
            conn_id: self.conn_id.0,
            req_index: self.req_index,
            stream_id: self.stream_id,
            method: self.method,
            scheme: self.scheme,
            host: self.host,
            path: self.path,
            query: self.query,
            http_version: self.http_version,
            headers: self.headers.pairs,
            headers_form: self.headers_form.0,
            headers_case: self.headers_case,
            headers_dups: self.headers_dups,
            h2_fp: self.h2_fp,
            status: self.status,
            bytes_sent: self.bytes_sent,
            duration_us: self.duration_us,
            end_follows: self.end_follows,
            tls: self.tls.map(ServerTlsWire::facts),
            request_id: self.request_id,
            tier: self.tier.0,
            truncated,
        }
    }
}

wire!(EndWire {
    request_seq: u64,
    #[serde(default)] status: Option<u16>,
    #[serde(default)] bytes_sent: Option<u64>,
    #[serde(default)] duration_us: Option<u64>,
});

wire!(StatusWire {
    next_seq: u64,
    #[serde(borrow, default)] dropped: Dropped<'a>,
    #[serde(default)] last: bool,
});

#[derive(Deserialize)]
struct EncapWire<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(default)]
    network_id: u32,
    #[serde(default)]
    outer_src: Option<Parsed<CanonicalAddr>>,
    #[serde(default)]
    outer_dst: Option<Parsed<CanonicalAddr>>,
}

impl<'a> EncapWire<'a> {
    fn encap(&self) -> Encap<'a> {
        let outer = self
            .outer_src
            .zip(self.outer_dst)
            .map(|(src, dst)| (src.0, dst.0));
        Encap {
            kind: self.kind.clone(),
            network_id: self.network_id,
            outer,
        }
    }
}

#[derive(Deserialize)]
struct TcpWire {
    ttl: u8,
    window: u16,
    #[serde(default)]
    mss: Option<u16>,
    #[serde(default)]
    wscale: Option<u8>,
    #[serde(default)]
    options: Vec<u8>,
    #[serde(default)]
    timestamps: bool,
}

impl TcpWire {
    fn facts(&self) -> TcpFacts {
        let mut options = self.options.clone();
        options.truncate(limits::MAX_TCP_OPTIONS);
        TcpFacts {
            ttl: self.ttl,
            window: self.window,
            mss: self.mss,
            wscale: self.wscale,
            options,
            timestamps: self.timestamps,
        }
    }
}

#[derive(Deserialize)]
struct ServerTlsWire<'a> {
    #[serde(borrow, default)]
    version: Text<'a>,
    #[serde(borrow, default)]
    cipher: Text<'a>,
    #[serde(borrow, default)]
    sni: Text<'a>,
    #[serde(default)]
    resumed: bool,
    #[serde(borrow, default)]
    ja4: Text<'a>,
    #[serde(default)]
    client_random: Option<HexRandom>,
}

impl<'a> ServerTlsWire<'a> {
    fn facts(self) -> ServerTls<'a> {
        ServerTls {
            version: self.version,
            cipher: self.cipher,
            sni: self.sni,
            resumed: self.resumed,
            ja4: self.ja4,
            client_random: self.client_random.map(|random| random.0),
        }
    }
}

#[derive(Deserialize)]
struct EndpointWire {
    client_ip: Parsed<CanonicalAddr>,
    client_port: u16,
}

/// A value that is read from a string with `FromStr`.
#[derive(Clone, Copy)]
struct Parsed<T>(T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParsedVisitor<T>(std::marker::PhantomData<T>);
        impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for ParsedVisitor<T> {
            type Value = Parsed<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse()
                    .map(Parsed)
                    .map_err(|error| E::custom(format_args!("{text:?}: {error}")))
            }
        }
        deserializer.deserialize_str(ParsedVisitor(std::marker::PhantomData))
    }
}

/// A value of a closed set of names.
trait WireName: Sized + 'static {
    const ALL: &'static [(&'static str, Self)];
}

macro_rules! wire_names {
    ($($type:ty: $($name:literal => $value:expr),+;)*) => {
        $(impl WireName for $type {
            const ALL: &'static [(&'static str, Self)] = &[$(($name, $value)),+];
        })*
    };
}

wire_names! {
    Transport: "tcp" => Self::Tcp, "udp" => Self::Udp;
    Direction: "ingress" => Self::Ingress, "egress" => Self::Egress, "internal" => Self::Internal;
    Confirmed: "none" => Self::None, "acked" => Self::Acked, "followed" => Self::Followed;
    TsKind: "start" => Self::Start, "derived" => Self::Derived;
    IdKind: "producer" => Self::Producer, "receiver" => Self::Receiver;
    HeadersForm: "ordered" => Self::Ordered, "named" => Self::Named;
    Tier: "edge" => Self::Edge, "backend" => Self::Backend;
    EffectiveSource: "wire" => Self::Wire, "proxy_protocol" => Self::ProxyProtocol, "forwarded" => Self::Forwarded;
    CloseReason: "fin" => Self::Fin, "rst" => Self::Rst, "replaced" => Self::Replaced,
        "evicted" => Self::Evicted, "idle" => Self::Idle;
}

struct NameVisitor<T>(std::marker::PhantomData<T>);

impl<T: WireName + Copy> Visitor<'_> for NameVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one of")?;
        T::ALL.iter().try_for_each(|(name, _)| write!(f, " {name}"))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::ALL
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// A name that has a default.
#[derive(Clone, Copy, Default)]
struct Named<T>(T);

impl<'de, T: WireName + Copy> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(NameVisitor(std::marker::PhantomData))
            .map(Named)
    }
}

/// A name that must be there.
struct Required<T>(T);

impl<'de, T: WireName + Copy> Deserialize<'de> for Required<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(NameVisitor(std::marker::PhantomData))
            .map(Required)
    }
}

/// Nanoseconds as a number or, for producers whose numbers are floats, as a string.
#[derive(Clone, Copy)]
struct Nanos(WallNs);

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NanosVisitor;
        impl Visitor<'_> for NanosVisitor {
            type Value = Nanos;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nanoseconds since the epoch, a whole number or a string of one")
            }
            fn visit_i64<E: de::Error>(self, ns: i64) -> Result<Nanos, E> {
                Ok(Nanos(ns))
            }
            fn visit_u64<E: de::Error>(self, ns: u64) -> Result<Nanos, E> {
                i64::try_from(ns)
                    .map(Nanos)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(ns), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Nanos, E> {
                text.parse()
                    .map(Nanos)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(NanosVisitor)
    }
}

/// 32 bytes as 64 hexadecimal digits.
struct HexRandom([u8; 32]);

impl<'de> Deserialize<'de> for HexRandom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RandomVisitor;
        impl Visitor<'_> for RandomVisitor {
            type Value = HexRandom;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HexRandom, E> {
                let invalid = || E::invalid_value(de::Unexpected::Str(text), &self);
                let digits = text.as_bytes();
                if digits.len() != 64 {
                    return Err(invalid());
                }
                let mut random = [0; 32];
                for (byte, pair) in random.iter_mut().zip(digits.chunks_exact(2)) {
                    let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or_else(invalid);
                    *byte = u8::try_from(digit(0)? << 4 | digit(1)?).map_err(|_| invalid())?;
                }
                Ok(HexRandom(random))
            }
        }
        deserializer.deserialize_str(RandomVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor { scalars: false })
    }
}

/// A text that some producers write as a number.
#[derive(Default)]
struct Scalar<'a>(Text<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(TextVisitor { scalars: true })
            .map(Scalar)
    }
}

struct TextVisitor {
    scalars: bool,
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.scalars {
            "a string, a number or {\"b64\":\"…\"}"
        } else {
            "a string or {\"b64\":\"…\"}"
        })
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::from(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::from(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Text<'de>, E> {
        Ok(Text::from(text))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Text<'de>, E> {
        Ok(Text::EMPTY)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text<'de>, E> {
        if self.scalars {
            Ok(Text::from(number.to_string()))
        } else {
            Err(E::invalid_type(de::Unexpected::Unsigned(number), &self))
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text<'de>, A::Error> {
        let mut bytes = None;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "b64" {
                let encoded = map.next_value::<Cow<'_, str>>()?;
                let decoded = base64::engine::general_purpose::STANDARD
                    .decode(encoded.as_bytes())
                    .map_err(|error| de::Error::custom(format_args!("b64: {error}")))?;
                bytes = Some(decoded);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        bytes
            .map(Text::from)
            .ok_or_else(|| de::Error::missing_field("b64"))
    }
}

/// `[[name,value],…]`, at most [`limits::MAX_HEADERS`]; what is over is skipped and said.
#[derive(Default)]
struct Headers<'a> {
    pairs: Vec<(Text<'a>, Text<'a>)>,
    cut: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of [name, value]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Headers<'de>, A::Error> {
                // Sixteen fits most requests without growing twice.
                let mut pairs = Vec::with_capacity(16);
                while pairs.len() < limits::MAX_HEADERS {
                    match seq.next_element()? {
                        Some(pair) => pairs.push(pair),
                        None => return Ok(Headers { pairs, cut: false }),
                    }
                }
                let mut cut = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    cut = true;
                }
                Ok(Headers { pairs, cut })
            }
        }
        deserializer.deserialize_seq(HeadersVisitor)
    }
}

/// Address pairs, at most [`limits::MAX_VIEWS`].
#[derive(Default)]
struct Views(Vec<Pair>);

impl<'de> Deserialize<'de> for Views {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct ViewWire {
            client_ip: Parsed<CanonicalAddr>,
            client_port: u16,
            server_ip: Parsed<CanonicalAddr>,
            server_port: u16,
        }
        let views = Vec::<ViewWire>::deserialize(deserializer)?;
        let pair = |view: ViewWire| Pair {
            client: Endpoint::new(view.client_ip.0, view.client_port),
            server: Endpoint::new(view.server_ip.0, view.server_port),
        };
        Ok(Self(
            views.into_iter().take(limits::MAX_VIEWS).map(pair).collect(),
        ))
    }
}

/// Names of flags; unknown ones are of a newer producer and are ignored.
#[derive(Default)]
struct Flags(ConnFlags);

impl<'de> Deserialize<'de> for Flags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<Text<'de>>::deserialize(deserializer)?;
        let mut flags = ConnFlags::default();
        for name in &names {
            if let Some(flag) = name.as_str().and_then(ConnFlags::from_name) {
                flags.insert(flag);
            }
        }
        Ok(Self(flags))
    }
}

/// Counts by reason, at most as many as a producer can sensibly have.
#[derive(Default)]
struct Dropped<'a>(Vec<(Text<'a>, u64)>);

/// Most reasons of loss in one status: our producers have under ten.
const MAX_DROP_REASONS: usize = 64;

impl<'de: 'a, 'a> Deserialize<'de> for Dropped<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DroppedVisitor;
        impl<'de> Visitor<'de> for DroppedVisitor {
            type Value = Dropped<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of counts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Dropped<'de>, A::Error> {
                let mut counts = Vec::new();
                while let Some((reason, n)) = map.next_entry::<Text<'de>, u64>()? {
                    if counts.len() == MAX_DROP_REASONS {
                        return Err(de::Error::invalid_length(counts.len() + 1, &self));
                    }
                    counts.push((reason, n));
                }
                Ok(Dropped(counts))
            }
        }
        deserializer.deserialize_map(DroppedVisitor)
    }
}
