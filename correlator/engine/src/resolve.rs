//! Decides which connection a request belongs to. Reads the connections, changes nothing.
//!
//! The order of evidence is in the crate's documentation. A connection is over, for a request, at its
//! close or when a confirmed connection with the same two endpoints opened, whichever is first.

use crate::address::{Endpoint, Pair, Transport};
use crate::connections::{Conn, Connections};
use crate::input::{HttpVersion, RequestFacts, RequestInput, Scheme};
use crate::output::{Contradictions, KeySource, Match};
use crate::settings::{ServerSide, Settings, wall_nanos};
use crate::streams::StreamId;

/// What of a request decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) stream: StreamId,
    pub(crate) node: u32,
    pub(crate) transport: Transport,
    pub(crate) pair: Pair,
    pub(crate) proxy_client: Option<Endpoint>,
    pub(crate) ts_ns: i64,
    pub(crate) resolution_ns: i64,
    pub(crate) conn_id: Option<u64>,
    pub(crate) req_index: Option<u32>,
    pub(crate) http: HttpVersion,
    pub(crate) scheme: Scheme,
    pub(crate) client_random: Option<[u8; 32]>,
    pub(crate) facts: RequestFacts,
}

impl Query {
    pub(crate) fn new<R>(input: &RequestInput<R>, stream: StreamId) -> Self {
        Self {
            stream,
            node: input.node,
            transport: input.transport,
            pair: input.pair,
            proxy_client: input.proxy_client,
            ts_ns: input.ts_ns,
            resolution_ns: i64::try_from(input.resolution_ns).unwrap_or(i64::MAX),
            conn_id: input.conn_id,
            req_index: input.req_index,
            http: input.http,
            scheme: input.scheme,
            client_random: input.client_random,
            facts: input.facts,
        }
    }
}

/// A decision for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) conn: u32,
    pub(crate) verdict: Match,
    pub(crate) key_source: KeySource,
    pub(crate) contradictions: Contradictions,
    /// It is sure enough that the producer's connection id may be bound to it.
    pub(crate) binds: bool,
}

/// One connection that fits by addresses and time.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    conn: u32,
    close_ns: i64,
    server_agrees: bool,
    contradictions: Contradictions,
}

/// The settings that decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    server_side: ServerSide,
    proxy_key: bool,
    skew_same_node_ns: i64,
    skew_cross_node_ns: i64,
}

