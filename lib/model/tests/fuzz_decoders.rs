//! Any bytes and any values: no decoder panics, and what is written is read back the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use common::*;
use envelope::{Envelope, EnvelopeError, Key, PREFIX_BYTES};
use frame::{Hello, Reply};
use ja4_model::*;

/// Each target runs this long in `cargo test`; a coverage-guided engine takes its own time.
const TEST_TIME: Duration = Duration::from_secs(10);

#[test]
fn fuzz_events_of_any_bytes() {
    let seeds: Vec<Vec<u8>> = samples().iter().map(|event| encode(&head(), event)).collect();
    bolero::check!()
        .with_type::<(u8, Vec<(u16, u8)>, Vec<u8>)>()
        .with_test_time(TEST_TIME)
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
    let brief = decode::brief(bytes);
    if let Ok((head, event)) = decode::event(bytes) {
        let brief = brief.expect("what is an event has a head");
        assert_eq!((brief.kind, brief.ts_ns), (event.kind(), head.ts_ns));
        let again = encode(&head, &event);
        if again.len() <= limits::MAX_MESSAGE_BYTES {
            let (_, reread) = decode::event(&again).expect("what was written can be read");
            assert_eq!(reread, event);
        }
    }
    if let Ok(hello) = decode::hello(bytes) {
        let mut again = Vec::new();
        hello.write_json(&mut again);
        assert_eq!(decode::hello(&again).unwrap(), hello);
    }
    if let Some(reply) = Reply::parse(bytes) {
        let mut again = Vec::new();
        reply.write_json(&mut again);
        assert_eq!(Reply::parse(&again), Some(reply));
    }
    match Envelope::read(bytes) {
        Ok((envelope, rest)) => {
            assert!(bytes.ends_with(rest) && envelope.json.len() <= limits::MAX_MESSAGE_BYTES);
        }
        Err(EnvelopeError::NeedMore(n)) => assert!(n > bytes.len()),
        Err(_) => {}
    }
}

/// A name as a greeting may carry it: 1 to 253 bytes of any value.
fn name(bytes: &[u8]) -> Text<'_> {
    match bytes {
        [] => "n".into(),
        bytes => bytes[..bytes.len().min(limits::MAX_NAME_BYTES)].into(),
    }
}

#[test]
fn fuzz_greetings_and_replies_of_any_value() {
    bolero::check!()
        .with_type::<(Vec<u8>, Vec<u8>, u64, Vec<u32>, bool)>()
        .with_test_time(TEST_TIME)
        .for_each(|(source, node, number, versions, welcome)| {
            let hello = Hello {
                versions: versions.iter().copied().chain([limits::WIRE_VERSION]).collect(),
                source: name(source),
                node: name(node),
                boot: BootId(*number),
            };
            let mut json = Vec::new();
            hello.write_json(&mut json);
            assert!(!json.contains(&b'\n'), "it is one line");
            assert_eq!(decode::hello(&json).unwrap(), hello);
            for cut in 0..json.len() {
                assert!(decode::hello(&json[..cut]).is_err(), "{cut}");
            }
            let reply = if *welcome {
                Reply::Welcome { ack: *number }
            } else {
                Reply::Ack { ack: *number }
            };
            let mut line = Vec::new();
            reply.write_json(&mut line);
            assert_eq!(Reply::parse(&line), Some(reply));
            for cut in 0..line.len() {
                assert_eq!(Reply::parse(&line[..cut]), None, "{cut}");
            }
        });
}

#[test]
fn fuzz_envelopes_of_any_value() {
    type Shape = (u8, bool, [u64; 2], [i64; 2], [[u8; 16]; 2], [u16; 2], Vec<u8>);
    bolero::check!()
        .with_type::<(Shape, Vec<u8>, u16)>()
        .with_test_time(TEST_TIME)
        .for_each(
            |((kind, by_receiver, ids, times, addresses, ports, json), after, cut)| {
                let endpoint = |n: usize| Endpoint::new(CanonicalAddr(addresses[n]), ports[n]);
                let key = Key {
                    kind: EventKind::ALL[usize::from(*kind) % EventKind::ALL.len()],
                    id_kind: if *by_receiver {
                        IdKind::Receiver
                    } else {
                        IdKind::Producer
                    },
                    id: EventId {
                        boot: BootId(ids[0]),
                        seq: ids[1],
                    },
                    ts_ns: times[0],
                    recv_ns: times[1],
                    pair: Pair {
                        client: endpoint(0),
                        server: endpoint(1),
                    },
                };
                let envelope = Envelope { key, json };
                let mut bytes = Vec::new();
                envelope.write(&mut bytes);
                assert_eq!(bytes.len(), PREFIX_BYTES + json.len());
                let cut = usize::from(*cut) % bytes.len();
                match Envelope::read(&bytes[..cut]) {
                    Err(EnvelopeError::NeedMore(n)) => assert!(n > cut && n <= bytes.len()),
                    other => panic!("{other:?} of {cut} bytes"),
                }
                bytes.extend_from_slice(after);
                assert_eq!(Envelope::read(&bytes), Ok((envelope, &after[..])));
            },
        );
}

#[test]
fn fuzz_texts_addresses_and_ids_of_any_value() {
    bolero::check!()
        .with_type::<(Vec<u8>, [u8; 16], [u8; 4], u128)>()
        .with_test_time(TEST_TIME)
        .for_each(|(bytes, v6, v4, number)| {
            let mut json = Vec::new();
            json::write_text(&mut json, bytes);
            let read: Text<'_> = serde_json::from_slice(&json).unwrap();
            assert_eq!(read.as_bytes(), bytes);
            if let Ok(text) = std::str::from_utf8(bytes) {
                let by_the_book: String = serde_json::from_slice(&json).unwrap();
                assert_eq!(by_the_book, text);
                // Whatever is taken for an address or an id is written back as the same one.
                if let Ok(address) = text.parse::<CanonicalAddr>() {
                    assert_eq!(address.to_string().parse(), Ok(address));
                }
                if let Ok(boot) = text.parse::<BootId>() {
                    assert_eq!(boot.to_string(), text.to_ascii_lowercase());
                }
            }
            let mapped = CanonicalAddr::from_v4(*v4);
            assert_eq!(mapped.to_string(), IpAddr::from(*v4).to_string());
            for address in [mapped, CanonicalAddr(*v6)] {
                assert_eq!(address.to_string(), address.to_ip().to_string());
                assert_eq!(address.to_string().parse(), Ok(address));
                assert_eq!(Ipv6Addr::from(address.0).to_string().parse(), Ok(address));
            }
            let uid = ConnUid(*number);
            assert_eq!(uid.to_string().parse(), Ok(uid));
        });
}
