//! Encode and decode are inverse, garbage is refused with its reason, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use ja4_model::*;

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
