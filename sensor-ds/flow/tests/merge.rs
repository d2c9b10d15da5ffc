//! One connection seen on several interfaces, behind address translation and proxies, is told of once with all its views.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use common::{ACK, FIN, Rig, SECOND, SEED, Segment, Talk, hello, hello_message, hellos, records, words};
use sensor_flow::{ConnId, FlowEvent, FlowSettings, Frame, MergeSettings, Pair, TimeNs, ViewMerger};
use sensor_wire::registry::LinkType;

const MICROSECOND: TimeNs = 1_000;
const MILLISECOND: TimeNs = 1_000_000;

/// The random of a HelloRetryRequest (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Where a copy of each packet passes: interface and what the addresses are there.
#[derive(Debug, Clone, Copy)]
struct Passage {
    interface: u16,
    client: (Ipv4Addr, u16),
    server: (Ipv4Addr, u16),
}

/// A node port: the NIC sees the client, the bridge and the pod's veth see the node and the pod.
const NODE_PORT: [Passage; 3] = [
    Passage {
        interface: 0,
        client: (Ipv4Addr::new(203, 0, 113, 9), 40_112),
        server: (Ipv4Addr::new(10, 77, 0, 11), 30_443),
    },
    Passage {
        interface: 1,
        client: (Ipv4Addr::new(10, 77, 0, 11), 61_200),
        server: (Ipv4Addr::new(10, 244, 1, 7), 8443),
    },
    Passage {
        interface: 2,
        client: (Ipv4Addr::new(10, 77, 0, 11), 61_200),
        server: (Ipv4Addr::new(10, 244, 1, 7), 8443),
    },
];

/// A table and the merger behind it.
struct Bench {
    rig: Rig,
    merger: ViewMerger,
}

impl Bench {
    fn new(settings: MergeSettings) -> Self {
        Self {
            rig: Rig::new(FlowSettings::default()),
            merger: ViewMerger::new(settings, SEED),
        }
    }

    fn take(&mut self) -> Vec<FlowEvent> {
        while let Some(event) = self.rig.table.poll_event() {
            self.merger.handle_event(event);
        }
        std::iter::from_fn(|| self.merger.poll_event()).collect()
    }

    /// A frame captured on an interface at a time.
    fn feed(&mut self, at: TimeNs, interface: u16, segment: &Segment) -> Vec<FlowEvent> {
        self.rig.number += 1;
        let bytes = segment.frame();
        let frame = Frame {
            link: LinkType::ETHERNET,
            interface,
            number: self.rig.number,
            bytes: &bytes,
        };
        self.rig.table.handle_packet(at, &frame);
        self.take()
    }

    /// All copies of a segment, one millisecond after the last segment and ten microseconds apart.
    fn pass(&mut self, segment: &Segment, passages: &[Passage]) -> Vec<FlowEvent> {
        self.rig.now += MILLISECOND;
        let mut events = Vec::new();
        for (passage, n) in passages.iter().zip(0..) {
            let at = self.rig.now + n * 10 * MICROSECOND;
            events.extend(self.feed(at, passage.interface, &translated(segment, passage)));
        }
        events
    }

    fn pass_all(&mut self, segments: &[Segment], passages: &[Passage]) -> Vec<FlowEvent> {
        segments
            .iter()
            .flat_map(|segment| self.pass(segment, passages))
            .collect()
    }

    /// Runs the merger's timers up to so long after now.
    fn wait(&mut self, wait: TimeNs) -> Vec<FlowEvent> {
        self.rig.now += wait;
        self.merger.handle_timeout(self.rig.now);
        self.take()
    }
}

/// The segment as it is on a passage: the client of a talk is `10.0.0.9`.
fn translated(segment: &Segment, passage: &Passage) -> Segment {
    let is_from_client = segment.src.0 == Ipv4Addr::new(10, 0, 0, 9);
    let (src, dst) = if is_from_client {
        (passage.client, passage.server)
    } else {
        (passage.server, passage.client)
    };
    Segment {
        src,
        dst,
        ..segment.clone()
    }
}

