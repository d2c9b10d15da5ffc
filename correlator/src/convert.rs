//! From events of the wire to inputs of the engine, and the stamping that nothing of a peer's claims survives.

use std::sync::Arc;

use correlator_engine as engine;
use ja4_model::event::IdKind;
use ja4_model::limits::MAX_TS_DISTANCE_NS;
use ja4_model::{
    ClientHello, CloseReason, Confirmed, Endpoint, Head, Pair, Request, Text, Transport, WallNs,
};

use crate::payload::{Conn, ConnKind, Origin, Parsed};

/// What the receiver knows of an event, whatever the event says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) source: Text<'static>,
    pub(crate) node: Text<'static>,
    /// The engine's number of (source, node).
    pub(crate) source_number: u32,
    /// The engine's number of the node.
    pub(crate) node_number: u32,
    pub(crate) boot: ja4_model::BootId,
    pub(crate) origin: Origin,
    pub(crate) id_kind: IdKind,
    pub(crate) recv_ns: WallNs,
}

impl Stamp {
    /// Stamps the head; true if its time had to be clamped to a day around the arrival.
    pub(crate) fn apply(&self, head: &mut Head<'_>) -> bool {
        head.source = self.source.clone();
        head.node = self.node.clone();
        head.boot = self.boot;
        head.seq = self.origin.seq;
        head.id_kind = self.id_kind;
        head.recv_ns = Some(self.recv_ns);
        let low = self.recv_ns.saturating_sub(MAX_TS_DISTANCE_NS);
        let high = self.recv_ns.saturating_add(MAX_TS_DISTANCE_NS);
        let clamped = head.ts_ns.clamp(low, high);
        std::mem::replace(&mut head.ts_ns, clamped) != clamped
    }
}

/// A request for the engine.
pub(crate) fn request_input(
    stamp: &Stamp,
    parsed: &Parsed<'_>,
    hasher: &ahash::RandomState,
) -> engine::RequestInput<()> {
    let (head, request) = (&parsed.head, &*parsed.request);
    let tls = request.tls.as_ref();
    let hash = |text: &Text<'_>| (!text.is_empty()).then(|| hasher.hash_one(text.as_bytes()));
    engine::RequestInput {
        source: stamp.source_number,
        boot: stamp.boot.0,
        seq: stamp.origin.seq,
        node: stamp.node_number,
        transport: transport(request.transport),
        pair: pair(&request.pair),
        proxy_client: request.proxy_client.map(endpoint),
        ts_ns: head.ts_ns,
        resolution_ns: head.ts_resolution_ns,
        duration_ns: request.duration_us.map_or(0, |us| us.saturating_mul(1000)),
        conn_id: hash(&request.conn_id),
        req_index: request.req_index,
        http: http_version(request),
        scheme: scheme(request),
        client_random: tls.and_then(|tls| tls.client_random),
        facts: engine::RequestFacts {
            ja4_hash: tls.and_then(|tls| hash(&tls.ja4)),
            sni_hash: tls.and_then(|tls| name_hash(&tls.sni, hasher)),
            host_hash: name_hash(&host_name(&request.host), hasher),
        },
        end_follows: request.end_follows,
        weight: 0,
        payload: (),
    }
}

/// Puts the payload into a request input that was made without it.
pub(crate) fn with_payload<P>(
    input: &engine::RequestInput<()>,
    weight: u32,
    payload: P,
) -> engine::RequestInput<P> {
    engine::RequestInput {
        source: input.source,
        boot: input.boot,
        seq: input.seq,
        node: input.node,
        transport: input.transport,
        pair: input.pair,
        proxy_client: input.proxy_client,
        ts_ns: input.ts_ns,
        resolution_ns: input.resolution_ns,
        duration_ns: input.duration_ns,
        conn_id: input.conn_id,
        req_index: input.req_index,
        http: input.http,
        scheme: input.scheme,
        client_random: input.client_random,
        facts: input.facts,
        end_follows: input.end_follows,
        weight,
        payload,
    }
}

