//! Names of the store's metrics, and the counters behind them and the ledger.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ja4_common::ledger::{Ledger, Stage};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    register_histogram_with_registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};

/// Statements by class of client, kind and outcome (`ok` or the error's code).
pub const STATEMENTS: &str = "clickhouse_statements_total";
/// Wall time of statements, seconds.
pub const STATEMENT_SECONDS: &str = "clickhouse_statement_seconds";
/// Statements that run now.
pub const STATEMENTS_RUNNING: &str = "clickhouse_statements_running";
/// Statements cancelled because their client went away or did not read.
pub const STATEMENTS_CANCELLED: &str = "clickhouse_statements_cancelled_total";
/// Rows written by inserts, those of materialized views included.
pub const ROWS_WRITTEN: &str = "clickhouse_rows_written_total";
/// Bytes of insert data received, decompressed.
pub const INSERT_BYTES: &str = "clickhouse_insert_bytes_total";
/// Open connections.
pub const CONNECTIONS: &str = "clickhouse_connections";
/// Connections refused because there were too many.
pub const CONNECTIONS_REFUSED: &str = "clickhouse_connections_refused_total";
/// Requests without a right token.
pub const AUTHENTICATION_FAILED: &str = "clickhouse_authentication_failed_total";
/// Deduplication records without a part, dropped at this start.
pub const REPAIRED_RECORDS: &str = "clickhouse_repaired_records";
/// Torn lines of deduplication logs, cut at this start.
pub const REPAIRED_LINES: &str = "clickhouse_repaired_lines";
/// Reloads of dictionaries by outcome.
pub const DICTIONARY_RELOADS: &str = "clickhouse_dictionary_reloads_total";
/// Free space of the data's file system, bytes, as of the last insert.
pub const DISK_FREE: &str = "clickhouse_disk_free_bytes";

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    /// [`STATEMENTS`].
    pub statements: IntCounterVec,
    /// [`STATEMENT_SECONDS`].
    pub statement_seconds: Histogram,
    /// [`STATEMENTS_RUNNING`].
    pub running: IntGauge,
    /// [`STATEMENTS_CANCELLED`].
    pub cancelled: IntCounter,
    /// [`ROWS_WRITTEN`].
    pub rows_written: IntCounter,
    /// [`INSERT_BYTES`].
    pub insert_bytes: IntCounter,
    /// [`CONNECTIONS`].
    pub connections: IntGauge,
    /// [`CONNECTIONS_REFUSED`].
    pub connections_refused: IntCounter,
    /// [`AUTHENTICATION_FAILED`].
    pub authentication_failed: IntCounter,
    /// [`REPAIRED_RECORDS`].
    pub repaired_records: IntGauge,
    /// [`REPAIRED_LINES`].
    pub repaired_lines: IntGauge,
    /// [`DICTIONARY_RELOADS`].
    pub dictionary_reloads: IntCounterVec,
    /// [`DISK_FREE`].
    pub disk_free: IntGauge,
    inserts: InsertLedger,
}

/// Inserts as a stage of the ledger: received = passed + dropped by reason + pending.
#[derive(Debug, Default)]
struct InsertLedger {
    received: AtomicU64,
    passed: AtomicU64,
    dropped: Mutex<BTreeMap<String, u64>>,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// When a name is registered twice.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter =
            |name: &str, help: &str| register_int_counter_with_registry!(Opts::new(name, help), registry);
        let gauge =
            |name: &str, help: &str| register_int_gauge_with_registry!(Opts::new(name, help), registry);
        // 1 ms to a minute: a SELECT 1 takes 1, the longest dashboard query some hundred.
        let buckets = vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0];
        Ok(Self {
            statements: register_int_counter_vec_with_registry!(
                Opts::new(
                    STATEMENTS,
                    "statements by class of client, kind and outcome (ok or error code)"
                ),
                &["class", "kind", "outcome"],
                registry
            )?,
            statement_seconds: register_histogram_with_registry!(
                HistogramOpts::new(STATEMENT_SECONDS, "wall time of statements").buckets(buckets),
                registry
            )?,
            running: gauge(STATEMENTS_RUNNING, "statements that run now")?,
            cancelled: counter(
                STATEMENTS_CANCELLED,
                "statements cancelled because their client went away or did not read",
            )?,
            rows_written: counter(ROWS_WRITTEN, "rows written, those of materialized views included")?,
            insert_bytes: counter(INSERT_BYTES, "bytes of insert data received, decompressed")?,
            connections: gauge(CONNECTIONS, "open connections")?,
            connections_refused: counter(
                CONNECTIONS_REFUSED,
                "connections refused because there were too many",
            )?,
            authentication_failed: counter(AUTHENTICATION_FAILED, "requests without a right token")?,
            repaired_records: gauge(
                REPAIRED_RECORDS,
                "deduplication records without a part, dropped at this start",
            )?,
            repaired_lines: gauge(
                REPAIRED_LINES,
                "torn lines of deduplication logs, cut at this start",
            )?,
            dictionary_reloads: register_int_counter_vec_with_registry!(
                Opts::new(DICTIONARY_RELOADS, "reloads of dictionaries by outcome"),
                &["outcome"],
                registry
            )?,
            disk_free: gauge(
                DISK_FREE,
                "free space of the data's file system as of the last insert",
            )?,
            inserts: InsertLedger::default(),
        })
    }

    /// An insert came in.
    pub fn insert_received(&self) {
        self.inserts.received.fetch_add(1, Ordering::Relaxed);
    }

    /// An insert was committed and acknowledged.
    pub fn insert_passed(&self) {
        self.inserts.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// An insert was refused or failed; `reason` is `code_N` or `aborted`.
    pub fn insert_dropped(&self, reason: String) {
        let mut dropped = self
            .inserts
            .dropped
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *dropped.entry(reason).or_insert(0) += 1;
    }

    /// The store's ledger: inserts that came in and what became of them.
    pub fn ledger(&self) -> Ledger {
        let mut stage = Stage::new("clickhouse.inserts");
        // What is done first, so that nothing counts as done that is not yet counted as received.
        stage.passed = self.inserts.passed.load(Ordering::Acquire);
        stage.dropped = self
            .inserts
            .dropped
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        stage.received = self.inserts.received.load(Ordering::Acquire);
        stage.pending = stage
            .received
            .saturating_sub(stage.passed + stage.dropped_total());
        let facts = BTreeMap::from([("rows_written".to_owned(), self.rows_written.get().into())]);
        Ledger {
            stages: vec![stage],
            facts,
        }
    }
}
