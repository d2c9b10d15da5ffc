//! Metrics of the correlator: their names, and the counters behind them.

use ja4_common::ledger::Ledger;
use ja4_transport::Counters;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::forward::{Backlog, LinkState};
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

/// Connections that a listener has refused; labels `listener`, `reason`.
pub(crate) const REFUSED_TOTAL: &str = "correlator_refused_total";
/// Connections open on a listener; label `listener`.
pub(crate) const OPEN: &str = "correlator_open_connections";

/// Events by what became of them on a node; labels `stage`, `outcome`.
pub(crate) const FORWARD_EVENTS_TOTAL: &str = "forward_events_total";
/// Events dropped on a node; labels `stage`, `reason`.
pub(crate) const FORWARD_DROPPED_TOTAL: &str = "forward_dropped_total";
/// Bytes in the spool of a node.
pub(crate) const FORWARD_SPOOL_BYTES: &str = "forward_spool_bytes";
/// Its budget.
pub(crate) const FORWARD_SPOOL_MAX_BYTES: &str = "forward_spool_max_bytes";
/// Segments in it.
pub(crate) const FORWARD_SPOOL_SEGMENTS: &str = "forward_spool_segments";
/// Age of the oldest one.
pub(crate) const FORWARD_SPOOL_OLDEST_SECONDS: &str = "forward_spool_oldest_seconds";
/// 1 while there is a stream to the correlator.
pub(crate) const FORWARD_CONNECTED: &str = "forward_connected";
/// Streams that were opened.
pub(crate) const FORWARD_CONNECTS_TOTAL: &str = "forward_connects_total";
/// Tries and streams that failed; label `reason`.
pub(crate) const FORWARD_FAILURES_TOTAL: &str = "forward_failures_total";
/// Bytes of segments sent, those sent again included.
pub(crate) const FORWARD_BYTES_SENT_TOTAL: &str = "forward_bytes_sent_total";
/// Open connections that are kept for a correlator that begins again.
pub(crate) const FORWARD_OPEN_CONNECTIONS: &str = "forward_open_connections";
/// Such connections that were let go for room.
pub(crate) const FORWARD_OPEN_EVICTED_TOTAL: &str = "forward_open_connections_evicted_total";

/// The metrics of a forwarder.
#[derive(Debug, Clone)]
pub(crate) struct ForwardMetrics {
    events: IntCounterVec,
    dropped: IntCounterVec,
    spool_bytes: IntGauge,
    spool_max_bytes: IntGauge,
    spool_segments: IntGauge,
    spool_oldest: IntGauge,
    connected: IntGauge,
    connects: IntCounter,
    failures: IntCounterVec,
    bytes_sent: IntCounter,
    open: IntGauge,
    evicted: IntCounter,
}

impl ForwardMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// If one of the names is registered already.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            events: counters(
                FORWARD_EVENTS_TOTAL,
                "events by what became of them",
                &["stage", "outcome"],
            )?,
            dropped: counters(
                FORWARD_DROPPED_TOTAL,
                "events dropped by reason",
                &["stage", "reason"],
            )?,
            spool_bytes: gauge(FORWARD_SPOOL_BYTES, "bytes that wait for the correlator")?,
            spool_max_bytes: gauge(FORWARD_SPOOL_MAX_BYTES, "most bytes that may wait")?,
            spool_segments: gauge(FORWARD_SPOOL_SEGMENTS, "segments that wait for the correlator")?,
            spool_oldest: gauge(FORWARD_SPOOL_OLDEST_SECONDS, "age of what waits longest")?,
            connected: gauge(FORWARD_CONNECTED, "1 while there is a stream to the correlator")?,
            connects: counter(FORWARD_CONNECTS_TOTAL, "streams opened")?,
            failures: counters(
                FORWARD_FAILURES_TOTAL,
                "tries and streams that failed",
                &["reason"],
            )?,
            bytes_sent: counter(FORWARD_BYTES_SENT_TOTAL, "bytes of segments sent")?,
            open: gauge(
                FORWARD_OPEN_CONNECTIONS,
                "open connections kept for announcing them again",
            )?,
            evicted: counter(FORWARD_OPEN_EVICTED_TOTAL, "open connections let go for room")?,
        })
    }

    /// Brings the metrics up to the counts of now. `open` is held and let go.
    pub(crate) fn follow(&self, ledger: &Ledger, backlog: &Backlog, link: &LinkState, open: (usize, u64)) {
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for stage in &ledger.stages {
            let events = |outcome| self.events.with_label_values(&[stage.name.as_str(), outcome]);
            raise(&events("received"), stage.received);
            raise(&events("passed"), stage.passed);
            for (reason, n) in &stage.dropped {
                raise(
                    &self
                        .dropped
                        .with_label_values(&[stage.name.as_str(), reason.as_str()]),
                    *n,
                );
            }
        }
        self.spool_bytes.set(gauge(backlog.bytes));
        self.spool_max_bytes.set(gauge(backlog.max_bytes));
        self.spool_segments.set(gauge(backlog.segments as u64));
        self.spool_oldest.set(backlog.oldest_age_ns / 1_000_000_000);
        self.connected.set(i64::from(link.connected));
        raise(&self.connects, link.connects);
        for (reason, n) in &link.failures {
            raise(&self.failures.with_label_values(&[*reason]), *n);
        }
        raise(&self.bytes_sent, link.bytes_sent);
        self.open.set(gauge(open.0 as u64));
        raise(&self.evicted, open.1);
    }
}

/// The metrics of one process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) events: IntCounterVec,
    pub(crate) joined: IntCounterVec,
    pub(crate) dropped: IntCounterVec,
    refused: IntCounterVec,
    open: prometheus::IntGaugeVec,
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
            refused: IntCounterVec::new(
                Opts::new(REFUSED_TOTAL, "connections refused by reason"),
                &["listener", "reason"],
            )?,
            open: prometheus::IntGaugeVec::new(Opts::new(OPEN, "connections open"), &["listener"])?,
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
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
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

impl Metrics {
    /// Brings the counts of the listeners up to date.
    pub(crate) fn follow_listeners(&self, counters: &Counters) {
        for listener in &counters.listeners {
            let name = listener.path.display().to_string();
            let open = i64::try_from(listener.open).unwrap_or(i64::MAX);
            self.open.with_label_values(&[name.as_str()]).set(open);
            for (reason, n) in &listener.refused {
                raise(
                    &self.refused.with_label_values(&[name.as_str(), reason.name()]),
                    *n,
                );
            }
        }
    }
}

fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
