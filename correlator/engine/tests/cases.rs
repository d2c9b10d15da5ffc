//! The numbered cases of the join, one test each, named after what must hold.
//!
//! Case 17 (X-Forwarded-For), 32 and 33 (sinks), 35 (garbage on the wire) belong to the shell: no header,
//! sink or byte reaches the engine. Case 36 is superseded. 37 is `oracle.rs`. 38, conservation, is checked by the
//! harness after every input and at the end of each case.

mod common;

use std::time::Duration;

use common::{
    BASE, Harness, Input, MS, S, close, confirm, endpoint, event, hello, opened, pair, request, settled,
    usual,
};
use correlator_engine::{
    Alpn, CloseReason, Confirmed, ConnUid, ConnectionEvent, Contradictions, DropReason, Gap, Hello,
    HttpVersion, KeySource, Match, NoneReason, Pair, RequestEnd, Scheme, ServerSide, Settings, Transport,
};

fn end(seq: u64) -> Input {
    Input::End(RequestEnd {
        source: 1,
        boot: 1,
        request_seq: seq,
        weight: 50,
        payload: 0,
    })
}

#[track_caller]
fn assert_joined(harness: &Harness, payload: u32, verdict: Match, uid: u128) {
    let joined = harness.joined(payload);
    let conn = joined.conn.as_ref().map(|conn| conn.conn_uid);
    assert_eq!((joined.verdict, conn), (verdict, Some(ConnUid(uid))));
}

#[track_caller]
fn assert_none(harness: &Harness, payload: u32, reason: NoneReason) {
    let joined = harness.joined(payload);
    assert_eq!(
        (joined.verdict, joined.conn.is_none()),
        (Match::None(reason), true)
    );
}

#[test]
fn case_01_tls_then_http_is_asof() {
    let mut h = Harness::new(settled());
    let tls = h.hello(0, 1, 0, hello(1, usual(), 0));
    let made = h.request(30 * MS, request(0, usual(), 20 * MS));
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    let joined = h.joined(made);
    assert_eq!(joined.conn.as_ref().map(|conn| conn.payload), Some(tls));
    assert_eq!(
        (joined.delta_us, joined.conn_req_index, joined.key_source),
        (Some(20_000), 0, KeySource::Wire)
    );
    h.finish();
}

#[test]
fn case_02_http_before_tls_inside_orphan_wait_is_joined() {
    let mut h = Harness::new(settled());
    let made = h.request(30 * MS, request(0, usual(), 20 * MS));
    h.hello(529 * MS, 1, 0, hello(1, usual(), 0));
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    assert_eq!(
        h.joined_at(made).0,
        530 * MS,
        "held for orphan_wait and no longer"
    );
    h.finish();
}

#[test]
fn case_03_http_before_tls_just_outside_orphan_wait_is_none() {
    let mut h = Harness::new(settled());
    let made = h.request(30 * MS, request(0, usual(), 20 * MS));
    h.hello(530 * MS, 1, 0, hello(1, usual(), 0));
    h.pass(S);
    assert_none(&h, made, NoneReason::NoConn);
    h.finish();
}

#[test]
fn case_04_equal_timestamps_are_joined() {
    let mut h = Harness::new(settled());
    let mut tls = hello(1, usual(), 0);
    tls.open_ts_ns = None;
    h.hello(0, 1, 0, tls);
    let made = h.request(0, request(0, usual(), 0));
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    h.finish();
}

#[test]
fn case_05_http_before_tls_by_less_than_the_skew_is_joined_and_by_more_is_not() {
    let check = |node: u32, resolution_ns: u64, early: i64, joined: bool| {
        let mut h = Harness::new(settled());
        let mut tls = hello(1, usual(), S);
        tls.open_ts_ns = None;
        h.hello(S, 1, node, tls);
        let mut made = request(0, usual(), S - early);
        made.resolution_ns = resolution_ns;
        let made = h.request(S, made);
        h.pass(2 * S);
        assert_eq!(
            h.joined(made).conn.is_some(),
            joined,
            "node {node}, {early} ns before"
        );
        h.finish();
    };
    check(0, 1, 5 * MS, true);
    check(0, 1, 5 * MS + 1, false);
    check(7, 1, 250 * MS, true);
    check(7, 1, 250 * MS + 1, false);
    // Never finer than the clock of the source.
    check(0, 1_000_000_000, S, true);
    check(0, 1_000_000_000, S + 1, false);
}

#[test]
fn case_06_a_thousand_requests_with_long_gaps_stay_on_their_connection() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    let mut payloads = vec![];
    for n in 0..1_000_u32 {
        let t = i64::from(n) * 600 * MS + i64::from(n / 33) * 20 * S;
        h.pass(t);
        let mut made = request(u64::from(n), usual(), t);
        made.conn_id = Some(77);
        made.req_index = Some(n);
        payloads.push(h.request(t, made));
    }
    h.pass(10_000 * S);
    for (n, payload) in payloads.iter().enumerate() {
        assert_joined(&h, *payload, if n == 0 { Match::Asof } else { Match::Exact }, 1);
        assert_eq!(h.joined(*payload).conn_req_index as usize, n);
    }
    h.finish();
}

#[test]
fn case_07_a_gap_of_hours_does_not_end_a_connection() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.put(5 * S, close(1, 5 * S, CloseReason::Idle));
    h.pass(36_000 * S);
    let made = h.request(36_000 * S, request(0, usual(), 36_000 * S));
    h.pass(36_001 * S);
    assert_joined(&h, made, Match::Asof, 1);
    h.finish();
}

#[test]
fn case_08_a_gap_just_under_keep_alive_is_the_same_connection() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    let first = h.request(10 * MS, request(0, usual(), 5 * MS));
    let second = h.request(74_999 * MS, request(1, usual(), 74_990 * MS));
    h.put(75_000 * MS, close(1, 75_000 * MS, CloseReason::Fin));
    h.pass(80 * S);
    assert_joined(&h, first, Match::Asof, 1);
    assert_joined(&h, second, Match::Asof, 1);
    h.finish();
}