fn opening(talk: &mut Talk, mark: u8) -> Vec<Segment> {
    let mut segments = talk.handshake();
    segments.push(talk.client(ACK, &hello(mark)));
    segments
}

fn going_on(talk: &mut Talk) -> Vec<Segment> {
    vec![
        talk.server(ACK, &[22, 3, 3, 0, 1, 2]),
        talk.client(ACK, &[20, 3, 3, 0, 1, 1, 23, 3, 3]),
    ]
}

fn ending(talk: &mut Talk) -> Vec<Segment> {
    vec![
        talk.client(ACK | FIN, &[]),
        talk.server(ACK | FIN, &[]),
        talk.client(ACK, &[]),
    ]
}

fn text(pair: &Pair) -> String {
    let end = |end: sensor_flow::Endpoint| {
        let [.., a, b, c, d] = end.ip.0;
        format!("{a}.{b}.{c}.{d}:{}", end.port)
    };
    format!("{}>{}", end(pair.client), end(pair.server))
}

#[test]
fn a_connection_behind_address_translation_is_told_of_once() {
    let mut bench = Bench::new(MergeSettings::default());
    let mut talk = Talk::new(1);
    let mut events = bench.pass_all(&opening(&mut talk, 7), &NODE_PORT);
    assert_eq!(words(&events), Vec::<String>::new(), "it waits for other views");
    events.extend(bench.pass_all(&going_on(&mut talk), &NODE_PORT));
    events.extend(bench.wait(300 * MILLISECOND));
    events.extend(bench.pass_all(&ending(&mut talk), &NODE_PORT));
    assert_eq!(words(&events), ["hello0", "fin0"]);
    let hello = &hellos(&events)[0].conn;
    assert_eq!(text(&hello.pair), "203.0.113.9:40112>10.77.0.11:30443");
    let views: Vec<String> = hello.views.iter().map(text).collect();
    assert_eq!(views, ["10.77.0.11:61200>10.244.1.7:8443"]);
    assert_eq!(
        hello.confirmed,
        sensor_flow::Confirmed::Followed,
        "as far as it rose while it waited"
    );
    assert_eq!(
        bench.merger.counters().merged,
        1,
        "the same pair on two interfaces is the table's affair"
    );
    bench.wait(3 * SECOND);
    assert_eq!((bench.merger.n_held(), bench.merger.n_folded()), (0, 0));
}

#[test]
fn the_view_captured_first_is_the_outermost_in_whatever_order_interfaces_are_read() {
    let mut bench = Bench::new(MergeSettings::default());
    let mut talk = Talk::new(1);
    let segments = opening(&mut talk, 7);
    let start = bench.rig.now;
    // The veth's ring is emptied before the NIC's.
    for passage in [NODE_PORT[2], NODE_PORT[0]] {
        for (segment, n) in segments.iter().zip(0..) {
            let at = start + n * MILLISECOND + TimeNs::from(passage.interface) * 10 * MICROSECOND;
            bench.feed(at, passage.interface, &translated(segment, &passage));
        }
    }
    bench.rig.now = start + 10 * MILLISECOND;
    let mut events = bench.wait(300 * MILLISECOND);
    events.extend(bench.pass_all(&going_on(&mut talk), &[NODE_PORT[2], NODE_PORT[0]]));
    // The veth's was the table's first connection, the NIC's is the one that is told of.
    assert_eq!(words(&events), ["hello0", "acked1", "followed1"]);
    assert_eq!(
        text(&hellos(&events)[0].conn.pair),
        "203.0.113.9:40112>10.77.0.11:30443"
    );
}

/// From a proxy on the host's network to a pod.
const BEHIND_PROXY: Passage = Passage {
    interface: 0,
    client: (Ipv4Addr::new(10, 77, 0, 11), 51_000),
    server: (Ipv4Addr::new(10, 244, 2, 3), 8443),
};

