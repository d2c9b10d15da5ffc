//! Rows of `source_status`: what a producer says of itself beside what was received from it.

use ja4_model::{Head, Status};

use super::facts;
use crate::native::{Fixed, LowText, PairCounts, block};

block! {
    /// Builds blocks of `source_status`.
    SourceStatusBlock for "source_status" {
        recv_ts: Fixed<i64> = "DateTime64(6, 'UTC')",
        ts: Fixed<i64> = "DateTime64(6, 'UTC')",
        source: LowText = "LowCardinality(String)",
        node: LowText = "LowCardinality(String)",
        boot: Fixed<u64> = "UInt64",
        id_kind: Fixed<i8> = "Enum8('producer' = 1, 'receiver' = 2)",
        next_seq: Fixed<u64> = "UInt64",
        received: Fixed<u64> = "UInt64",
        lost: Fixed<u64> = "UInt64",
        duplicates: Fixed<u64> = "UInt64",
        dropped: PairCounts = "Map(String, UInt64)",
        stopped: Fixed<u8> = "Bool",
    }
}

/// The last status of a producer and the receiver's own counts of it.
#[derive(Debug, Clone, Copy)]
pub struct SourceStatusRow<'a> {
    /// Of the status; `recv_ns` is when the counts were taken.
    pub head: &'a Head<'a>,
    /// What the producer says.
    pub status: &'a Status<'a>,
    /// Events received from it, each once.
    pub received: u64,
    /// Gaps in its numbers that no drop explains.
    pub lost: u64,
    /// Events received again and left out.
    pub duplicates: u64,
}

impl SourceStatusBlock {
    /// Appends a row.
    pub fn push(&mut self, row: &SourceStatusRow<'_>) {
        let head = row.head;
        self.recv_ts
            .push(facts::micros(head.recv_ns.unwrap_or(head.ts_ns)));
        self.ts.push(facts::micros(head.ts_ns));
        self.source.push(head.source.as_bytes());
        self.node.push(head.node.as_bytes());
        self.boot.push(head.boot.0);
        self.id_kind.push(facts::id_kind(head.id_kind));
        self.next_seq.push(row.status.next_seq);
        self.received.push(row.received);
        self.lost.push(row.lost);
        self.duplicates.push(row.duplicates);
        for (reason, n) in &row.status.dropped {
            self.dropped.push_pair(reason.as_bytes(), *n);
        }
        self.dropped.end_row();
        self.stopped.push(u8::from(row.status.last));
        self.rows += 1;
    }
}
