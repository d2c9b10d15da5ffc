//! Fuzz target and properties of cutting blocks: bytes of a spool segment are not trusted.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking and says what it skips"
)]

use std::time::Duration;

use ja4_model::{EventId, Head, Status};
use ja4_schema::native::{Block, cut, n_rows, row_json};
use ja4_schema::rows::{QuarantineBlock, QuarantinedRow, SourceStatusBlock, SourceStatusRow};

fn check(block: &[u8]) {
    let Ok(rows) = n_rows(block) else { return };
    let half = rows / 2;
    if let (Ok(first), Ok(second)) = (cut(block, 0..half), cut(block, half..rows)) {
        assert_eq!(n_rows(&first).unwrap() + n_rows(&second).unwrap(), rows);
        row_json(block, rows - 1).unwrap();
    }
}

#[test]
fn fuzz_any_bytes_are_cut_or_refused() {
    bolero::check!()
        .with_test_time(Duration::from_secs(10))
        .for_each(|bytes: &[u8]| check(bytes));
}

#[test]
fn fuzz_damaged_blocks_are_cut_or_refused() {
    let block = sample(7);
    bolero::check!()
        .with_type::<Vec<(u16, u8)>>()
        .with_test_time(Duration::from_secs(10))
        .for_each(|edits| {
            let mut damaged = block.clone();
            for (at, byte) in edits {
                let at = usize::from(*at) % damaged.len();
                damaged[at] = *byte;
            }
            check(&damaged);
        });
}

fn sample(rows: u32) -> Vec<u8> {
    let mut block = QuarantineBlock::new();
    for row_idx in 0..rows {
        block.push(&QuarantinedRow {
            refused_ns: i64::from(row_idx) * 1_000_000,
            table: if row_idx % 2 == 0 { "http_logs" } else { "tls_logs" },
            batch: &format!("batch-{}", row_idx % 300),
            row_idx,
            event_id: EventId::default(),
            reason: "a \"quoted\" reason",
            row_json: &[0xff, b'{'],
        });
    }
    let mut bytes = Vec::new();
    block.finish(&mut bytes);
    bytes
}

#[test]
fn halves_of_a_block_hold_its_rows_in_order() {
    // Two widths of dictionary index.
    for rows in [7, 700] {
        let block = sample(rows);
        let rows = rows as usize;
        let (first, second) = (
            cut(&block, 0..rows / 2).unwrap(),
            cut(&block, rows / 2..rows).unwrap(),
        );
        let json = |block: &[u8], idx| String::from_utf8(row_json(block, idx).unwrap()).unwrap();
        for idx in 0..rows {
            let half = if idx < rows / 2 {
                json(&first, idx)
            } else {
                json(&second, idx - rows / 2)
            };
            assert_eq!(half, json(&block, idx));
        }
        assert_eq!(cut(&block, 0..rows).unwrap(), block);
    }
}

#[test]
fn maps_are_cut_and_shown_as_pairs() {
    let head = Head::new("demo".into(), "node".into(), EventId::default(), 1_000);
    let mut block = SourceStatusBlock::new();
    for n in 0..4_u64 {
        let dropped = (0..n).map(|idx| (format!("reason-{idx}").into(), idx)).collect();
        let status = Status {
            next_seq: n,
            dropped,
            last: n == 3,
        };
        block.push(&SourceStatusRow {
            head: &head,
            status: &status,
            received: n,
            lost: 0,
            duplicates: 0,
        });
    }
    let mut bytes = Vec::new();
    block.finish(&mut bytes);
    let tail = cut(&bytes, 2..4).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&row_json(&tail, 1).unwrap()).unwrap();
    assert_eq!(
        json["dropped"],
        serde_json::json!([["reason-0", 0], ["reason-1", 1], ["reason-2", 2]])
    );
    assert_eq!(
        (
            json["stopped"].as_u64(),
            json["ts"].as_i64(),
            json["source"].as_str()
        ),
        (Some(1), Some(1), Some("demo"))
    );
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let block = sample(3);
    let backwards = std::ops::Range { start: 2, end: 1 };
    for range in [0..4, 3..3, backwards] {
        assert!(cut(&block, range).is_err());
    }
    assert!(row_json(&block, 3).is_err());
    assert!(cut(&block[..block.len() - 1], 0..1).is_err());
    assert!(cut(&[block.as_slice(), b"x"].concat(), 0..1).is_err());
}
