//! One event of each kind with every field filled, for the tests of the encoding.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part, and fails by panicking"
)]

use ja4_model::*;

pub fn head() -> Head<'static> {
    let mut head = Head::new(
        "sensor".into(),
        "node-1".into(),
        EventId {
            boot: BootId(77),
            seq: 3,
        },
        1_700_000_000_000_000_001,
    );
    head.ts_kind = TsKind::Derived;
    head.ts_resolution_ns = 1_000_000;
    head.recv_ns = Some(-5);
    head
}

pub fn conn() -> ConnFacts<'static> {
    ConnFacts {
        conn_uid: ConnUid(u128::MAX - 1),
        transport: Transport::Tcp,
        pair: pair(),
        views: vec![pair(), Pair::default()],
        encap: Some(Encap {
            kind: "vlan".into(),
            network_id: 7,
            outer: Some((CanonicalAddr([1; 16]), CanonicalAddr::from_v4([9, 8, 7, 6]))),
        }),
        open_ts_ns: Some(12),
        syn_to_hello_us: Some(300),
        tcp: Some(TcpFacts {
            ttl: 64,
            window: 65535,
            mss: Some(1460),
            wscale: Some(7),
            options: vec![2, 4, 8, 1, 3],
            timestamps: true,
        }),
        direction: Direction::Internal,
        confirmed: Confirmed::Acked,
        flags: ConnFlags(5),
    }
}

pub fn pair() -> Pair {
    Pair {
        client: Endpoint::new(CanonicalAddr::from_v4([127, 0, 0, 9]), 4000),
        server: Endpoint::new("2001:db8::1".parse().unwrap(), 443),
    }
}

pub fn samples() -> Vec<Event<'static>> {
    let request = Request {
        transport: Transport::Tcp,
        pair: pair(),
        proxy_client: Some(Endpoint::new(CanonicalAddr::from_v4([5, 5, 5, 5]), 1)),
        effective_ip: Some(CanonicalAddr::from_v4([6, 6, 6, 6])),
        effective_source: request::EffectiveSource::Forwarded,
        conn_id: "c-1".into(),
        req_index: Some(0),
        stream_id: Some(1),
        method: "GET".into(),
        scheme: "https".into(),
        host: "example.test".into(),
        path: vec![b'/', 0xff, b'"'].into(),
        query: "a=1&b=\u{1f}".into(),
        http_version: "2".into(),
        headers: vec![
            ("User-Agent".into(), "é\n".into()),
            ("x".into(), vec![0x80, 0x81].into()),
        ],
        headers_form: HeadersForm::Ordered,
        headers_case: true,
        headers_dups: true,
        h2_fp: "1:65536|0|0|m,a,s,p".into(),
        status: Some(404),
        bytes_sent: Some(u64::MAX),
        duration_us: Some(0),
        end_follows: true,
        tls: Some(request::ServerTls {
            version: "TLSv1.3".into(),
            cipher: "x".into(),
            sni: "example.test".into(),
            resumed: true,
            ja4: "t13".into(),
            client_random: Some([7; 32]),
        }),
        request_id: "r".into(),
        tier: Tier::Backend,
        truncated: vec!["path".into()],
    };
    let hello = ClientHello {
        conn: conn(),
        hello_index: 1,
        tls: std::sync::Arc::new(TlsFacts {
            ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1".into(),
            ja4_r: "r".into(),
            ja4_norm: "n".into(),
            ja3: "3".into(),
            ja3_raw: "771,".into(),
            alpn: vec!["h2".into(), vec![0xba, 0xad].into()],
            tls_version: "1.3".into(),
            ech: true,
            psk: true,
            pq: true,
        }),
        sni: vec![0xc3].into(),
        client_random: [0xab; 32],
        hello_bytes: 1980,
        proxy: Some(Endpoint::new(CanonicalAddr::from_v4([1, 1, 1, 1]), 2)),
    };
    vec![
        Event::Open(Open { conn: conn() }),
        Event::ClientHello(Box::new(hello)),
        Event::Confirm(Confirm {
            conn_uid: ConnUid(1),
            confirmed: Confirmed::Followed,
        }),
        Event::Close(Close {
            conn_uid: ConnUid(2),
            pair: Some(pair()),
            reason: CloseReason::Rst,
            confirmed: Confirmed::None,
        }),
        Event::Close(Close {
            conn_uid: ConnUid(2),
            pair: None,
            reason: CloseReason::Idle,
            confirmed: Confirmed::Acked,
        }),
        Event::Request(Box::new(request)),
        Event::End(RequestEnd {
            request_seq: 9,
            status: Some(200),
            bytes_sent: None,
            duration_us: Some(1),
        }),
        Event::Status(Status {
            next_seq: 10,
            dropped: vec![("full".into(), 3)],
            last: true,
        }),
    ]
}

pub fn encode(head: &Head<'_>, event: &Event<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    event.write_json(head, &mut out);
    out
}
