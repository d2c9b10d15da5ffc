//! Frames and certificates of the hop on arbitrary bytes: no panic, and what is understood survives the round trip.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use ja4_transport::remote::certified_peer;
use ja4_transport::remote::proto::{ClientFrame, ServerFrame};
use prost::Message as _;

/// Each target runs this long in `cargo test`; a coverage-guided engine takes its own time.
const TEST_TIME: Duration = Duration::from_secs(3);

#[test]
fn fuzz_remote_frames_of_nodes() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|bytes: &[u8]| {
            if let Ok(frame) = ClientFrame::decode(bytes) {
                let again = ClientFrame::decode(&*frame.encode_to_vec()).unwrap();
                assert_eq!(frame, again);
            }
        });
}

#[test]
fn fuzz_remote_frames_of_the_correlator() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|bytes: &[u8]| {
            if let Ok(frame) = ServerFrame::decode(bytes) {
                let again = ServerFrame::decode(&*frame.encode_to_vec()).unwrap();
                assert_eq!(frame, again);
            }
        });
}

#[test]
fn fuzz_remote_certificates() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|bytes: &[u8]| {
            // Whatever it says, it says something.
            let _answer = certified_peer(bytes, "shop");
        });
}