#[test]
fn a_proxy_that_passes_tls_on_is_a_view() {
    let mut bench = Bench::new(MergeSettings::default());
    let (mut outside, mut inside) = (Talk::new(1), Talk::new(2));
    inside.client_next = 77;
    let mut events = bench.pass_all(&opening(&mut outside, 7), &NODE_PORT[..1]);
    events.extend(bench.pass_all(&opening(&mut inside, 7), &[BEHIND_PROXY]));
    events.extend(bench.wait(300 * MILLISECOND));
    events.extend(bench.pass_all(&going_on(&mut inside), &[BEHIND_PROXY]));
    events.extend(bench.pass_all(&ending(&mut inside), &[BEHIND_PROXY]));
    events.extend(bench.pass_all(&ending(&mut outside), &NODE_PORT[..1]));
    assert_eq!(words(&events), ["hello0", "acked0", "followed0", "fin0"]);
    assert_eq!(hellos(&events)[0].conn.views.len(), 1);
}

#[test]
fn an_interface_whose_ring_is_read_late_does_not_end_the_connection() {
    // The same addresses on card and bridge; the bridge's ring is read when the card's connection has got so far.
    let [card, bridge] = [0, 1].map(|interface| Passage {
        interface,
        ..NODE_PORT[0]
    });
    for n_ahead in 0..=7 {
        let mut bench = Bench::new(MergeSettings::default());
        let mut talk = Talk::new(1);
        let mut segments = opening(&mut talk, 7);
        segments.extend(going_on(&mut talk));
        segments.push(talk.server(ACK, &[23, 3, 3, 0, 1, 9]));
        segments.push(talk.client(ACK, &[23, 3, 3, 0, 1, 8]));
        segments.extend(ending(&mut talk));
        let (n, start) = (segments.len(), bench.rig.now);
        let mut events = Vec::new();
        for (interface, part) in [
            (card, 0..n_ahead),
            (bridge, 0..n - 3),
            (card, n_ahead..n),
            (bridge, n - 3..n),
        ] {
            // Captured at the same times on both, taken later.
            bench.rig.now = start + TimeNs::try_from(part.start).unwrap() * MILLISECOND;
            events.extend(bench.pass_all(&segments[part], &[interface]));
        }
        events.extend(bench.wait(300 * MILLISECOND));
        let told: Vec<String> = words(&events)
            .into_iter()
            .filter(|word| !word.starts_with("acked") && !word.starts_with("followed"))
            .collect();
        assert_eq!(told, ["hello0", "fin0"], "{n_ahead} segments ahead");
        let end = events.iter().find_map(|event| match event {
            FlowEvent::Close { at, .. } => Some(*at),
            _ => None,
        });
        // The last acknowledgement comes behind the second FIN.
        let ended = start + TimeNs::try_from(n - 1).unwrap() * MILLISECOND;
        assert!(
            end.is_some_and(|end| (end - ended).abs() < MILLISECOND),
            "{n_ahead} segments ahead: {end:?} {ended}"
        );
    }
}

#[test]
fn a_balancer_that_names_its_client_is_a_view_with_that_name() {
    // The header comes alone, with the hello, or cut in two.
    for cuts in [&[47][..], &[], &[20, 60]] {
        let mut bench = Bench::new(MergeSettings::default());
        let (mut outside, mut inside) = (Talk::new(1), Talk::new(2));
        let header = b"PROXY TCP4 203.0.113.9 10.77.0.11 40112 30443\r\n";
        let stream = [&header[..], &hello(7)].concat();
        let mut segments = inside.handshake();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([stream.len()]) {
            segments.push(inside.client(ACK, &stream[from..cut]));
            from = cut;
        }
        let mut events = bench.pass_all(&opening(&mut outside, 7), &NODE_PORT[..1]);
        events.extend(bench.pass_all(&segments, &[BEHIND_PROXY]));
        events.extend(bench.wait(300 * MILLISECOND));
        events.extend(bench.pass_all(&going_on(&mut inside), &[BEHIND_PROXY]));
        assert_eq!(
            words(&events),
            ["hello0", "acked0", "followed0"],
            "cut at {cuts:?}"
        );
        let hello = hellos(&events)[0];
        assert_eq!(text(&hello.conn.pair), "203.0.113.9:40112>10.77.0.11:30443");
        assert_eq!(hello.conn.views.len(), 1);
        assert_eq!(hello.proxy_client, Some("203.0.113.9:40112".parse().unwrap()));
    }
}