#[test]
fn case_09_port_reuse_after_fin_is_the_new_connection() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.put(S, close(1, S, CloseReason::Fin));
    h.hello(2 * S, 2, 0, hello(2, usual(), 2 * S));
    let made = h.request(2_010 * MS, request(0, usual(), 2_005 * MS));
    h.pass(4 * S);
    assert_joined(&h, made, Match::Asof, 2);
    h.finish();
}

#[test]
fn case_10_port_reuse_without_fin_is_the_new_connection_once_confirmed() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.hello(60 * S, 2, 0, hello(2, usual(), 60 * S));
    let made = h.request(60_020 * MS, request(0, usual(), 60_010 * MS));
    h.pass(62 * S);
    assert_joined(&h, made, Match::Asof, 2);
    // The first one is over: it is forgotten late_retention after it was replaced.
    h.pass(91 * S);
    assert_eq!(h.engine.memory().connections, 1);
    h.finish();
}

#[test]
fn case_11_late_request_of_the_old_generation_is_joined_to_it() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.hello(10 * S, 2, 0, hello(2, usual(), 10 * S));
    let mut made = request(0, usual(), 5 * S);
    made.duration_ns = 4_900_000_000;
    let made = h.request(11 * S, made);
    h.pass(12 * S);
    assert_joined(&h, made, Match::Asof, 1);
    h.finish();
}

#[test]
fn case_12_reuse_inside_the_skew_is_ambiguous_and_the_index_chooses() {
    let check = |http: HttpVersion, req_index: Option<u32>, uid: u128| {
        let mut h = Harness::new(settled());
        h.hello(0, 1, 0, hello(1, usual(), 0));
        h.put(S, close(1, S, CloseReason::Fin));
        h.hello(S + 2 * MS, 2, 0, hello(2, usual(), S + 2 * MS));
        let mut made = request(0, usual(), S + MS);
        made.http = http;
        made.req_index = req_index;
        let made = h.request(S + 10 * MS, made);
        h.pass(2 * S);
        assert_joined(&h, made, Match::Ambiguous, uid);
        h.finish();
    };
    check(HttpVersion::Http1, Some(0), 2);
    check(HttpVersion::Http1, Some(3), 1);
    check(HttpVersion::Http1, None, 2);
    check(HttpVersion::Http2, Some(3), 2);
}

#[test]
fn case_12_an_ambiguous_join_binds_nothing() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.put(S, close(1, S, CloseReason::Fin));
    h.hello(S + 2 * MS, 2, 0, hello(2, usual(), S + 2 * MS));
    let mut first = request(0, usual(), S + MS);
    first.conn_id = Some(5);
    let first = h.request(S + 10 * MS, first);
    let mut second = request(1, usual(), 2 * S);
    second.conn_id = Some(5);
    let second = h.request(2 * S, second);
    h.pass(3 * S);
    assert_joined(&h, first, Match::Ambiguous, 2);
    assert_joined(&h, second, Match::Asof, 2);
    h.finish();
}

#[test]
fn case_13_retransmitted_hello_is_one_row() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.hello(50 * MS, 1, 0, hello(1, usual(), 50 * MS));
    h.pass(S);
    let rows = h.tls_rows();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].0, rows[0].1.repeats), (200 * MS, 1));
    assert_eq!(
        h.finish()
            .counters
            .connections
            .dropped_for(DropReason::DuplicateHello),
        1
    );
}

/// One hello as a node sees it inside, and as another sees it outside.
fn seen_by_two_nodes(inner: Pair, outer: Pair) -> [Hello<u32>; 2] {
    let mut first = hello(1, inner, S + MS);
    first.client_random = Some([3; 32]);
    let mut second = hello(2, outer, S);
    second.client_random = Some([3; 32]);
    second.views = vec![inner];
    [first, second]
}

#[test]
fn case_13_the_same_hello_from_two_nodes_is_one_row_with_both_views() {
    let outer = usual();
    let inner = pair("10.0.0.1:50001", "10.0.0.2:8443");
    let mut h = Harness::new(settled());
    // Both nodes are known before, so rows wait for each other.
    h.hello(0, 101, 0, hello(101, pair("192.0.2.9:1", "198.51.100.1:443"), 0));
    h.hello(0, 102, 1, hello(102, pair("192.0.2.9:2", "198.51.100.1:443"), 0));
    let [first, second] = seen_by_two_nodes(inner, outer);
    h.hello(S, 1, 0, first);
    h.hello(1_900 * MS, 2, 1, second);
    let by_inner = h.request(1_910 * MS, request(0, inner, 1_905 * MS));
    let by_outer = h.request(1_920 * MS, request(1, outer, 1_915 * MS));
    h.put(
        1_930 * MS,
        event(
            2,
            1,
            ConnectionEvent::Confirm {
                confirmed: Confirmed::Followed,
            },
        ),
    );
    h.pass(5 * S);
    assert_joined(&h, by_inner, Match::Asof, 1);
    assert_joined(&h, by_outer, Match::Asof, 1);
    for request in [by_inner, by_outer] {
        assert_eq!(h.joined(request).conn.as_ref().map(|conn| conn.pair), Some(outer));
    }
    let rows = h.tls_rows();
    let row = rows
        .iter()
        .find(|(_, row)| row.conn_uid == ConnUid(1))
        .expect("one row");
    assert_eq!(row.0, 3 * S, "held for merge_wait");
    assert_eq!(
        (row.1.pair, row.1.views.as_slice(), row.1.repeats),
        (outer, [inner].as_slice(), 1)
    );
    assert_eq!(row.1.confirmed, Confirmed::Followed);
    assert_eq!(rows.len(), 3);
    assert_eq!(
        h.finish()
            .counters
            .connections
            .dropped_for(DropReason::MergedHello),
        1
    );
}