/// A connection for the engine: by its hello, or as a plain one.
pub(crate) fn connection_event(payload: &Conn, hasher: &ahash::RandomState) -> engine::ConnectionEvent<Conn> {
    match &payload.what {
        ConnKind::Hello(hello) => engine::ConnectionEvent::ClientHello(hello_input(payload, hello, hasher)),
        ConnKind::Open(conn) => engine::ConnectionEvent::Open(engine::Opened {
            transport: transport(conn.transport),
            pair: pair(&conn.pair),
            views: conn.views.iter().map(pair).collect(),
            ts_ns: conn.open_ts_ns.unwrap_or(payload.head.ts_ns),
            confirmed: confirmed(conn.confirmed),
            weight: payload.weight(),
            payload: Arc::clone(payload),
        }),
    }
}

fn hello_input(payload: &Conn, hello: &ClientHello<'_>, hasher: &ahash::RandomState) -> engine::Hello<Conn> {
    let alpn = hello
        .tls
        .alpn
        .iter()
        .fold(engine::Alpn::NOTHING, |alpn, offered| match offered.as_bytes() {
            b"http/1.1" | b"http/1.0" => alpn.with(engine::Alpn::HTTP1),
            b"h2" => alpn.with(engine::Alpn::HTTP2),
            b"h3" => alpn.with(engine::Alpn::HTTP3),
            _ => alpn,
        });
    engine::Hello {
        transport: transport(hello.conn.transport),
        pair: pair(&hello.conn.pair),
        views: hello.conn.views.iter().map(pair).collect(),
        open_ts_ns: hello.conn.open_ts_ns,
        ts_ns: payload.head.ts_ns,
        hello_index: hello.hello_index,
        confirmed: confirmed(hello.conn.confirmed),
        client_random: Some(hello.client_random),
        facts: engine::HelloFacts {
            ja4_hash: Some(hasher.hash_one(hello.tls.ja4.as_bytes())),
            sni_hash: name_hash(&hello.sni, hasher),
            ech: hello.tls.ech,
            alpn,
        },
        weight: payload.weight(),
        payload: Arc::clone(payload),
    }
}

/// Hash of a host name without case, so that both sides of a comparison agree.
fn name_hash(name: &Text<'_>, hasher: &ahash::RandomState) -> Option<u64> {
    (!name.is_empty()).then(|| hasher.hash_one(name.as_bytes().to_ascii_lowercase().as_slice()))
}

/// The host without its port: `a:443` and `[::1]:443`.
fn host_name<'a>(host: &'a Text<'_>) -> Text<'a> {
    let bytes = host.as_bytes();
    match bytes.iter().rposition(|byte| *byte == b':') {
        Some(at) if bytes[at + 1..].iter().all(u8::is_ascii_digit) && !bytes[..at].contains(&b':') => {
            Text::from(&bytes[..at])
        }
        Some(at) if bytes[..at].ends_with(b"]") => Text::from(&bytes[..at]),
        _ => Text::from(bytes),
    }
}

fn http_version(request: &Request<'_>) -> engine::HttpVersion {
    match request.http_version.as_bytes() {
        b"1.0" | b"1.1" | b"HTTP/1.0" | b"HTTP/1.1" => engine::HttpVersion::Http1,
        b"2" | b"2.0" | b"HTTP/2" | b"HTTP/2.0" => engine::HttpVersion::Http2,
        b"3" | b"3.0" | b"HTTP/3" | b"HTTP/3.0" => engine::HttpVersion::Http3,
        _ => engine::HttpVersion::Unknown,
    }
}

fn scheme(request: &Request<'_>) -> engine::Scheme {
    match request.scheme.as_bytes() {
        b"http" => engine::Scheme::Http,
        b"https" => engine::Scheme::Https,
        _ => engine::Scheme::Unknown,
    }
}

fn transport(transport: Transport) -> engine::Transport {
    match transport {
        Transport::Tcp => engine::Transport::Tcp,
        Transport::Udp => engine::Transport::Udp,
    }
}

fn endpoint(endpoint: Endpoint) -> engine::Endpoint {
    engine::Endpoint {
        ip: endpoint.ip.0,
        port: endpoint.port,
    }
}

