//! Rows of `join_corrections`: connections that turned up after their request was written.

use ja4_model::{Confirmed, Correction};

use super::facts;
use crate::native::{Fixed, LowText, block};

block! {
    /// Builds blocks of `join_corrections`.
    JoinCorrectionsBlock for "join_corrections" {
        ts: Fixed<i64> = "DateTime64(6, 'UTC')",
        recv_ts: Fixed<i64> = "DateTime64(6, 'UTC')",
        boot: Fixed<u64> = "UInt64",
        seq: Fixed<u64> = "UInt64",
        src_ip: Fixed<[u8; 16]> = "IPv6",
        host: LowText = "LowCardinality(String)",
        r#match: Fixed<i8> = "Enum8('exact' = 1, 'asof' = 2, 'ambiguous' = 3, 'none' = 4)",
        match_reason: LowText = "LowCardinality(String)",
        delta_us: Fixed<i64> = "Int64",
        conn_uid: Fixed<u128> = "UInt128",
        confirmed: Fixed<i8> = "Enum8('none' = 0, 'acked' = 1, 'followed' = 2)",
        ja4: LowText = "LowCardinality(String)",
        ja4_norm: LowText = "LowCardinality(String)",
        ja3: LowText = "LowCardinality(String)",
        sni: LowText = "LowCardinality(String)",
    }
}

impl JoinCorrectionsBlock {
    /// Appends a row.
    pub fn push(&mut self, row: &Correction<'_>) {
        self.ts.push(facts::micros(row.request_ts_ns));
        self.recv_ts.push(facts::micros(row.corrected_ns));
        self.boot.push(row.request_id.boot.0);
        self.seq.push(row.request_id.seq);
        self.src_ip.push(row.src_ip.0);
        self.host.push(row.host.as_bytes());
        self.r#match.push(facts::verdict(row.verdict));
        self.match_reason.push(row.verdict.reason().as_bytes());
        let opened_ns = row.hello.and_then(|hello| hello.conn.open_ts_ns);
        self.delta_us.push(opened_ns.map_or(0, |opened| {
            facts::micros(row.request_ts_ns.saturating_sub(opened))
        }));
        self.conn_uid.push(row.conn_uid.0);
        self.confirmed.push(facts::confirmed(
            row.hello.map_or(Confirmed::None, |hello| hello.conn.confirmed),
        ));
        let tls = row.hello.map(|hello| &hello.tls);
        self.ja4.push(tls.map_or(b"", |tls| tls.ja4.as_bytes()));
        self.ja4_norm.push(tls.map_or(b"", |tls| tls.ja4_norm.as_bytes()));
        self.ja3.push(tls.map_or(b"", |tls| tls.ja3.as_bytes()));
        self.sni.push(row.hello.map_or(b"", |hello| hello.sni.as_bytes()));
        self.rows += 1;
    }
}