#[test]
fn case_13b_a_request_that_waits_for_its_end_gets_the_view_that_came_meanwhile() {
    let outer = usual();
    let inner = pair("10.0.0.1:50001", "10.0.0.2:8443");
    let mut h = Harness::new(settled());
    h.hello(0, 102, 1, hello(102, pair("192.0.2.9:2", "198.51.100.1:443"), 0));
    let [first, second] = seen_by_two_nodes(inner, outer);
    h.hello(S, 1, 0, first);
    let mut made = request(0, inner, S + 5 * MS);
    made.end_follows = true;
    let waiting = h.request(S + 10 * MS, made);
    // It is decided, with the inner view, and waits.
    h.pass(S + 600 * MS);
    assert!(!h.is_out(waiting));
    h.hello(S + 700 * MS, 2, 1, second);
    h.put(S + 800 * MS, end(0));
    assert_joined(&h, waiting, Match::Asof, 1);
    assert_eq!(h.joined(waiting).conn.as_ref().map(|conn| conn.pair), Some(outer));
}

#[test]
fn case_14_the_same_event_id_is_one_request() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.request(10 * MS, request(0, usual(), 5 * MS));
    h.request(20 * MS, request(0, usual(), 5 * MS));
    h.pass(S);
    h.request(2 * S, request(0, usual(), 5 * MS));
    let counters = h.finish().counters;
    assert_eq!(counters.requests.passed, 1);
    assert_eq!(counters.requests.dropped_for(DropReason::DuplicateRequest), 2);
}

#[test]
fn case_15_mapped_and_plain_ipv4_are_one_client() {
    let mut h = Harness::new(settled());
    h.hello(
        0,
        1,
        0,
        hello(1, pair("[::ffff:192.0.2.1]:40000", "198.51.100.1:443"), 0),
    );
    let made = h.request(
        10 * MS,
        request(0, pair("192.0.2.1:40000", "198.51.100.1:443"), 5 * MS),
    );
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    h.finish();
}

#[test]
fn case_16_a_zone_is_no_part_of_the_client() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, pair("[fe80::1%3]:40000", "[fe80::2]:443"), 0));
    let made = h.request(
        10 * MS,
        request(0, pair("[fe80::1]:40000", "[fe80::2]:443"), 5 * MS),
    );
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    h.finish();
}

#[test]
fn case_18_proxy_address_finds_a_sensor_in_front_of_the_load_balancer() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, pair("192.0.2.1:40000", "203.0.113.1:443"), 0));
    let mut made = request(0, pair("10.0.0.5:33000", "10.0.0.9:443"), 5 * MS);
    made.proxy_client = Some(endpoint("192.0.2.1:40000"));
    let made = h.request(10 * MS, made);
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    assert_eq!(h.joined(made).key_source, KeySource::Proxy);
    h.finish();
}

#[test]
fn case_18_wire_address_wins_for_a_sensor_behind_the_load_balancer() {
    let mut h = Harness::new(Settings {
        server_side: ServerSide::Strict,
        ..settled()
    });
    let behind = pair("10.0.0.5:33000", "10.0.0.9:443");
    h.hello(0, 1, 0, hello(1, behind, 0));
    // Someone else's direct connection has the address that the PROXY header names.
    h.hello(0, 2, 0, hello(2, pair("192.0.2.1:40000", "203.0.113.1:443"), 0));
    let mut made = request(0, behind, 5 * MS);
    made.proxy_client = Some(endpoint("192.0.2.1:40000"));
    let made = h.request(10 * MS, made);
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    assert_eq!(h.joined(made).key_source, KeySource::Wire);
    h.finish();
}

#[test]
fn case_19_clients_behind_one_address_are_told_apart_by_port() {
    let mut h = Harness::new(settled());
    let client = |n: u16| pair(&format!("192.0.2.1:{}", 20_000 + n), "198.51.100.1:443");
    for n in 0..2_000 {
        h.hello(
            i64::from(n),
            u128::from(n),
            0,
            hello(u128::from(n), client(n), i64::from(n)),
        );
    }
    let payloads: Vec<u32> = (0..2_000)
        .map(|n| h.request(10 * MS, request(u64::from(n), client(n), 9 * MS)))
        .collect();
    h.pass(S);
    for (n, payload) in payloads.into_iter().enumerate() {
        assert_joined(&h, payload, Match::Asof, n as u128);
    }
    h.finish();
}

#[test]
fn case_20_translated_addresses_never_meet_and_the_count_says_so() {
    let mut h = Harness::new(settled());
    for n in 0..100_u16 {
        let t = i64::from(n) * MS;
        let seen = pair(&format!("192.0.2.1:{}", 20_000 + n), "198.51.100.1:443");
        h.hello(t, u128::from(n), 0, hello(u128::from(n), seen, t));
        let made = pair(&format!("10.0.0.1:{}", 50_000 + n), "10.0.0.2:8443");
        h.request(t, request(u64::from(n), made, t));
    }
    h.pass(S);
    assert_eq!(h.finish().counters.joined.none_for(NoneReason::NoConn), 100);
}

#[test]
fn case_20_a_view_makes_translated_addresses_meet() {
    let mut h = Harness::new(settled());
    let inner = pair("10.0.0.1:50000", "10.0.0.2:8443");
    let mut tls = hello(1, usual(), 0);
    tls.views = vec![inner];
    h.hello(0, 1, 0, tls);
    let made = h.request(10 * MS, request(0, inner, 5 * MS));
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    assert_eq!(h.joined(made).conn.as_ref().map(|conn| conn.pair), Some(usual()));
    h.finish();
}

#[test]
fn case_21_interleaved_http2_streams_share_the_connection() {
    let mut h = Harness::new(settled());
    let mut tls = hello(1, usual(), 0);
    tls.facts.alpn = Alpn::HTTP2.with(Alpn::HTTP1);
    h.hello(0, 1, 0, tls);
    let payloads: Vec<u32> = (0..100_u32)
        .map(|n| {
            let mut made = request(u64::from(n * 7 % 100), usual(), 5 * MS + i64::from(n % 10));
            made.http = HttpVersion::Http2;
            made.conn_id = Some(9);
            h.request(10 * MS + i64::from(n) * MS, made)
        })
        .collect();
    h.pass(2 * S);
    for payload in payloads {
        assert_eq!(
            h.joined(payload).conn.as_ref().map(|conn| conn.conn_uid),
            Some(ConnUid(1))
        );
        assert!(h.joined(payload).contradictions.is_empty());
    }
    let joined = h.finish().counters.joined;
    assert_eq!((joined.asof, joined.exact), (1, 99));
}

