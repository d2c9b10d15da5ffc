//! Whatever bytes come, the parsers of requests neither panic nor disagree with themselves.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking and says what it skips"
)]

use std::time::Duration;

use bolero::check;
use embedded_clickhouse::http::frames::FrameDecoder;
use embedded_clickhouse::http::params::{Request, multipart_fields};
use embedded_clickhouse::http::row_binary::header_length;
use embedded_clickhouse::lexer::Lexer;
use embedded_clickhouse::statement::{SplitError, split};

const TEST_TIME: Duration = Duration::from_secs(10);

#[test]
fn fuzz_statement() {
    check!().with_test_time(TEST_TIME).for_each(|bytes: &[u8]| {
        let mut end = 0;
        for token in Lexer::new(bytes) {
            assert!(token.range.start >= end && token.range.end <= bytes.len());
            end = token.range.end;
            // Only must not panic.
            let _name = token.name(bytes);
        }
        let whole = split(bytes, true);
        if let Ok(statement) = &whole {
            assert!(statement.data_start.is_none_or(|start| start <= bytes.len()));
        }
        // What is decided on a prefix stays decided.
        let half = bytes.len() / 2;
        if let Ok(early) = split(&bytes[..half], false) {
            assert_eq!(Ok(&early), whole.as_ref(), "decided too early");
        }
        assert_ne!(split(&bytes[..half], false), Err(SplitError::Empty));
    });
}

#[test]
fn fuzz_frames() {
    check!().with_test_time(TEST_TIME).for_each(|bytes: &[u8]| {
        let mut whole = FrameDecoder::default();
        let at_once = whole.push(bytes).map(|data| data.concat());
        let mut cut = FrameDecoder::default();
        let half = bytes.len() / 2;
        let in_two = cut.push(&bytes[..half]).and_then(|mut data| {
            data.extend(cut.push(&bytes[half..])?);
            Ok(data.concat())
        });
        assert_eq!(at_once, in_two);
    });
}

#[test]
fn fuzz_url_form_and_header() {
    check!().with_test_time(TEST_TIME).for_each(|bytes: &[u8]| {
        let headers = hyper::HeaderMap::new();
        if let Ok(text) = std::str::from_utf8(bytes) {
            let _parsed = Request::parse(text, &headers);
        }
        let _fields = multipart_fields(bytes, "b");
        assert!(header_length(bytes).is_none_or(|length| length <= bytes.len()));
    });
}