#[test]
fn a_client_that_repeats_its_random_has_two_connections() {
    let mut bench = Bench::new(MergeSettings::default());
    let mut again = NODE_PORT[0];
    again.client.1 += 1;
    let mut events = bench.pass_all(&opening(&mut Talk::new(1), 7), &NODE_PORT[..1]);
    events.extend(bench.pass_all(&opening(&mut Talk::new(2), 7), &[again]));
    events.extend(bench.wait(300 * MILLISECOND));
    let conns: BTreeSet<ConnId> = hellos(&events).iter().map(|hello| hello.conn.conn).collect();
    assert_eq!(conns.len(), 2);
    assert!(hellos(&events).iter().all(|hello| hello.conn.views.is_empty()));
    assert_eq!(bench.merger.counters().refused, 1);
}

#[test]
fn a_view_that_comes_late_is_told_of_by_the_hello_once_more() {
    let mut bench = Bench::new(MergeSettings::default());
    let mut talk = Talk::new(1);
    let segments = opening(&mut talk, 7);
    let mut events = bench.pass_all(&segments, &NODE_PORT[..1]);
    events.extend(bench.wait(300 * MILLISECOND));
    events.extend(bench.pass_all(&segments, &NODE_PORT[1..2]));
    events.extend(bench.pass_all(&going_on(&mut talk), &NODE_PORT[..2]));
    events.extend(bench.pass_all(&ending(&mut talk), &NODE_PORT[..2]));
    assert_eq!(
        words(&events),
        ["hello0", "hello0", "acked0", "followed0", "fin0"]
    );
    let [first, second] = hellos(&events)[..] else {
        panic!()
    };
    assert_eq!(
        (first.conn.conn, first.conn.pair),
        (second.conn.conn, second.conn.pair)
    );
    assert_eq!((first.conn.views.len(), second.conn.views.len()), (0, 1));
    assert_eq!(bench.merger.counters().late, 1);
}

#[test]
fn a_retried_hello_keeps_its_connection_s_number() {
    let mut bench = Bench::new(MergeSettings::default());
    let mut talk = Talk::new(1);
    let message = hello_message(7);
    let mut retry = vec![2, 0, 0, 38, 3, 3];
    retry.extend(RETRY);
    retry.extend([0, 0x13, 0x01, 0]);
    let mut segments = opening(&mut talk, 7);
    segments.push(talk.server(ACK, &records(&retry, 16_384)));
    segments.push(talk.client(ACK, &records(&message, 16_384)));
    segments.extend(going_on(&mut talk));
    let mut events = bench.pass_all(&segments, &NODE_PORT);
    events.extend(bench.wait(300 * MILLISECOND));
    events.extend(bench.pass_all(&ending(&mut talk), &NODE_PORT));
    let told: Vec<String> = words(&events)
        .into_iter()
        .filter(|word| !word.starts_with("acked"))
        .collect();
    assert_eq!(told, ["hello0", "hello1", "fin0"], "{:?}", words(&events));
    let conns: BTreeSet<ConnId> = hellos(&events).iter().map(|hello| hello.conn.conn).collect();
    assert_eq!(conns.len(), 1);
}

#[test]
fn an_end_while_it_waits_is_told_of_behind_the_hello() {
    let mut bench = Bench::new(MergeSettings::default());
    let mut talk = Talk::new(1);
    let mut segments = opening(&mut talk, 7);
    segments.extend(ending(&mut talk));
    let mut events = bench.pass_all(&segments, &NODE_PORT);
    events.extend(bench.wait(300 * MILLISECOND));
    assert_eq!(words(&events), ["hello0", "fin0"]);
    bench.wait(3 * SECOND);
    assert_eq!(bench.merger.n_folded(), 0);
}