#[test]
fn case_22_coalesced_host_is_marked_and_lowers_nothing() {
    let mut h = Harness::new(settled());
    let mut tls = hello(1, usual(), 0);
    tls.facts.sni_hash = Some(1);
    h.hello(0, 1, 0, tls);
    let mut made = request(0, usual(), 5 * MS);
    made.facts.host_hash = Some(2);
    let made = h.request(10 * MS, made);
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    assert_eq!(
        h.joined(made).contradictions.names().collect::<Vec<_>>(),
        ["sni_host"]
    );
    h.finish();
}

#[test]
fn contradictions_of_the_servers_own_knowledge_lower_the_match() {
    let check = |change: fn(&mut correlator_engine::RequestInput<u32>), mark: Contradictions| {
        let mut h = Harness::new(settled());
        let mut tls = hello(1, usual(), 0);
        tls.facts.ja4_hash = Some(1);
        tls.facts.sni_hash = Some(1);
        tls.facts.alpn = Alpn::HTTP1;
        h.hello(0, 1, 0, tls);
        let mut made = request(0, usual(), 5 * MS);
        change(&mut made);
        let made = h.request(10 * MS, made);
        h.pass(S);
        assert_joined(&h, made, Match::Ambiguous, 1);
        assert!(h.joined(made).contradictions.contains(mark));
        h.finish();
    };
    check(|r| r.facts.ja4_hash = Some(2), Contradictions::JA4);
    check(|r| r.facts.sni_hash = Some(2), Contradictions::SNI_SERVER);
    check(|r| r.http = HttpVersion::Http2, Contradictions::ALPN);
    check(|r| r.scheme = Scheme::Http, Contradictions::SCHEME);
}

#[test]
fn case_23_plain_http_joins_its_connection_without_a_hello() {
    let mut h = Harness::new(settled());
    let plain = pair("192.0.2.1:40000", "198.51.100.1:80");
    h.open(0, 1, opened(plain, 0));
    let mut watched = request(0, plain, 5 * MS);
    watched.scheme = Scheme::Http;
    let watched = h.request(10 * MS, watched);
    let mut unwatched = request(1, pair("192.0.2.1:40001", "198.51.100.1:80"), 5 * MS);
    unwatched.scheme = Scheme::Http;
    let unwatched = h.request(10 * MS, unwatched);
    h.pass(S);
    assert_joined(&h, watched, Match::Asof, 1);
    assert!(
        h.joined(watched)
            .conn
            .as_ref()
            .is_some_and(|conn| !conn.has_hello)
    );
    assert_none(&h, unwatched, NoneReason::Plaintext);
    h.finish();
}

#[test]
fn case_24_a_hello_without_request_is_a_row() {
    let mut h = Harness::new(settled());
    let mut lone = hello(1, usual(), 0);
    lone.confirmed = Confirmed::None;
    h.hello(0, 1, 0, lone);
    h.pass(S);
    let rows = h.tls_rows();
    assert_eq!(
        (rows.len(), rows[0].0, rows[0].1.confirmed),
        (1, 200 * MS, Confirmed::None)
    );
    h.finish();
}

#[test]
fn a_row_carries_the_confirmation_that_came_after_the_hello() {
    let mut h = Harness::new(settled());
    for uid in [1, 2] {
        let mut tls = hello(uid, pair(&format!("192.0.2.1:{uid}"), "198.51.100.1:443"), 0);
        tls.confirmed = Confirmed::None;
        h.hello(0, uid, 0, tls);
    }
    for uid in [1, 2] {
        h.put(MS, confirm(uid, Confirmed::Acked));
    }
    h.put(3 * MS, confirm(1, Confirmed::Followed));
    h.pass(S);
    let rows = h.tls_rows();
    assert_eq!(
        (rows[0].0, rows[0].1.confirmed),
        (3 * MS, Confirmed::Followed),
        "at once: it rises no more"
    );
    assert_eq!((rows[1].0, rows[1].1.confirmed), (200 * MS, Confirmed::Acked));
    h.finish();
}

#[test]
fn case_25_early_data_before_the_handshake_ends_is_joined() {
    let mut h = Harness::new(settled());
    let mut tls = hello(1, usual(), 0);
    tls.confirmed = Confirmed::None;
    h.hello(0, 1, 0, tls);
    let made = h.request(100_000, request(0, usual(), 50_000));
    h.put(2 * MS, confirm(1, Confirmed::Acked));
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    h.finish();
}

#[test]
fn case_26_encrypted_hello_or_none_is_no_contradiction() {
    let mut h = Harness::new(settled());
    let mut ech = hello(1, usual(), 0);
    ech.facts.sni_hash = Some(1);
    ech.facts.ech = true;
    h.hello(0, 1, 0, ech);
    let other = pair("192.0.2.1:40001", "198.51.100.1:443");
    h.hello(0, 2, 0, hello(2, other, 0));
    for (seq, pair, uid) in [(0, usual(), 1), (1, other, 2)] {
        let mut made = request(seq, pair, 5 * MS);
        made.facts.sni_hash = Some(2);
        made.facts.host_hash = Some(2);
        let t = S * i64::try_from(seq).expect("small") + 10 * MS;
        let made = h.request(t, made);
        h.pass(t + S);
        assert_joined(&h, made, Match::Asof, uid);
        assert!(h.joined(made).contradictions.is_empty());
    }
    h.finish();
}

#[test]
fn case_27_a_bound_connection_follows_whatever_the_clocks_say() {
    for jump in [2 * S, -2 * S, -3_600 * S] {
        let mut h = Harness::new(settled());
        h.hello(10 * S, 1, 0, hello(1, usual(), 10 * S));
        let mut first = request(0, usual(), 10_010 * MS);
        first.conn_id = Some(5);
        h.request(10_020 * MS, first);
        h.pass(11 * S);
        let mut second = request(1, usual(), 11 * S + jump);
        second.conn_id = Some(5);
        let second = h.request(11 * S, second);
        assert_joined(&h, second, Match::Exact, 1);
        assert_eq!(h.joined(second).key_source, KeySource::Binding);
        h.finish();
    }
}

