//! Turns the flow table's events into the events of the wire.

use std::sync::Arc;

use ja4_model::connection::{
    ClientHello, Close, CloseReason, Confirm, Confirmed, ConnFacts, ConnFlags, Direction, Encap, Open,
    TcpFacts, TlsFacts, Transport,
};
use ja4_model::{BootId, CanonicalAddr, ConnUid, Endpoint, Event, Pair, Text, WallNs};
use sensor_flow::{ConnId, FlowEvent, FlowFlags, HelloEvent, OwnNetworks};
use sensor_wire::registry::TlsVersion;

/// What the events of one sensor process have in common.
#[derive(Debug)]
pub(crate) struct Converter {
    /// The process.
    pub(crate) boot: BootId,
    /// For the direction of a connection.
    pub(crate) own_networks: OwnNetworks,
    /// Added to every time: moves a recorded capture to now.
    pub(crate) offset_ns: i64,
}

impl Converter {
    /// The event of the wire and the time it happened.
    pub(crate) fn convert<'a>(&self, event: &'a FlowEvent) -> (WallNs, Event<'a>) {
        match event {
            FlowEvent::Open(at, facts) => (
                self.time(*at),
                Event::Open(Open {
                    conn: self.facts(facts),
                }),
            ),
            FlowEvent::Hello(at, hello) => (self.time(*at), Event::ClientHello(Box::new(self.hello(hello)))),
            FlowEvent::Confirm { at, conn, confirmed } => {
                let confirm = Confirm {
                    conn_uid: self.conn_uid(*conn),
                    confirmed: confirmed_of(*confirmed),
                };
                (self.time(*at), Event::Confirm(confirm))
            }
            FlowEvent::Close {
                at,
                conn,
                pair,
                reason,
                confirmed,
            } => {
                let close = Close {
                    conn_uid: self.conn_uid(*conn),
                    pair: pair.as_ref().map(pair_of),
                    reason: reason_of(*reason),
                    confirmed: confirmed_of(*confirmed),
                };
                (self.time(*at), Event::Close(close))
            }
        }
    }

    const fn time(&self, at: WallNs) -> WallNs {
        at.saturating_add(self.offset_ns)
    }

    fn conn_uid(&self, conn: ConnId) -> ConnUid {
        ConnUid::new(self.boot, conn.0)
    }

    fn hello<'a>(&self, event: &'a HelloEvent) -> ClientHello<'a> {
        let hello = &event.hello;
        let fingerprints = &hello.fingerprints;
        let mut conn = self.facts(&event.conn);
        if event.hello_index > 0 {
            conn.flags.insert(ConnFlags::SECOND_HELLO);
        }
        ClientHello {
            conn,
            hello_index: event.hello_index,
            tls: Arc::new(TlsFacts {
                ja4: fingerprints.ja4.as_str().into(),
                ja4_r: fingerprints.ja4_r.as_str().into(),
                ja4_norm: fingerprints.ja4_norm.as_str().into(),
                ja3: fingerprints.ja3.as_str().into(),
                ja3_raw: fingerprints.ja3_raw.as_str().into(),
                alpn: hello.alpn.iter().map(|value| Text::from(&**value)).collect(),
                tls_version: version_name(hello.version),
                ech: hello.ech,
                psk: hello.psk,
                pq: hello.pq,
            }),
            sni: hello.sni.as_deref().map_or(Text::EMPTY, Text::from),
            client_random: hello.random,
            hello_bytes: hello.message_bytes,
            proxy: event
                .proxy_client
                .map(|client| Endpoint::new(client.ip().into(), client.port())),
        }
    }

    fn facts(&self, facts: &sensor_flow::ConnFacts) -> ConnFacts<'static> {
        let pair = pair_of(&facts.pair);
        ConnFacts {
            conn_uid: self.conn_uid(facts.conn),
            transport: Transport::Tcp,
            direction: self.direction(&facts.pair),
            pair,
            views: facts.views.iter().map(pair_of).collect(),
            encap: facts.encap.and_then(encap_of),
            open_ts_ns: facts.open_at.map(|at| self.time(at)),
            syn_to_hello_us: facts.syn_to_hello_us,
            tcp: facts.syn.map(|syn| TcpFacts {
                ttl: syn.ttl,
                window: syn.window,
                mss: syn.options.mss,
                wscale: syn.options.window_scale,
                options: syn.options.kinds().to_vec(),
                timestamps: syn.options.timestamps,
            }),
            confirmed: confirmed_of(facts.confirmed),
            flags: flags_of(facts.flags),
        }
    }

    fn direction(&self, pair: &sensor_flow::Pair) -> Direction {
        let is_own = |endpoint: sensor_flow::Endpoint| self.own_networks.contains(endpoint.ip);
        match (is_own(pair.client), is_own(pair.server)) {
            (true, true) => Direction::Internal,
            (true, false) => Direction::Egress,
            (false, _) => Direction::Ingress,
        }
    }
}