#[test]
fn a_clock_that_is_set_back_holds_nothing() {
    let mut bench = Bench::new(MergeSettings::default());
    bench.pass_all(&opening(&mut Talk::new(1), 7), &NODE_PORT[..1]);
    bench.rig.now -= 3600 * SECOND;
    assert_eq!(words(&bench.wait(0)), ["hello0"]);
}

#[test]
fn over_its_limits_hellos_go_out_at_once() {
    let mut bench = Bench::new(MergeSettings {
        wait: Duration::from_secs(1),
        n_groups_max: 4,
        n_folded_max: 2,
    });
    let mut events = Vec::new();
    for n in 0..20_u16 {
        let mut passages = NODE_PORT;
        for passage in &mut passages {
            passage.client.1 += n;
        }
        events.extend(bench.pass_all(&opening(&mut Talk::new(n), u8::try_from(n).unwrap()), &passages));
    }
    assert_eq!(hellos(&events).len(), 16);
    assert_eq!((bench.merger.n_held(), bench.merger.counters().hurried), (4, 16));
    assert_eq!(
        (bench.merger.n_folded(), bench.merger.counters().forgotten),
        (2, 14)
    );
    bench.merger.flush();
    assert_eq!(hellos(&bench.take()).len(), 4, "the end lets all out");
}

/// Interfaces are read in turns of random length; what is told must not depend on it but for late views.
#[test]
fn prop_any_order_of_reading_tells_each_connection_once() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    for _history in 0..400 {
        let mut bench = Bench::new(MergeSettings::default());
        let start = bench.rig.now;
        let mut rings: [Vec<(TimeNs, Segment)>; 3] = Default::default();
        let n_conns = 1 + below(6);
        for n in 0..n_conns {
            let mut passages = NODE_PORT;
            // The veth of another pod sees nothing of it.
            let n_passages = 1 + usize::try_from(below(3)).unwrap();
            for passage in &mut passages {
                passage.client.1 += u16::try_from(n).unwrap();
            }
            let mut talk = Talk::new(1);
            talk.client_next = u32::try_from(below(1 << 32)).unwrap();
            let mut segments = opening(&mut talk, u8::try_from(n).unwrap());
            segments.extend(going_on(&mut talk));
            segments.extend(ending(&mut talk));
            let mut at = start + TimeNs::try_from(below(20)).unwrap() * MILLISECOND;
            for segment in &segments {
                at += TimeNs::try_from(1 + below(20)).unwrap() * 100 * MICROSECOND;
                for (passage, hop) in passages[..n_passages].iter().zip(0..) {
                    let copy = translated(segment, passage);
                    rings[usize::from(passage.interface)].push((at + hop * 7 * MICROSECOND, copy));
                }
            }
        }
        for ring in &mut rings {
            ring.sort_by_key(|(at, _)| *at);
            ring.reverse();
        }
        let mut events = Vec::new();
        while rings.iter().any(|ring| !ring.is_empty()) {
            let which = usize::try_from(below(3)).unwrap();
            for _frame in 0..=below(8) {
                if let Some((at, segment)) = rings[which].pop() {
                    events.extend(bench.feed(at, u16::try_from(which).unwrap(), &segment));
                }
            }
        }
        bench.rig.now = start + SECOND;
        events.extend(bench.wait(SECOND));
        let mut told: BTreeMap<ConnId, u32> = BTreeMap::new();
        let mut closed = BTreeSet::new();
        for event in &events {
            match event {
                FlowEvent::Hello(_, hello) => {
                    assert_eq!(
                        hello.conn.pair.server.port, 30_443,
                        "the NIC's view is the outermost"
                    );
                    *told.entry(hello.conn.conn).or_default() += 1;
                }
                FlowEvent::Confirm { conn, .. } => assert!(told.contains_key(conn), "{events:?}"),
                FlowEvent::Close { conn, .. } => {
                    assert!(told.contains_key(conn) && closed.insert(*conn), "{events:?}");
                }
                FlowEvent::Open(..) => panic!("no plain port is set"),
            }
        }
        assert_eq!(told.len() as u64, n_conns, "{events:?}");
        bench.wait(5 * SECOND);
        assert_eq!(bench.merger.n_folded(), 0);
    }
}
