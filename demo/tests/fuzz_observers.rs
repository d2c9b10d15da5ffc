//! Hostile bytes: no decoder panics, holds more than its limits, or depends on how the bytes were cut.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use demo::observe::hpack::{self, Decoder};
use demo::observe::http1::{self, Event};
use demo::observe::http2::{MAX_WAITING_HEADS, Observer};

/// Each target runs this long in `cargo test`; a coverage-guided engine takes its own time.
const TEST_TIME: Duration = Duration::from_secs(10);
/// Most that an observer may hold: one block, one frame and its head.
const MAX_HELD_BYTES: usize = (32 << 10) + 16_384 + 9;

#[test]
fn fuzz_hpack() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<Vec<Vec<u8>>>()
        .for_each(|blocks| {
            let mut decoder = Decoder::default();
            for block in blocks {
                let Ok(fields) = decoder.decode(block) else {
                    return;
                };
                let n_bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
                assert!(fields.len() <= hpack::MAX_FIELDS && n_bytes <= hpack::MAX_BLOCK_BYTES);
                assert!(decoder.table_bytes() <= hpack::MAX_TABLE_BYTES);
            }
        });
}

/// The events until the end or an error; bodies joined.
fn http1_events(parts: &[&[u8]]) -> (Vec<Event>, bool) {
    let mut decoder = http1::Decoder::default();
    let mut events: Vec<Event> = Vec::new();
    for part in parts {
        decoder.feed(part);
        loop {
            match (decoder.poll(), events.last_mut()) {
                (Ok(None), _) => break,
                (Err(_), _) => return (events, false),
                (Ok(Some(Event::Body(more))), Some(Event::Body(whole))) => whole.extend(more),
                (Ok(Some(event)), _) => events.push(event),
            }
        }
        assert!(decoder.buffered() <= http1::MAX_HEAD_BYTES + part.len());
    }
    (events, true)
}

#[test]
fn fuzz_http1() {
    const PIECES: [&str; 12] = [
        "GET / HTTP/1.1\r\n",
        "POST /x?y HTTP/1.0\r\n",
        "Host: h\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
        "5\r\nhello\r\n",
        "0\r\n",
        "hello",
        "x: \u{fc}\r\n",
        "\n",
        " ",
    ];
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<(Vec<u8>, Vec<u8>, u8)>()
        .for_each(|(choices, noise, step)| {
            let mut bytes: Vec<u8> = choices
                .iter()
                .flat_map(|choice| PIECES[usize::from(*choice) % PIECES.len()].bytes())
                .collect();
            bytes.extend(noise);
            let whole = http1_events(&[&bytes]);
            let parts: Vec<&[u8]> = bytes.chunks(usize::from(*step).max(1)).collect();
            assert_eq!(http1_events(&parts), whole);
        });
}

#[test]
fn fuzz_http2() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .with_type::<(Vec<(u8, u8, u8, Vec<u8>)>, Vec<u8>)>()
        .for_each(|(frames, noise)| {
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            for (kind, flags, stream, payload) in frames {
                let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
                bytes.extend([len[1], len[2], len[3], kind % 10, *flags, 0, 0, 0, *stream]);
                bytes.extend(payload);
            }
            bytes.extend(noise);
            let (mut whole, mut cut) = (Observer::default(), Observer::default());
            let result = whole.feed(0, &bytes);
            let cut_result = bytes.chunks(3).try_for_each(|part| cut.feed(0, part));
            assert_eq!(result, cut_result);
            for observer in [&whole, &cut] {
                let (n_heads, n_bytes) = observer.held();
                assert!(n_heads <= MAX_WAITING_HEADS && n_bytes <= MAX_HELD_BYTES);
            }
            for stream in 0..=255 {
                assert_eq!(whole.take(stream), cut.take(stream));
            }
        });
}
