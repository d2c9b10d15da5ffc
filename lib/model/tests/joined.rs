//! Who the client of a joined request is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use ja4_model::joined::Derived;
use ja4_model::request::EffectiveSource;
use ja4_model::*;

fn endpoint(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

/// The client of a request from a node's address, whose connection came from outside.
fn client(verdict: Match, change: impl FnOnce(&mut Request<'_>)) -> Endpoint {
    let (peer, server) = (endpoint("10.77.0.12:36138"), endpoint("10.244.1.3:8443"));
    let mut request = Request {
        pair: Pair { client: peer, server },
        ..Request::default()
    };
    change(&mut request);
    let conn = ConnFacts {
        pair: Pair {
            client: endpoint("203.0.113.9:40112"),
            server: endpoint("10.77.0.12:30443"),
        },
        views: vec![request.pair],
        ..common::conn()
    };
    let row = JoinedRequest {
        head: &common::head(),
        request: &request,
        end: None,
        hello: None,
        conn: Some(&conn),
        confirmed: Confirmed::Followed,
        verdict,
        delta_us: None,
        conn_req_index: 0,
        contradictions: &[],
        derived: Derived::default(),
    };
    row.client()
}

#[test]
fn the_client_is_who_opened_the_connection_unless_the_server_knows_better() {
    assert_eq!(client(Match::Asof, |_| {}), endpoint("203.0.113.9:40112"));
    assert_eq!(client(Match::Exact, |_| {}), endpoint("203.0.113.9:40112"));
    // Another connection fits as well: nothing is known of it.
    assert_eq!(client(Match::Ambiguous, |_| {}), endpoint("10.77.0.12:36138"));
    let proxied = |request: &mut Request<'_>| {
        request.proxy_client = Some(endpoint("198.51.100.7:1234"));
        request.effective_ip = Some(endpoint("198.51.100.7:0").ip);
    };
    assert_eq!(client(Match::Asof, proxied), endpoint("198.51.100.7:1234"));
    let forwarded = |request: &mut Request<'_>| {
        request.effective_ip = Some(endpoint("198.51.100.8:0").ip);
        request.effective_source = EffectiveSource::Forwarded;
    };
    assert_eq!(client(Match::Asof, forwarded), endpoint("198.51.100.8:40112"));
}
