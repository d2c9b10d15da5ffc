//! Metrics of the correlator: their names, and the counters behind them.

use ja4_common::ledger::Ledger;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::totals::Totals;

/// Events by source; labels `source`.
pub(crate) const EVENTS_TOTAL: &str = "correlator_events_total";
/// Requests by match; labels `match`, `reason`.
pub(crate) const JOINED_TOTAL: &str = "correlator_joined_total";
/// Inserts that the store took.
pub(crate) const INSERTS_TOTAL: &str = "correlator_inserts_total";
/// Inserts that had to be sent again.
pub(crate) const INSERT_RETRIES_TOTAL: &str = "correlator_insert_retries_total";
/// Connections held.
pub(crate) const CONNECTIONS: &str = "correlator_connections";
/// Requests that wait.
pub(crate) const PENDING_REQUESTS: &str = "correlator_pending_requests";
/// Sealed batches that wait.
pub(crate) const SPOOL_SEGMENTS: &str = "correlator_spool_segments";
/// Bytes of sealed batches that wait.
pub(crate) const SPOOL_BYTES: &str = "correlator_spool_bytes";
/// Things dropped at a stage; labels `stage`, `reason`.
pub(crate) const DROPPED_TOTAL: &str = "correlator_dropped_total";

/// The metrics of one process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) events: IntCounterVec,
    pub(crate) joined: IntCounterVec,
    pub(crate) dropped: IntCounterVec,
    pub(crate) inserts: IntCounter,
    pub(crate) insert_retries: IntCounter,
    pub(crate) connections: IntGauge,
    pub(crate) pending_requests: IntGauge,
    pub(crate) spool_segments: IntGauge,
    pub(crate) spool_bytes: IntGauge,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// If one of the names is registered already.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            events: IntCounterVec::new(Opts::new(EVENTS_TOTAL, "events settled"), &["source"])?,
            joined: IntCounterVec::new(Opts::new(JOINED_TOTAL, "requests by match"), &["match", "reason"])?,
            dropped: IntCounterVec::new(
                Opts::new(DROPPED_TOTAL, "dropped by reason"),
                &["stage", "reason"],
            )?,
            inserts: IntCounter::new(INSERTS_TOTAL, "inserts that the store took")?,
            insert_retries: IntCounter::new(INSERT_RETRIES_TOTAL, "inserts sent again")?,
            connections: IntGauge::new(CONNECTIONS, "connections held")?,
            pending_requests: IntGauge::new(PENDING_REQUESTS, "requests that wait")?,
            spool_segments: IntGauge::new(SPOOL_SEGMENTS, "sealed batches that wait")?,
            spool_bytes: IntGauge::new(SPOOL_BYTES, "bytes of sealed batches that wait")?,
        };
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.joined.clone()))?;
        registry.register(Box::new(metrics.dropped.clone()))?;
        registry.register(Box::new(metrics.inserts.clone()))?;
        registry.register(Box::new(metrics.insert_retries.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.pending_requests.clone()))?;
        registry.register(Box::new(metrics.spool_segments.clone()))?;
        registry.register(Box::new(metrics.spool_bytes.clone()))?;
        Ok(metrics)
    }

    /// Brings the counters up to the ledger: counters only grow, and the ledger is what they must agree with.
    pub(crate) fn follow(&self, ledger: &Ledger, totals: &Totals) {
        for (source, flow) in &totals.input {
            raise(&self.events.with_label_values(&[source.as_str()]), flow.passed);
        }
        let joined = &totals.joined;
        for (name, n) in [
            ("exact", joined.exact),
            ("asof", joined.asof),
            ("ambiguous", joined.ambiguous),
        ] {
            raise(&self.joined.with_label_values(&[name, ""]), n);
        }
        for (reason, n) in &joined.none {
            raise(&self.joined.with_label_values(&["none", reason.as_str()]), *n);
        }
        for stage in &ledger.stages {
            for (reason, n) in &stage.dropped {
                raise(
                    &self
                        .dropped
                        .with_label_values(&[stage.name.as_str(), reason.as_str()]),
                    *n,
                );
            }
        }
    }
}

fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