#[test]
fn case_27_a_source_that_is_two_seconds_behind_is_none_until_its_time_fits() {
    let mut h = Harness::new(settled());
    h.hello(10 * S, 1, 0, hello(1, usual(), 10 * S));
    let slow = |seq: u64, t: i64| {
        let mut made = request(seq, usual(), t - 2 * S);
        made.conn_id = Some(5);
        made
    };
    let first = h.request(10_100 * MS, slow(0, 10_100 * MS));
    h.pass(11 * S);
    assert_none(&h, first, NoneReason::NoConn);
    let later = h.request(13 * S, slow(1, 13 * S));
    h.pass(14 * S);
    assert_joined(&h, later, Match::Asof, 1);
    h.finish();
}

#[test]
fn case_27_a_sensor_clock_that_jumps_back_costs_no_bound_connection() {
    let mut h = Harness::new(settled());
    h.hello(10 * S, 1, 0, hello(1, usual(), 10 * S));
    // The same port again, and the clock now says two seconds earlier: it looks like the older one.
    h.hello(11 * S, 2, 0, hello(2, usual(), 9 * S));
    let mut first = request(0, usual(), 9 * S + 10 * MS);
    first.conn_id = Some(6);
    let first = h.request(11 * S + 10 * MS, first);
    h.pass(12 * S);
    assert_joined(&h, first, Match::Asof, 2);
    for n in 1..10 {
        let t = 12 * S + n * 20 * S;
        let mut made = request(u64::try_from(n).expect("small"), usual(), t);
        made.conn_id = Some(6);
        let made = h.request(t, made);
        assert_joined(&h, made, Match::Exact, 2);
    }
    h.finish();
}

#[test]
fn case_28_a_restarted_source_counts_and_binds_anew() {
    let mut h = Harness::new(settled());
    let other = pair("192.0.2.1:40001", "198.51.100.1:443");
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.hello(0, 2, 0, hello(2, other, 0));
    let mut first = request(0, usual(), 5 * MS);
    first.conn_id = Some(1);
    let first = h.request(10 * MS, first);
    h.pass(S);
    // After the restart the same number and the same connection id mean something else.
    let mut again = request(0, other, 2 * S);
    again.boot = 2;
    again.conn_id = Some(1);
    let again = h.request(2 * S, again);
    h.pass(3 * S);
    assert_joined(&h, first, Match::Asof, 1);
    assert_joined(&h, again, Match::Asof, 2);
    h.finish();
}

#[test]
fn a_reused_connection_id_with_another_peer_is_not_the_old_connection() {
    let mut h = Harness::new(settled());
    let other = pair("192.0.2.1:40001", "198.51.100.1:443");
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.hello(0, 2, 0, hello(2, other, 0));
    for (seq, pair, uid) in [(0, usual(), 1), (1, other, 2)] {
        let t = S * i64::try_from(seq).expect("small");
        let mut made = request(seq, pair, t);
        made.conn_id = Some(1);
        let made = h.request(t, made);
        h.pass(t + S);
        assert_joined(&h, made, Match::Asof, uid);
    }
    h.finish();
}

#[test]
fn case_29_a_silent_sensor_does_not_hold_requests_and_silent_sources_no_hellos() {
    let mut h = Harness::new(settled());
    for n in 0..600 {
        let made = h.request(
            n * S,
            request(u64::try_from(n).expect("positive"), usual(), n * S),
        );
        h.pass(n * S + 500 * MS);
        assert!(h.is_out(made));
    }
    for n in 600..1_200_u16 {
        let t = i64::from(n) * S;
        h.hello(
            t,
            u128::from(n),
            0,
            hello(
                u128::from(n),
                pair(&format!("192.0.2.2:{n}"), "198.51.100.1:443"),
                t,
            ),
        );
        h.pass(t + 200 * MS);
        assert_eq!(h.tls_rows().len(), usize::from(n) - 599);
    }
    h.finish();
}

#[test]
fn case_30_a_flood_of_unconfirmed_hellos_stays_under_the_cap_and_displaces_little() {
    let cap = 4 << 20;
    let mut h = Harness::new(Settings {
        connection_bytes_max: cap,
        ..settled()
    });
    let client = |n: u32| {
        pair(
            &format!("192.0.{}.{}:40000", n / 250, n % 250),
            "198.51.100.1:443",
        )
    };
    let n_real = 4_000_u32;
    for n in 0..n_real {
        h.hello(i64::from(n), u128::from(n), 0, hello(u128::from(n), client(n), 0));
    }
    h.pass(S);
    let before = h.engine.memory();
    assert_eq!(before.connections, 4_000, "the real ones fit: {before:?}");
    for n in 0..50_000_u32 {
        let uid = 1_000_000 + u128::from(n);
        let mut forged = hello(
            uid,
            pair(&format!("100.{}.{}.1:1", n / 250, n % 250), "198.51.100.1:443"),
            2 * S,
        );
        forged.confirmed = Confirmed::None;
        h.hello(2 * S + i64::from(n), uid, 0, forged);
        assert!(h.engine.memory().connection_bytes <= cap);
    }
    let made: Vec<u32> = (0..n_real)
        .map(|n| h.request(4 * S, request(u64::from(n), client(n), 4 * S)))
        .collect();
    h.pass(5 * S);
    let n_joined = made.iter().filter(|made| h.joined(**made).conn.is_some()).count();
    let n_joined = u32::try_from(n_joined).expect("at most n_real");
    assert!(
        n_joined > n_real * 3 / 4,
        "{n_joined} of {n_real} are still known"
    );
    let counters = h.finish().counters;
    assert!(counters.evicted_unconfirmed > 40_000);
    assert_eq!(
        counters.joined.none_for(NoneReason::Evicted),
        u64::from(n_real - n_joined)
    );
}