impl Rules {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            server_side: settings.server_side,
            proxy_key: settings.proxy_key,
            skew_same_node_ns: wall_nanos(settings.skew_same_node),
            skew_cross_node_ns: wall_nanos(settings.skew_cross_node),
        }
    }

    /// The PROXY client, if it is looked up.
    pub(crate) fn proxy(&self, query: &Query) -> Option<Endpoint> {
        query
            .proxy_client
            .filter(|client| self.proxy_key && client.is_usable())
    }

    /// How far two clocks may be apart, and never finer than the request's own.
    fn tolerance<C>(&self, query: &Query, conn: &Conn<C>) -> i64 {
        let skew = if conn.node == query.node {
            self.skew_same_node_ns
        } else {
            self.skew_cross_node_ns
        };
        skew.max(query.resolution_ns)
    }

    /// What needs no wait: a client random whose connection is known under the request's addresses,
    /// or a binding. Nothing that arrives later changes it.
    pub(crate) fn prove<C>(&self, conns: &Connections<C>, query: &Query) -> Option<Found> {
        if let Some(conn) = Self::by_random(conns, query)
            && self.is_known_view(conns.get(conn), query)
        {
            return Some(judged(conns, query, conn, Match::Exact, KeySource::Random));
        }
        let binding = conns.find_binding(query.stream, query.conn_id?)?;
        let same_peer = binding.peer == query.pair.client || query.transport == Transport::Udp;
        same_peer.then(|| judged(conns, query, binding.conn, Match::Exact, KeySource::Binding))
    }

    /// All evidence, best first.
    pub(crate) fn decide<C>(&self, conns: &Connections<C>, query: &Query) -> Option<Found> {
        if let Some(found) = self.prove(conns, query) {
            return Some(found);
        }
        let by_random = Self::by_random(conns, query);
        let confirmed = self.by_address(conns, query, Trust::Confirmed);
        if let Some(mut found) = confirmed {
            found.contradictions.add_if(
                Contradictions::RANDOM,
                by_random.is_some_and(|conn| conn != found.conn),
            );
            return Some(found);
        }
        if let Some(conn) = by_random {
            return Some(judged(conns, query, conn, Match::Exact, KeySource::Random));
        }
        let mut found = self.by_address(conns, query, Trust::Unconfirmed)?;
        found.binds = false;
        Some(found)
    }

    fn by_random<C>(conns: &Connections<C>, query: &Query) -> Option<u32> {
        let conn = conns.find_random(query.client_random.as_ref()?)?;
        let proves = conns.get(conn).random_proves() && conns.get(conn).transport == query.transport;
        proves.then_some(conn)
    }

    fn is_known_view<C>(&self, conn: &Conn<C>, query: &Query) -> bool {
        let proxy = self.proxy(query);
        conn.pairs().any(|pair| {
            pair.client.is_usable() && (pair.client == query.pair.client || Some(pair.client) == proxy)
        })
    }

    fn by_address<C>(&self, conns: &Connections<C>, query: &Query, trust: Trust) -> Option<Found> {
        let wire = self.newest(conns, query, trust, query.pair.client, KeySource::Wire);
        wire.or_else(|| self.newest(conns, query, trust, self.proxy(query)?, KeySource::Proxy))
    }

    /// ASOF join on one client endpoint.
    fn newest<C>(
        &self,
        conns: &Connections<C>,
        query: &Query,
        trust: Trust,
        client: Endpoint,
        key: KeySource,
    ) -> Option<Found> {
        let mut candidates = self.candidates(conns, query, trust, client, key);
        prefer(&mut candidates, |c| c.server_agrees);
        prefer(&mut candidates, |c| !c.contradictions.lowers());
        candidates.sort_unstable_by_key(|c| (conns.get(c.conn).open_ns, conns.get(c.conn).uid));
        let last = candidates.len().checked_sub(1)?;
        let (at, verdict) = match (last, query.http, query.req_index) {
            (0, ..) => (0, Match::Asof),
            // A later request near the boundary is more likely the tail of the older connection.
            (_, HttpVersion::Http1, Some(index)) if index > 0 => (last - 1, Match::Ambiguous),
            _ => (last, Match::Ambiguous),
        };
        Some(judged(conns, query, candidates[at].conn, verdict, key))
    }

    fn candidates<C>(
        &self,
        conns: &Connections<C>,
        query: &Query,
        trust: Trust,
        client: Endpoint,
        key: KeySource,
    ) -> Vec<Candidate> {
        let on_endpoint = || conns.on_endpoint(query.transport, client);
        // Empty vectors do not allocate; nearly all endpoints hold one connection.
        let mut candidates: Vec<Candidate> = Vec::new();
        for (idx, server) in on_endpoint() {
            let conn = conns.get(idx);
            let server_fits = key == KeySource::Proxy
                || match self.server_side {
                    ServerSide::Strict => server == query.pair.server,
                    ServerSide::Port => server.port == query.pair.server.port,
                    ServerSide::Ignore => true,
                };
            if conn.is_confirmed() != (trust == Trust::Confirmed)
                || !server_fits
                || is_bound_elsewhere(conn, query)
            {
                continue;
            }
            let replaced_ns = on_endpoint()
                .filter(|(other, other_server)| *other != idx && *other_server == server)
                .map(|(other, _)| conns.get(other))
                .filter(|other| other.is_confirmed() && other.open_ns > conn.open_ns)
                .map(|other| other.open_ns)
                .min();
            let close_ns = conn.close_ns.min(replaced_ns.unwrap_or(i64::MAX));
            let server_agrees = server == query.pair.server;
            if let Some(known) = candidates.iter_mut().find(|c| c.conn == idx) {
                known.close_ns = known.close_ns.min(close_ns);
                known.server_agrees |= server_agrees;
            } else {
                let contradictions = contradictions(conn, query);
                candidates.push(Candidate {
                    conn: idx,
                    close_ns,
                    server_agrees,
                    contradictions,
                });
            }
        }
        candidates.retain(|c| {
            let conn = conns.get(c.conn);
            let tolerance = self.tolerance(query, conn);
            conn.open_ns <= query.ts_ns.saturating_add(tolerance)
                && query.ts_ns <= c.close_ns.saturating_add(tolerance)
        });
        candidates
    }
}

/// Which connections are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    Confirmed,
    Unconfirmed,
}

/// One producer process gives a connection one id: bound to another, it is not this request's.
fn is_bound_elsewhere<C>(conn: &Conn<C>, query: &Query) -> bool {
    match (query.conn_id, conn.bound_to(query.stream)) {
        (Some(wanted), Some(bound)) => wanted != bound,
        _ => false,
    }
}

/// Keeps only what fulfils the condition, if anything does.
fn prefer(candidates: &mut Vec<Candidate>, condition: impl Fn(&Candidate) -> bool) {
    if candidates.len() > 1 && candidates.iter().any(&condition) {
        candidates.retain(condition);
    }
}

fn judged<C>(
    conns: &Connections<C>,
    query: &Query,
    conn: u32,
    verdict: Match,
    key_source: KeySource,
) -> Found {
    let contradictions = contradictions(conns.get(conn), query);
    let verdict = if contradictions.lowers() {
        verdict.lowered()
    } else {
        verdict
    };
    let binds = key_source != KeySource::Binding && !contradictions.lowers() && verdict != Match::Ambiguous;
    Found {
        conn,
        verdict,
        key_source,
        contradictions,
        binds,
    }
}

fn contradictions<C>(conn: &Conn<C>, query: &Query) -> Contradictions {
    let differ = |a: Option<u64>, b: Option<u64>| matches!((a, b), (Some(a), Some(b)) if a != b);
    let mut marks = Contradictions::NONE;
    if !conn.has_hello() {
        marks.add_if(Contradictions::SCHEME, query.scheme == Scheme::Https);
        return marks;
    }
    let hello = conn.facts();
    marks.add_if(Contradictions::SCHEME, query.scheme == Scheme::Http);
    marks.add_if(Contradictions::JA4, differ(query.facts.ja4_hash, hello.ja4_hash));
    marks.add_if(
        Contradictions::SNI_SERVER,
        !hello.ech && differ(query.facts.sni_hash, hello.sni_hash),
    );
    marks.add_if(
        Contradictions::SNI_HOST,
        !hello.ech && differ(query.facts.host_hash, hello.sni_hash),
    );
    marks.add_if(Contradictions::ALPN, !hello.alpn.allows(query.http));
    marks
}