fn pair_of(pair: &sensor_flow::Pair) -> Pair {
    let endpoint = |end: sensor_flow::Endpoint| Endpoint::new(CanonicalAddr(end.ip.0), end.port);
    Pair {
        client: endpoint(pair.client),
        server: endpoint(pair.server),
    }
}

fn encap_of(encap: sensor_flow::Encap) -> Option<Encap<'static>> {
    match encap {
        sensor_flow::Encap::Vlan { outer, .. } => Some(Encap {
            kind: "vlan".into(),
            network_id: u32::from(outer),
            outer: None,
        }),
        _ => None,
    }
}

const fn confirmed_of(confirmed: sensor_flow::Confirmed) -> Confirmed {
    match confirmed {
        sensor_flow::Confirmed::None => Confirmed::None,
        sensor_flow::Confirmed::Acked => Confirmed::Acked,
        sensor_flow::Confirmed::Followed => Confirmed::Followed,
    }
}

const fn reason_of(reason: sensor_flow::CloseReason) -> CloseReason {
    match reason {
        sensor_flow::CloseReason::Fin => CloseReason::Fin,
        sensor_flow::CloseReason::Rst => CloseReason::Rst,
        sensor_flow::CloseReason::Replaced => CloseReason::Replaced,
        sensor_flow::CloseReason::Evicted => CloseReason::Evicted,
        sensor_flow::CloseReason::Idle => CloseReason::Idle,
    }
}

fn flags_of(flags: FlowFlags) -> ConnFlags {
    let mapped = [
        (FlowFlags::RETRANSMITTED, ConnFlags::RETRANSMITTED),
        (FlowFlags::OVERLAP_CONFLICT, ConnFlags::OVERLAP_CONFLICT),
        (FlowFlags::MIDSTREAM, ConnFlags::MIDSTREAM),
        (FlowFlags::OUT_OF_ORDER, ConnFlags::OUT_OF_ORDER),
        (FlowFlags::FRAGMENTED_RECORDS, ConnFlags::FRAGMENTED_RECORDS),
        (FlowFlags::EARLY_DATA, ConnFlags::EARLY_DATA),
    ];
    let mut wire = ConnFlags::default();
    for (flag, name) in mapped {
        if flags.has(flag) {
            wire.insert(name);
        }
    }
    wire
}

/// `1.3`, `1.2`, `1.1`, `1.0`, `ssl3`, or the number in hexadecimal, such as `7f1c` of a draft.
fn version_name(version: TlsVersion) -> Text<'static> {
    match version {
        TlsVersion::TLS13 => "1.3".into(),
        TlsVersion::TLS12 => "1.2".into(),
        TlsVersion::TLS11 => "1.1".into(),
        TlsVersion::TLS10 => "1.0".into(),
        TlsVersion::SSL3 => "ssl3".into(),
        other => Text::from(format!("{:04x}", other.0)),
    }
}