#[test]
fn case_30_closed_connections_are_evicted_before_open_ones_and_the_least_used_first() {
    let mut h = Harness::new(settled());
    let client = |n: u128| pair(&format!("192.0.2.1:{}", 1_000 + n), "198.51.100.1:443");
    for n in 0..4 {
        h.hello(S, n, 0, hello(n, client(n), 0));
    }
    h.pass(2 * S);
    let room = h.engine.memory().connection_bytes;
    h.finish();
    let mut h = Harness::new(Settings {
        connection_bytes_max: room + room / 5,
        ..settled()
    });
    for n in 0..4 {
        h.hello(0, n, 0, hello(n, client(n), 0));
        h.pass(i64::try_from(n + 1).expect("small") * S);
    }
    h.put(5 * S, close(2, 5 * S, CloseReason::Fin));
    h.request(6 * S, request(0, client(0), 6 * S));
    h.pass(7 * S);
    for n in 4..6 {
        h.hello(8 * S, n, 0, hello(n, client(n), 8 * S));
        h.pass(i64::try_from(n + 6).expect("small") * S);
    }
    let known: Vec<u32> = (0..6)
        .map(|n| h.request(20 * S, request(10 + n, client(u128::from(n)), 4 * S + 900 * MS)))
        .collect();
    h.pass(21 * S);
    // 2 was closed; then 1 was the least recently used, because 0 had a request.
    assert_joined(&h, known[0], Match::Asof, 0);
    assert_none(&h, known[1], NoneReason::Evicted);
    assert_none(&h, known[2], NoneReason::Evicted);
    assert_joined(&h, known[3], Match::Asof, 3);
    h.finish();
}

#[test]
fn case_31_a_flood_of_orphans_stays_under_the_cap_and_all_come_out() {
    let cap = 1 << 20;
    let mut h = Harness::new(Settings {
        pending_bytes_max: cap,
        ..settled()
    });
    for n in 0..20_000_u16 {
        let client = pair(&format!("192.0.2.1:{}", 1 + n), "198.51.100.1:443");
        h.request(i64::from(n), request(u64::from(n), client, 0));
        assert!(h.engine.memory().pending_bytes <= cap);
    }
    h.pass(S);
    let counters = h.finish().counters;
    let overflow = counters.joined.none_for(NoneReason::Overflow);
    assert!(overflow > 15_000, "{overflow}");
    assert_eq!(overflow + counters.joined.none_for(NoneReason::NoConn), 20_000);
    assert_eq!(counters.overflowed_requests, overflow);
}

#[test]
fn case_34_shutdown_with_pending_emits_all_of_it() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    let known = h.request(10 * MS, request(0, usual(), 5 * MS));
    let unknown = h.request(
        10 * MS,
        request(1, pair("192.0.2.7:1", "198.51.100.1:443"), 5 * MS),
    );
    let mut waits = request(2, usual(), 6 * MS);
    waits.end_follows = true;
    let waits = h.request(12 * MS, waits);
    h.engine.handle_shutdown(common::at(15 * MS));
    h.pass(15 * MS);
    assert_joined(&h, known, Match::Asof, 1);
    assert_none(&h, unknown, NoneReason::Shutdown);
    assert_joined(&h, waits, Match::Asof, 1);
    assert_eq!(h.tls_rows().len(), 1);
    assert_eq!(h.finish().counters.ends_missed, 1);
}

// ---- what the contract adds to the cases

#[test]
fn bound_requests_and_proven_randoms_do_not_wait() {
    let mut h = Harness::new(settled());
    let tls = hello(1, usual(), 0);
    let random = tls.client_random;
    h.hello(0, 1, 0, tls);
    let mut proven = request(0, usual(), 5 * MS);
    proven.client_random = random;
    proven.conn_id = Some(3);
    let proven = h.request(10 * MS, proven);
    assert_joined(&h, proven, Match::Exact, 1);
    let mut bound = request(1, usual(), 6 * MS);
    bound.conn_id = Some(3);
    let bound = h.request(11 * MS, bound);
    assert_joined(&h, bound, Match::Exact, 1);
    assert_eq!((h.joined_at(proven).0, h.joined_at(bound).0), (10 * MS, 11 * MS));
    h.finish();
}

#[test]
fn a_client_random_does_not_beat_a_confirmed_connection_on_the_address() {
    let mut h = Harness::new(settled());
    let other = pair("192.0.2.66:1", "198.51.100.1:443");
    h.hello(0, 1, 0, hello(1, usual(), 0));
    let attackers = hello(2, other, 0);
    let random = attackers.client_random;
    h.hello(0, 2, 0, attackers);
    let mut made = request(0, usual(), 5 * MS);
    made.client_random = random;
    let made = h.request(10 * MS, made);
    // Where no confirmed connection holds the address, the random is all there is.
    let mut elsewhere = request(1, pair("10.0.0.1:5", "10.0.0.2:443"), 5 * MS);
    elsewhere.client_random = random;
    let elsewhere = h.request(10 * MS, elsewhere);
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 1);
    assert!(h.joined(made).contradictions.contains(Contradictions::RANDOM));
    assert_joined(&h, elsewhere, Match::Exact, 2);
    h.finish();
}

#[test]
fn a_client_random_that_two_connections_share_proves_neither() {
    let mut h = Harness::new(settled());
    let other = pair("192.0.2.66:1", "198.51.100.1:443");
    let first = hello(1, usual(), 0);
    let mut second = hello(2, other, 0);
    second.client_random = first.client_random;
    let random = first.client_random;
    h.hello(0, 1, 0, first);
    h.hello(0, 2, 0, second);
    let mut made = request(0, pair("10.0.0.1:5", "10.0.0.2:443"), 5 * MS);
    made.client_random = random;
    let made = h.request(10 * MS, made);
    h.pass(S);
    assert_none(&h, made, NoneReason::NoConn);
    h.finish();
}

