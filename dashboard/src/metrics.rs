//! Names and handles of everything that is counted. Labels take values from fixed lists only.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

/// Requests, by route template, method and class of status.
const REQUESTS: &str = "dashboard_http_requests_total";
/// Time until an answer begins, by route template.
const REQUEST_SECONDS: &str = "dashboard_http_request_seconds";
/// Queries, by file and outcome.
const QUERIES: &str = "dashboard_queries_total";
/// Time of queries, by file.
const QUERY_SECONDS: &str = "dashboard_query_seconds";
/// Logins, by kind and outcome.
const LOGINS: &str = "dashboard_logins_total";
/// Sessions now.
const SESSIONS: &str = "dashboard_sessions";
/// Acts of users, by kind.
const ACTS: &str = "dashboard_acts_total";
/// Queries of users that found no place in the audit.
const AUDIT_DROPPED: &str = "dashboard_audit_dropped_total";

/// Handles.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) request_seconds: HistogramVec,
    pub(crate) queries: IntCounterVec,
    pub(crate) query_seconds: HistogramVec,
    pub(crate) logins: IntCounterVec,
    pub(crate) sessions: IntGauge,
    pub(crate) acts: IntCounterVec,
    pub(crate) audit_dropped: prometheus::IntCounter,
}

impl Metrics {
    /// Makes and registers all of them.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        // An empty page takes a few milliseconds, the limit of a query is ten seconds.
        let buckets = vec![
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        ];
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(REQUESTS, "requests answered"),
                &["method", "route", "status"],
            )?,
            request_seconds: HistogramVec::new(
                HistogramOpts::new(REQUEST_SECONDS, "time until an answer begins").buckets(buckets.clone()),
                &["route"],
            )?,
            queries: IntCounterVec::new(
                Opts::new(QUERIES, "queries asked of the store"),
                &["query", "outcome"],
            )?,
            query_seconds: HistogramVec::new(
                HistogramOpts::new(QUERY_SECONDS, "time of queries").buckets(buckets),
                &["query"],
            )?,
            logins: IntCounterVec::new(Opts::new(LOGINS, "attempts to log in"), &["kind", "outcome"])?,
            sessions: IntGauge::new(SESSIONS, "sessions now")?,
            acts: IntCounterVec::new(Opts::new(ACTS, "acts of users"), &["act"])?,
            audit_dropped: prometheus::IntCounter::new(
                AUDIT_DROPPED,
                "queries of users that found no place in the audit",
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.request_seconds.clone()))?;
        registry.register(Box::new(metrics.queries.clone()))?;
        registry.register(Box::new(metrics.query_seconds.clone()))?;
        registry.register(Box::new(metrics.logins.clone()))?;
        registry.register(Box::new(metrics.sessions.clone()))?;
        registry.register(Box::new(metrics.acts.clone()))?;
        registry.register(Box::new(metrics.audit_dropped.clone()))?;
        Ok(metrics)
    }
}
