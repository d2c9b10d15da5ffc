//! Encode and decode are inverse, garbage is refused with its reason, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ja4_model::*;

fn head() -> Head<'static> {
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

fn conn() -> ConnFacts<'static> {
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

fn pair() -> Pair {
    Pair {
        client: Endpoint::new(CanonicalAddr::from_v4([127, 0, 0, 9]), 4000),
        server: Endpoint::new("2001:db8::1".parse().unwrap(), 443),
    }
}

fn samples() -> Vec<Event<'static>> {
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

fn encode(head: &Head<'_>, event: &Event<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    event.write_json(head, &mut out);
    out
}

#[test]
fn every_kind_survives_the_round_trip() {
    for event in samples() {
        let mut head = head();
        if event.kind() == EventKind::Status {
            head.seq = 0;
        }
        let bytes = encode(&head, &event);
        let (read_head, read) = decode::event(&bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)));
        assert_eq!((read_head, read), (head, event));
    }
}

#[test]
fn field_order_and_unknown_fields_do_not_matter() {
    let json = br#"{"zzz":[1,{"a":2}],"client_port":5,"ts_ns":"17","event":"request","client_ip":"::ffff:1.2.3.4","conn_id":12,"v":1,"boot":"00000000000000ff","seq":1}"#;
    let (head, event) = decode::event(json).unwrap();
    let Event::Request(request) = event else {
        panic!("{event:?}")
    };
    assert_eq!(
        (head.ts_ns, head.id().to_string()),
        (17, "00000000000000ff-1".to_owned())
    );
    assert_eq!(request.pair.client.to_string(), "1.2.3.4:5");
    assert_eq!(request.conn_id, "12");
}

#[test]
fn producers_that_cannot_count_are_told_apart() {
    let json = br#"{"v":1,"event":"request","ts_ns":1,"client_ip":"1.2.3.4","client_port":5}"#;
    assert_eq!(decode::event(json).unwrap().0.id_kind, IdKind::Receiver);
    let half = br#"{"v":1,"event":"request","ts_ns":1,"seq":3,"client_ip":"1.2.3.4","client_port":5}"#;
    assert_eq!(
        decode::event(half).unwrap_err().to_string(),
        "event lacks the field \"boot\""
    );
}

#[test]
fn refusals_name_their_reason() {
    let check =
        |json: &[u8], reason: &str| assert_eq!(decode::event(json).unwrap_err().reason(), reason, "{json:?}");
    check(b"", "malformed");
    check(b"{}", "missing_field");
    check(br#"{"v":2,"event":"request"}"#, "version");
    check(br#"{"v":1,"event":"rocket"}"#, "unknown_kind");
    check(
        br#"{"v":1,"event":"confirm","ts_ns":1,"conn_uid":"00","confirmed":"acked"}"#,
        "malformed",
    );
    check(
        br#"{"v":1,"event":"request","ts_ns":99999999999999999999,"client_ip":"1.2.3.4","client_port":5}"#,
        "malformed",
    );
    check(&vec![b' '; limits::MAX_MESSAGE_BYTES + 1], "too_long");
}

#[test]
fn a_thousand_headers_are_cut_and_said() {
    let headers = vec![r#"["a","b"]"#; 1000].join(",");
    let json = format!(
        r#"{{"v":1,"event":"request","ts_ns":1,"client_ip":"1.2.3.4","client_port":5,"headers":[{headers}]}}"#
    );
    let Event::Request(request) = decode::event(json.as_bytes()).unwrap().1 else {
        unreachable!("a request was written")
    };
    assert_eq!(request.headers.len(), limits::MAX_HEADERS);
    assert_eq!(request.truncated, [Text::from("headers")]);
}

#[test]
fn greeting_survives_the_round_trip() {
    let hello = frame::Hello {
        versions: vec![1],
        source: "sensor".into(),
        node: "n".into(),
        boot: BootId(1),
    };
    let mut out = Vec::new();
    hello.write_json(&mut out);
    assert_eq!(decode::hello(&out).unwrap(), hello);
    assert!(decode::hello(b"{\"v\":1}").is_err());
}

#[test]
fn fuzz_event_decoder_never_panics_and_what_it_accepts_it_writes_again() {
    let seeds: Vec<Vec<u8>> = samples().iter().map(|event| encode(&head(), event)).collect();
    bolero::check!()
        .with_type::<(u8, Vec<(u16, u8)>, Vec<u8>)>()
        .with_test_time(std::time::Duration::from_secs(5))
        .for_each(|(pick, edits, raw)| {
            exercise(raw);
            let mut bytes = seeds[usize::from(*pick) % seeds.len()].clone();
            for (at, value) in edits.iter().take(4) {
                let at = usize::from(*at) % bytes.len();
                bytes[at] = *value;
            }
            exercise(&bytes);
        });
}

fn exercise(bytes: &[u8]) {
    let _greeting = decode::hello(bytes);
    let _reply = frame::Reply::parse(bytes);
    let _envelope = envelope::Envelope::read(bytes);
    if let Ok((head, event)) = decode::event(bytes) {
        let again = encode(&head, &event);
        if again.len() <= limits::MAX_MESSAGE_BYTES {
            let (_, reread) = decode::event(&again).expect("what was written can be read");
            assert_eq!(reread, event);
        }
    }
}
