//! What the correlator writes: a request with its connection, a hello, a late correction.

use crate::WallNs;
use crate::address::{CanonicalAddr, Endpoint};
use crate::connection::{ClientHello, Confirmed, ConnFacts, Hex};
use crate::event::{EventKind, Head};
use crate::id::{ConnUid, EventId};
use crate::json::Object;
use crate::request::{EffectiveSource, Request, RequestEnd};
use crate::text::Text;

/// How a request found its connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Match {
    /// By unique confirmed client random, or by a connection id that was bound before.
    Exact,
    /// By addresses and time.
    Asof,
    /// By addresses and time, and another connection fits as well.
    Ambiguous,
    /// Not at all.
    None(NoneReason),
}

impl Match {
    /// The name in records and in ClickHouse.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Asof => "asof",
            Self::Ambiguous => "ambiguous",
            Self::None(_) => "none",
        }
    }

    /// Why there is none; empty for a match.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::None(reason) => reason.name(),
            _ => "",
        }
    }
}

/// Why a request has no TLS connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NoneReason {
    /// No connection is known on its addresses at its time.
    NoConn,
    /// The connection is plain HTTP.
    Plaintext,
    /// Its addresses cannot be a key: port 0, or no address.
    KeyUnusable,
    /// It came after the connection's retention.
    Late,
    /// The connection was forgotten for lack of memory.
    Evicted,
    /// The sensor lost events at that time.
    SensorGap,
    /// It was let go early for lack of memory.
    Overflow,
    /// The connection may be older than the correlator.
    Warmup,
    /// The correlator stopped before the connection was seen.
    Shutdown,
}

impl NoneReason {
    /// All reasons.
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

    /// The name in records and in ClickHouse.
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

/// What the correlator adds to a request from its own reading of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Derived<'a> {
    /// Family of the User-Agent, such as `Chrome`; empty if unknown.
    pub ua_family: Text<'a>,
    /// Keyed hash of the session cookie; 0 if there is none.
    pub session_hash: u64,
    /// Header names in order, joined by commas; empty unless the source sends them in order.
    pub header_order: Text<'a>,
    /// Hash of `header_order`; 0 if that is empty.
    pub header_order_hash: u64,
}

/// A request with the connection that it came on: one row of `http_logs`.
#[derive(Clone, PartialEq, Debug)]
pub struct JoinedRequest<'a> {
    /// Of the request; `recv_ns` is set.
    pub head: &'a Head<'a>,
    /// The request, redacted.
    pub request: &'a Request<'a>,
    /// What its end brought.
    pub end: Option<&'a RequestEnd>,
    /// The connection's first hello, if there is one.
    pub hello: Option<&'a ClientHello<'a>>,
    /// The connection, if one was found; for a plain one there is no hello.
    pub conn: Option<&'a ConnFacts<'a>>,
    /// Confirmation of the connection when the row was made.
    pub confirmed: Confirmed,
    /// How it was found.
    pub verdict: Match,
    /// Request time minus opening of the connection, microseconds.
    pub delta_us: Option<i64>,
    /// Index of the request on its connection as the correlator counted.
    pub conn_req_index: u32,
    /// Marks of contradictions, such as `sni_host`.
    pub contradictions: &'a [&'static str],
    /// What the correlator adds.
    pub derived: Derived<'a>,
}