fn pair(pair: &Pair) -> engine::Pair {
    engine::Pair {
        client: endpoint(pair.client),
        server: endpoint(pair.server),
    }
}

/// An address pair of the engine as one of the wire.
pub(crate) fn pair_back(pair: &engine::Pair) -> Pair {
    let back = |end: engine::Endpoint| Endpoint::new(ja4_model::CanonicalAddr(end.ip), end.port);
    Pair {
        client: back(pair.client),
        server: back(pair.server),
    }
}

/// A level of confirmation for the engine.
pub(crate) fn confirmed(confirmed: Confirmed) -> engine::Confirmed {
    match confirmed {
        Confirmed::None => engine::Confirmed::None,
        Confirmed::Acked => engine::Confirmed::Acked,
        Confirmed::Followed => engine::Confirmed::Followed,
    }
}

/// A level of confirmation of the engine as one of the wire.
pub(crate) fn confirmed_back(confirmed: engine::Confirmed) -> Confirmed {
    match confirmed {
        engine::Confirmed::None => Confirmed::None,
        engine::Confirmed::Acked => Confirmed::Acked,
        engine::Confirmed::Followed => Confirmed::Followed,
    }
}

/// A reason of closing for the engine.
pub(crate) fn close_reason(reason: CloseReason) -> engine::CloseReason {
    match reason {
        CloseReason::Fin => engine::CloseReason::Fin,
        CloseReason::Rst => engine::CloseReason::Rst,
        CloseReason::Replaced => engine::CloseReason::Replaced,
        CloseReason::Evicted => engine::CloseReason::Evicted,
        CloseReason::Idle => engine::CloseReason::Idle,
    }
}

/// A match of the engine as one of the records.
pub(crate) fn verdict_back(verdict: engine::Match) -> ja4_model::Match {
    use engine::NoneReason as Engine;
    use ja4_model::{Match, NoneReason};
    match verdict {
        engine::Match::Exact => Match::Exact,
        engine::Match::Asof => Match::Asof,
        engine::Match::Ambiguous => Match::Ambiguous,
        engine::Match::None(reason) => Match::None(match reason {
            Engine::NoConn => NoneReason::NoConn,
            Engine::Plaintext => NoneReason::Plaintext,
            Engine::KeyUnusable => NoneReason::KeyUnusable,
            Engine::Late => NoneReason::Late,
            Engine::Evicted => NoneReason::Evicted,
            Engine::SensorGap => NoneReason::SensorGap,
            Engine::Overflow => NoneReason::Overflow,
            Engine::Warmup => NoneReason::Warmup,
            Engine::Shutdown => NoneReason::Shutdown,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, expected: &str) {
        assert_eq!(host_name(&Text::from(host)), expected);
    }

    #[test]
    fn a_port_is_not_part_of_the_name() {
        check("a.example", "a.example");
        check("a.example:8443", "a.example");
        check("[::1]:8443", "[::1]");
        check("[::1]", "[::1]");
        check("::1", "::1");
        check("", "");
    }

    #[test]
    fn times_a_day_away_are_clamped_and_said() {
        let stamp = Stamp {
            source: "s".into(),
            node: "n".into(),
            source_number: 0,
            node_number: 0,
            boot: ja4_model::BootId(1),
            origin: Origin { boot: 0, seq: 4 },
            id_kind: IdKind::Producer,
            recv_ns: 1_800_000_000_000_000_000,
        };
        let at = |ts_ns| {
            let mut head = Head::new("liar".into(), "liar".into(), ja4_model::EventId::default(), ts_ns);
            (
                stamp.apply(&mut head),
                head.ts_ns,
                head.source.to_str_lossy().into_owned(),
                head.seq,
            )
        };
        let day = MAX_TS_DISTANCE_NS;
        assert_eq!(at(0), (true, stamp.recv_ns - day, "s".to_owned(), 4));
        assert_eq!(at(i64::MAX), (true, stamp.recv_ns + day, "s".to_owned(), 4));
        assert_eq!(
            at(stamp.recv_ns - 5),
            (false, stamp.recv_ns - 5, "s".to_owned(), 4)
        );
    }
}
