//! Every TLS hello of the shared corpus `hellos.tsv` has the fingerprints that stand beside it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

use std::path::Path;

use sensor_wire::fingerprint::{Carrier, Fingerprints};
use sensor_wire::tls::{ClientHello, HelloScanner, Scan, collect_message};

/// The corpus lies beside the checkout; without it the test says so and checks nothing.
fn corpus() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/hellos.tsv");
    let text = std::fs::read_to_string(&path);
    if text.is_err() {
        println!("skipped: no corpus at {}", path.display());
    }
    text.ok()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The message cut into records of `size` bytes.
fn into_records(message: &[u8], size: usize) -> Vec<u8> {
    let header = |n: usize| [&[22, 3, 1][..], &u16::try_from(n).unwrap().to_be_bytes()].concat();
    message
        .chunks(size)
        .flat_map(|piece| [header(piece.len()), piece.to_vec()].concat())
        .collect()
}

#[test]
fn corpus_hellos_have_the_right_fingerprints() {
    let Some(text) = corpus() else { return };
    let (mut n_right, mut n_all, mut n_dtls) = (0, 0, 0);
    let mut wrong = Vec::new();
    for row in text.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let carrier = match columns[2] {
            "t" => Carrier::Tcp,
            "q" => Carrier::Quic,
            // A DTLS hello has a cookie field that the reader of TLS hellos does not know.
            _ => {
                n_dtls += 1;
                continue;
            }
        };
        let message = from_hex(columns[3]);
        let hello = ClientHello::parse(&message).unwrap();
        let got = Fingerprints::of(&hello, carrier);
        n_all += 1;
        if got.ja4 == columns[0] && got.ja3 == columns[1] {
            n_right += 1;
        } else {
            wrong.push(format!(
                "{} {} but got {} {}",
                columns[0], columns[1], got.ja4, got.ja3
            ));
        }
    }
    println!("hellos.tsv: {n_right} of {n_all} right; not yet: {n_dtls} (DTLS)");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_all > 100, "the corpus holds {n_all} hellos only");
}

#[test]
fn corpus_hellos_survive_any_record_size() {
    let Some(text) = corpus() else { return };
    for row in text.lines().skip(1).filter(|row| row.contains("\tt\t")) {
        let message = from_hex(row.rsplit('\t').next().unwrap());
        for size in [1, 5, 64, 1000] {
            let stream = into_records(&message, size);
            let scan = HelloScanner::default().advance(&stream);
            let expected = Scan::Complete {
                preamble_bytes: 0,
                message_bytes: message.len(),
                stream_bytes: stream.len(),
            };
            assert_eq!(scan, expected);
            assert_eq!(collect_message(&stream, message.len()), message);
        }
    }
}