#[test]
fn forged_opening_hello_and_reset_change_no_confirmed_join() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    let mut forged_hello = hello(66, usual(), 5 * S);
    forged_hello.confirmed = Confirmed::None;
    h.hello(5 * S, 66, 0, forged_hello);
    let mut forged_open = opened(usual(), 6 * S);
    forged_open.confirmed = Confirmed::None;
    h.open(6 * S, 67, forged_open);
    h.put(6 * S, close(68, 6 * S, CloseReason::Rst));
    h.put(6 * S, close(66, 6 * S, CloseReason::Rst));
    for n in 0..50 {
        let uid = 100 + n;
        let mut flood = hello(uid, usual(), 6 * S + i64::try_from(n).expect("small"));
        flood.confirmed = Confirmed::None;
        h.hello(6 * S, uid, 0, flood);
    }
    let made = h.request(7 * S, request(0, usual(), 7 * S));
    h.pass(8 * S);
    assert_joined(&h, made, Match::Asof, 1);
    assert_eq!(h.joined(made).contradictions, Contradictions::NONE);
    assert!(
        h.engine.memory().connections <= 5,
        "four forged ones at most are kept on the address"
    );
    h.finish();
}

#[test]
fn an_unconfirmed_connection_is_joined_only_for_want_of_another_and_binds_nothing() {
    let mut h = Harness::new(settled());
    let mut tls = hello(1, usual(), 0);
    tls.confirmed = Confirmed::None;
    h.hello(0, 1, 0, tls);
    let mut made = request(0, usual(), 5 * MS);
    made.conn_id = Some(4);
    let first = h.request(10 * MS, made.clone());
    h.pass(S);
    made.seq = 1;
    made.ts_ns = BASE + 2 * S;
    let second = h.request(2 * S, made);
    h.pass(3 * S);
    for payload in [first, second] {
        assert_joined(&h, payload, Match::Asof, 1);
        assert_eq!(
            h.joined(payload).conn.as_ref().map(|conn| conn.confirmed),
            Some(Confirmed::None)
        );
    }
    h.finish();
}

#[test]
fn confirmation_and_close_before_their_hello_count() {
    let mut h = Harness::new(settled());
    h.put(0, confirm(1, Confirmed::Followed));
    h.put(0, close(1, S, CloseReason::Fin));
    let mut tls = hello(1, usual(), 0);
    tls.confirmed = Confirmed::None;
    h.hello(100 * MS, 1, 0, tls);
    let inside = h.request(S, request(0, usual(), 500 * MS));
    let after = h.request(2 * S, request(1, usual(), 1_900 * MS));
    h.pass(3 * S);
    assert_joined(&h, inside, Match::Asof, 1);
    assert_eq!(
        h.joined(inside).conn.as_ref().map(|conn| conn.confirmed),
        Some(Confirmed::Followed)
    );
    assert_none(&h, after, NoneReason::NoConn);
    h.put(4 * S, confirm(99, Confirmed::Acked));
    h.pass(10 * S);
    assert_eq!(
        h.finish()
            .counters
            .connections
            .dropped_for(DropReason::UnknownConn),
        1
    );
}

#[test]
fn a_request_waits_for_its_end_and_not_longer_than_end_wait() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    let mut payloads = vec![];
    for seq in 0..3 {
        let mut made = request(seq, usual(), 5 * MS);
        made.end_follows = true;
        payloads.push(h.request(10 * MS, made));
    }
    let in_time = h.put(100 * MS, end(0));
    h.pass(S);
    let after_decision = h.put(S, end(1));
    h.pass(10 * S);
    assert_eq!(h.joined_at(payloads[0]).0, 510 * MS);
    assert_eq!(h.joined(payloads[0]).end, Some(in_time));
    assert_eq!(h.joined_at(payloads[1]).0, S);
    assert_eq!(h.joined(payloads[1]).end, Some(after_decision));
    assert_eq!(h.joined_at(payloads[2]).0, 5_010 * MS);
    assert_eq!(h.joined(payloads[2]).end, None);
    h.put(10 * S, end(2));
    h.put(10 * S, end(99));
    let counters = h.finish().counters;
    assert_eq!((counters.ends.passed, counters.ends_missed), (2, 1));
    assert_eq!(counters.ends.dropped_for(DropReason::NoRequest), 2);
}

#[test]
fn a_second_end_of_a_waiting_request_is_dropped() {
    let mut h = Harness::new(settled());
    let mut made = request(0, usual(), 0);
    made.end_follows = true;
    h.request(0, made);
    h.put(MS, end(0));
    h.put(2 * MS, end(0));
    assert_eq!(h.finish().counters.ends.dropped_for(DropReason::DuplicateEnd), 1);
}

#[test]
fn without_end_wait_a_row_goes_out_when_it_is_decided() {
    let mut h = Harness::new(Settings {
        end_wait: Duration::ZERO,
        ..settled()
    });
    let mut made = request(0, usual(), 0);
    made.end_follows = true;
    let made = h.request(0, made);
    h.pass(S);
    assert_eq!(h.joined_at(made).0, 500 * MS);
    h.finish();
}

#[test]
fn an_unusable_address_is_said_at_once() {
    let mut h = Harness::new(settled());
    let no_port = h.request(0, request(0, pair("192.0.2.1:0", "198.51.100.1:443"), 0));
    let no_address = h.request(0, request(1, pair("0.0.0.0:5", "198.51.100.1:443"), 0));
    let no_address6 = h.request(0, request(2, pair("[::]:5", "198.51.100.1:443"), 0));
    for payload in [no_port, no_address, no_address6] {
        assert_none(&h, payload, NoneReason::KeyUnusable);
        assert_eq!(h.joined_at(payload).0, 0);
    }
    h.finish();
}

#[test]
fn closed_connections_stay_for_requests_that_arrive_when_they_end() {
    let mut h = Harness::new(settled());
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.put(S, close(1, S, CloseReason::Fin));
    let mut made = request(0, usual(), 500 * MS);
    made.duration_ns = 400_000_000;
    let in_time = h.request(30 * S, made.clone());
    made.seq = 1;
    let too_late = h.request(31_500 * MS, made);
    h.pass(40 * S);
    assert_joined(&h, in_time, Match::Asof, 1);
    assert_none(&h, too_late, NoneReason::Late);
    h.finish();
}

