//! Hostile bytes: no parser panics, and what it answers lies inside what it was given.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

use std::time::Duration;

use sensor_wire::fingerprint::{Carrier, Fingerprints, ja4_original_order};
use sensor_wire::registry::{EtherType, LinkType};
use sensor_wire::tcp::{SynOptions, parse_tcp};
use sensor_wire::tls::{ClientHello, HelloScanner, MAX_HELLO_BYTES, Scan, collect_message};
use sensor_wire::{ip::parse_ip, link::parse_link};

/// Each target runs this long in `cargo test`; a coverage-guided engine takes its own time.
const TEST_TIME: Duration = Duration::from_secs(10);

#[test]
fn fuzz_link() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<(u16, Vec<u8>)>()
        .for_each(|(link, frame)| {
            for link in [i32::from(*link), i32::from(link % 20), 276, 113, 1] {
                if let Ok(read) = parse_link(LinkType(link), frame) {
                    assert!(frame.ends_with(read.payload));
                }
            }
        });
}

#[test]
fn fuzz_ip() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|bytes: &[u8]| {
            for ethertype in [EtherType::IPV4, EtherType::IPV6] {
                let mut bytes = bytes.to_vec();
                if let Some(first) = bytes.first_mut() {
                    *first = (*first & 0x0f) | if ethertype == EtherType::IPV4 { 0x40 } else { 0x60 };
                }
                if let Ok(read) = parse_ip(ethertype, &bytes) {
                    assert!(read.payload.len() <= bytes.len() - 20);
                }
            }
        });
}

#[test]
fn fuzz_tcp() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|bytes: &[u8]| {
            if let Ok(read) = parse_tcp(bytes, 0) {
                assert!(bytes.ends_with(read.payload));
                assert!(SynOptions::parse(read.options).kinds().len() <= read.options.len());
            }
            assert!(SynOptions::parse(bytes).kinds().len() <= 20);
        });
}

#[test]
fn fuzz_tls_record() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<(Vec<u8>, u8)>()
        .for_each(|(bytes, cut)| {
            let mut stream = vec![22, 3, 1];
            stream.extend(bytes);
            let behind_v1 = [b"PROXY TCP4 192.0.2.1 198.51.100.2 51234 443\r\n", &stream[..]].concat();
            let behind_v2 = [b"\r\n\r\n\0\r\nQUIT\n", &bytes[..]].concat();
            for stream in [bytes, &stream, &behind_v1, &behind_v2] {
                let whole = HelloScanner::default().advance(stream);
                let mut scanner = HelloScanner::default();
                let step = usize::from(*cut).max(1);
                let mut last = Scan::NeedMore;
                for end in (0..stream.len()).step_by(step).chain([stream.len()]) {
                    last = scanner.advance(&stream[..end]);
                    if last != Scan::NeedMore {
                        break;
                    }
                }
                assert_eq!(last, whole, "the answer depends on how the stream was cut");
                if let Scan::Complete {
                    preamble_bytes,
                    message_bytes,
                    stream_bytes,
                } = whole
                {
                    assert!(message_bytes <= MAX_HELLO_BYTES && stream_bytes <= stream.len());
                    assert_eq!(
                        collect_message(&stream[preamble_bytes..], message_bytes).len(),
                        message_bytes
                    );
                }
            }
        });
}

#[test]
fn fuzz_client_hello() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|body: &[u8]| {
            let mut message = vec![1];
            message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
            message.extend(body);
            for message in [body, &message] {
                if let Ok(hello) = ClientHello::parse(message) {
                    let got = Fingerprints::of(&hello, Carrier::Tcp);
                    assert_eq!((got.ja4.len(), got.ja4_norm.len(), got.ja3.len()), (36, 36, 32));
                    assert!(got.ja4.is_ascii() && got.ja4_r.is_ascii());
                    let _ = (
                        hello.server_name(),
                        hello.alpn().count(),
                        ja4_original_order(&hello, Carrier::Tcp),
                    );
                }
            }
        });
}
