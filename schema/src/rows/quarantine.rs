//! Rows of `quarantine`: rows that the store refused, as JSON.

use ja4_model::{EventId, WallNs};

use super::facts;
use crate::native::{Fixed, LowText, Text, block};

block! {
    /// Builds blocks of `quarantine`.
    QuarantineBlock for "quarantine" {
        recv_ts: Fixed<i64> = "DateTime64(6, 'UTC')",
        table_name: LowText = "LowCardinality(String)",
        batch: LowText = "LowCardinality(String)",
        row_idx: Fixed<u32> = "UInt32",
        boot: Fixed<u64> = "UInt64",
        seq: Fixed<u64> = "UInt64",
        reason: Text = "String",
        row_json: Text = "String",
    }
}

/// A row that the store refused.
#[derive(Debug, Clone, Copy)]
pub struct QuarantinedRow<'a> {
    /// When it was refused.
    pub refused_ns: WallNs,
    /// Table that it was meant for.
    pub table: &'a str,
    /// Token of its batch.
    pub batch: &'a str,
    /// Position in the batch.
    pub row_idx: u32,
    /// Identity of its event, all zero if it has none.
    pub event_id: EventId,
    /// What the store answered.
    pub reason: &'a str,
    /// The row, from [`crate::native::row_json`].
    pub row_json: &'a [u8],
}

impl QuarantineBlock {
    /// Appends a row.
    pub fn push(&mut self, row: &QuarantinedRow<'_>) {
        self.recv_ts.push(facts::micros(row.refused_ns));
        self.table_name.push(row.table.as_bytes());
        self.batch.push(row.batch.as_bytes());
        self.row_idx.push(row.row_idx);
        self.boot.push(row.event_id.boot.0);
        self.seq.push(row.event_id.seq);
        self.reason.push(row.reason.as_bytes());
        self.row_json.push(row.row_json);
        self.rows += 1;
    }
}