#[test]
fn reasons_say_gap_and_warmup_only_where_they_may_explain() {
    let mut h = Harness::new(Settings::default());
    let index = |t: i64, seq: u64, req_index: Option<u32>| {
        let mut made = request(seq, usual(), t);
        made.req_index = req_index;
        made
    };
    let old = h.request(10 * S, index(10 * S, 0, Some(3)));
    let fresh = h.request(10 * S, index(10 * S, 1, Some(0)));
    let unknown = h.request(10 * S, index(10 * S, 2, None));
    let settled = h.request(300 * S, index(300 * S, 3, Some(3)));
    h.put(
        400 * S,
        Input::Gap(Gap {
            from_ns: BASE + 390 * S,
            to_ns: BASE + 400 * S,
        }),
    );
    let before = h.request(401 * S, index(389 * S, 4, None));
    let inside = h.request(401 * S, index(395 * S, 5, None));
    let soon_after = h.request(690 * S, index(690 * S, 6, None));
    let long_after = h.request(710 * S, index(710 * S, 7, None));
    h.pass(720 * S);
    assert_none(&h, old, NoneReason::Warmup);
    assert_none(&h, fresh, NoneReason::NoConn);
    assert_none(&h, unknown, NoneReason::Warmup);
    assert_none(&h, settled, NoneReason::NoConn);
    assert_none(&h, before, NoneReason::NoConn);
    assert_none(&h, inside, NoneReason::SensorGap);
    assert_none(&h, soon_after, NoneReason::SensorGap);
    assert_none(&h, long_after, NoneReason::NoConn);
    h.finish();
}

#[test]
fn a_late_connection_corrects_a_request_once_if_wanted() {
    let run = |corrections: bool| {
        let mut h = Harness::new(Settings {
            corrections,
            ..settled()
        });
        let made = h.request(0, request(0, usual(), 0));
        h.pass(S);
        assert_none(&h, made, NoneReason::NoConn);
        let mut tls = hello(1, usual(), 0);
        tls.confirmed = Confirmed::None;
        h.hello(2 * S, 1, 0, tls);
        assert!(h.corrections().is_empty(), "not by a lone packet");
        h.put(2 * S, confirm(1, Confirmed::Acked));
        h.put(3 * S, confirm(1, Confirmed::Followed));
        let found: Vec<_> = h
            .corrections()
            .iter()
            .map(|c| (c.seq, c.verdict, c.conn.conn_uid))
            .collect();
        assert_eq!(h.engine.memory().orphans, 0);
        h.finish();
        found
    };
    assert_eq!(run(true), [(0, Match::Asof, ConnUid(1))]);
    assert!(run(false).is_empty());
}

#[test]
fn a_correction_comes_only_within_its_window() {
    let mut h = Harness::new(Settings {
        corrections: true,
        ..settled()
    });
    h.request(0, request(0, usual(), 0));
    h.pass(40 * S);
    h.hello(40 * S, 1, 0, hello(1, usual(), 0));
    assert!(h.corrections().is_empty());
    h.finish();
}

#[test]
fn server_side_says_how_much_of_the_servers_address_must_agree() {
    let seen = pair("192.0.2.1:40000", "198.51.100.1:443");
    let check = |server_side: ServerSide, server: &str, joined: bool| {
        let mut h = Harness::new(Settings {
            server_side,
            ..settled()
        });
        h.hello(0, 1, 0, hello(1, seen, 0));
        let made = h.request(10 * MS, request(0, pair("192.0.2.1:40000", server), 5 * MS));
        h.pass(S);
        assert_eq!(h.joined(made).conn.is_some(), joined, "{server_side:?} {server}");
        h.finish();
    };
    for (server_side, same, other_address, other_port) in [
        (ServerSide::Strict, true, false, false),
        (ServerSide::Port, true, true, false),
        (ServerSide::Ignore, true, true, true),
    ] {
        check(server_side, "198.51.100.1:443", same);
        check(server_side, "10.0.0.1:443", other_address);
        check(server_side, "10.0.0.1:8443", other_port);
    }
}

#[test]
fn one_client_port_to_two_servers_is_two_connections_even_if_the_server_is_ignored() {
    let mut h = Harness::new(settled());
    let second = pair("192.0.2.1:40000", "198.51.100.2:443");
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.hello(S, 2, 0, hello(2, second, S));
    let to_first = h.request(2 * S, request(0, usual(), 2 * S));
    let to_second = h.request(2 * S, request(1, second, 2 * S));
    let to_neither = h.request(2 * S, request(2, pair("192.0.2.1:40000", "10.0.0.1:8443"), 2 * S));
    h.pass(3 * S);
    assert_joined(&h, to_first, Match::Asof, 1);
    assert_joined(&h, to_second, Match::Asof, 2);
    assert_joined(&h, to_neither, Match::Ambiguous, 2);
    h.finish();
}

#[test]
fn tcp_and_udp_on_the_same_ports_are_two_connections() {
    let mut h = Harness::new(settled());
    let mut quic = hello(2, usual(), 0);
    quic.transport = Transport::Udp;
    h.hello(0, 1, 0, hello(1, usual(), 0));
    h.hello(0, 2, 0, quic);
    let mut made = request(0, usual(), 5 * MS);
    made.transport = Transport::Udp;
    made.http = HttpVersion::Http3;
    let made = h.request(10 * MS, made);
    h.pass(S);
    assert_joined(&h, made, Match::Asof, 2);
    h.finish();
}

#[test]
fn the_first_hello_stands_for_a_connection_with_a_retry_and_each_has_a_row() {
    let mut h = Harness::new(settled());
    let mut second = hello(1, usual(), 10 * MS);
    second.hello_index = 1;
    h.hello(0, 1, 0, second);
    let first = h.hello(5 * MS, 1, 0, hello(1, usual(), 0));
    let made = h.request(20 * MS, request(0, usual(), 15 * MS));
    h.pass(S);
    assert_eq!(h.joined(made).conn.as_ref().map(|conn| conn.payload), Some(first));
    assert_eq!(h.tls_rows().len(), 2);
    let mut ninth = hello(1, usual(), 0);
    ninth.hello_index = 8;
    h.hello(2 * S, 1, 0, ninth);
    assert_eq!(
        h.finish()
            .counters
            .connections
            .dropped_for(DropReason::TooManyHellos),
        1
    );
}