impl JoinedRequest<'_> {
    /// The client that everything is counted by: whom the server believes in, else who opened the connection as it was seen
    /// outermost, else the socket's peer. Behind address translation, or a balancer that passes TLS on, the peer is somebody else.
    pub fn client(&self) -> Endpoint {
        let request = self.request;
        let is_certain = matches!(self.verdict, Match::Exact | Match::Asof);
        let on_the_wire = self
            .conn
            .filter(|_| is_certain)
            .map(|conn| conn.pair.client)
            .filter(|client| client.ip != CanonicalAddr::UNSPECIFIED)
            .unwrap_or(request.pair.client);
        match (request.effective_ip, request.proxy_client) {
            (None, _) => on_the_wire,
            (Some(ip), Some(proxy)) if proxy.ip == ip => proxy,
            // A header names no port.
            (Some(ip), _) => Endpoint::new(ip, on_the_wire.port),
        }
    }

    /// True if the hello is the client's own and not that of a proxy in front of it.
    pub fn hello_is_the_clients(&self) -> bool {
        self.request.effective_source != EffectiveSource::Forwarded
            || self
                .request
                .effective_ip
                .is_none_or(|ip| ip == self.request.pair.client.ip)
    }

    /// Status, bytes and duration: the end's where it came, else the request's.
    pub fn outcome(&self) -> (Option<u16>, Option<u64>, Option<u64>) {
        let end = self.end.copied().unwrap_or_default();
        (
            end.status.or(self.request.status),
            end.bytes_sent.or(self.request.bytes_sent),
            end.duration_us.or(self.request.duration_us),
        )
    }

    /// Writes the record as one JSON object, without a line end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        self.head.write_fields(EventKind::Request, &mut object);
        object.str("match", self.verdict.name());
        if let Match::None(reason) = self.verdict {
            object.str("match_reason", reason.name());
        }
        object.num_opt("delta_us", self.delta_us);
        object.num("conn_req_index", self.conn_req_index);
        if !self.contradictions.is_empty() {
            crate::json::write_list(object.key("contradictions"), self.contradictions, |out, mark| {
                crate::json::write_str(out, mark);
            });
        }
        self.request.write_fields(&mut object);
        if let Some(end) = self.end {
            let mut inner = Object::open(object.key("end"));
            end.write_fields(&mut inner);
            inner.close();
        }
        if let Some(conn) = self.conn {
            let mut inner = Object::open(object.key("conn"));
            inner.str("confirmed_now", self.confirmed.name());
            match self.hello {
                Some(hello) => hello.write_fields(&mut inner),
                None => conn.write_fields(&mut inner),
            }
            inner.close();
        }
        object.text_if("ua_family", &self.derived.ua_family);
        if self.derived.session_hash != 0 {
            object.num("session_hash", self.derived.session_hash);
        }
        object.close();
    }
}

/// One ClientHello: one row of `tls_logs`.
#[derive(Clone, PartialEq, Debug)]
pub struct TlsRecord<'a> {
    /// Of the hello; `recv_ns` is set.
    pub head: &'a Head<'a>,
    /// The hello; its `views` are merged across nodes.
    pub hello: &'a ClientHello<'a>,
    /// Confirmation when the row was made.
    pub confirmed: Confirmed,
}

/// A connection that turned up after its request was written as `none`.
#[derive(Clone, PartialEq, Debug)]
pub struct Correction<'a> {
    /// The request that was written before.
    pub request_id: EventId,
    /// Start of the request.
    pub request_ts_ns: WallNs,
    /// When the correction was made.
    pub corrected_ns: WallNs,
    /// Client address of the request.
    pub src_ip: CanonicalAddr,
    /// Host of the request.
    pub host: Text<'a>,
    /// The connection.
    pub conn_uid: ConnUid,
    /// How it fits.
    pub verdict: Match,
    /// Its hello.
    pub hello: Option<&'a ClientHello<'a>>,
}

impl Correction<'_> {
    /// Writes the record as one JSON object, without a line end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.str("event", "correction");
        object.display("request_id", self.request_id);
        object.num("request_ts_ns", self.request_ts_ns);
        object.num("corrected_ns", self.corrected_ns);
        object.display("src_ip", self.src_ip);
        object.text("host", &self.host);
        object.display("conn_uid", self.conn_uid);
        object.str("match", self.verdict.name());
        if let Some(hello) = self.hello {
            object.text("ja4", &hello.tls.ja4);
            object.text("ja4_norm", &hello.tls.ja4_norm);
            object.text("ja3", &hello.tls.ja3);
            object.display("client_random", Hex(&hello.client_random));
        }
        object.close();
    }
}
