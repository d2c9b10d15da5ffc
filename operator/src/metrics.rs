//! Metrics of the operator: their names, and the counters behind them.
//!
//! Labels are bounded: kinds, verbs, categories and results are the program's own words; pipelines and detectors are
//! those that exist, and [`Metrics::forget`] takes away what is said of a pipeline that is gone. Only the leader says
//! something of pipelines: who stops leading calls [`Metrics::forget_all`].

use std::time::{Duration, SystemTime};

use operator_api::conditions::types;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Passes over a pipeline by how they ended; label `result`.
pub(crate) const RECONCILE_TOTAL: &str = "ja4_operator_reconcile_total";
/// Passes that failed, by why; label `category`.
pub(crate) const RECONCILE_ERRORS_TOTAL: &str = "ja4_operator_reconcile_errors_total";
/// Seconds that passes took.
pub(crate) const RECONCILE_DURATION_SECONDS: &str = "ja4_operator_reconcile_duration_seconds";
/// Pipelines that wait for a pass.
pub(crate) const PENDING: &str = "ja4_operator_pending";
/// 1 while this process leads.
pub(crate) const LEADER: &str = "ja4_operator_leader";
/// Changes that watches told of; label `kind`.
pub(crate) const WATCH_EVENTS_TOTAL: &str = "ja4_operator_watch_events_total";
/// Failures of watches; label `kind`.
pub(crate) const WATCH_ERRORS_TOTAL: &str = "ja4_operator_watch_errors_total";
/// When a watch last told of something; label `kind`.
pub(crate) const WATCH_LAST_EVENT: &str = "ja4_operator_watch_last_event_timestamp_seconds";
/// Children that were looked at, by what was done; labels `kind`, `result`.
pub(crate) const APPLY_TOTAL: &str = "ja4_operator_apply_total";
/// Children that were deleted because nothing asks for them; label `kind`.
pub(crate) const PRUNED_TOTAL: &str = "ja4_operator_pruned_total";
/// Children that somebody else had changed; label `kind`.
pub(crate) const DRIFT_CORRECTED_TOTAL: &str = "ja4_operator_drift_corrected_total";
/// Requests to the API server; label `verb`.
pub(crate) const API_REQUESTS_TOTAL: &str = "ja4_operator_api_requests_total";
/// When a pipeline's last pass succeeded; labels `namespace`, `pipeline`.
pub(crate) const LAST_SUCCESS: &str = "ja4_operator_last_success_timestamp_seconds";
/// 1 for the status that a condition has; labels `namespace`, `pipeline`, `type`, `status`.
pub(crate) const PIPELINE_CONDITION: &str = "ja4_operator_pipeline_condition";
/// When the first certificate of a pipeline ends; labels `namespace`, `pipeline`.
pub(crate) const CERT_EXPIRY: &str = "ja4_operator_cert_expiry_timestamp_seconds";
/// When a detector last succeeded; labels `namespace`, `pipeline`, `detector`.
pub(crate) const DETECTOR_LAST_SUCCESS: &str = "ja4_operator_detector_last_success_timestamp_seconds";
/// Seconds between a detector's cycles; labels `namespace`, `pipeline`, `detector`.
pub(crate) const DETECTOR_PERIOD: &str = "ja4_operator_detector_period_seconds";
/// 1; label `version`.
pub(crate) const BUILD_INFO: &str = "ja4_operator_build_info";

/// Every status of a condition.
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

/// A pass without changes takes some ten milliseconds, one that makes everything some seconds.
const DURATION_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It was not there.
    Created,
    /// It was otherwise.
    Changed,
    /// Nothing was sent.
    Unchanged,
    /// Somebody else changed it at the same time.
    Conflict,
}

impl Applied {
    /// The name in labels.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Conflict => "conflict",
        }
    }
}

/// The metrics of this process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    reconcile: IntCounterVec,
    reconcile_errors: IntCounterVec,
    reconcile_duration: Histogram,
    pending: IntGauge,
    leader: IntGauge,
    watch_events: IntCounterVec,
    watch_errors: IntCounterVec,
    watch_last_event: IntGaugeVec,
    apply: IntCounterVec,
    pruned: IntCounterVec,
    drift_corrected: IntCounterVec,
    api_requests: IntCounterVec,
    last_success: IntGaugeVec,
    condition: IntGaugeVec,
    cert_expiry: IntGaugeVec,
    detector_last_success: IntGaugeVec,
    detector_period: IntGaugeVec,
}

impl Metrics {
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
        let gauges = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntGaugeVec> {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let reconcile_duration = Histogram::with_opts(
            HistogramOpts::new(
                RECONCILE_DURATION_SECONDS,
                "seconds that passes over a pipeline took",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(reconcile_duration.clone()))?;
        gauges(BUILD_INFO, "1, with the version of the operator", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let pipeline = ["namespace", "pipeline"];
        let detector = ["namespace", "pipeline", "detector"];
        let metrics = Self {
            reconcile: counters(
                RECONCILE_TOTAL,
                "passes over a pipeline by how they ended",
                &["result"],
            )?,
            reconcile_errors: counters(
                RECONCILE_ERRORS_TOTAL,
                "passes that failed, by why",
                &["category"],
            )?,
            reconcile_duration,
            pending: gauge(PENDING, "pipelines that wait for a pass")?,
            leader: gauge(LEADER, "1 while this process leads")?,
            watch_events: counters(WATCH_EVENTS_TOTAL, "changes that watches told of", &["kind"])?,
            watch_errors: counters(WATCH_ERRORS_TOTAL, "failures of watches", &["kind"])?,
            watch_last_event: gauges(WATCH_LAST_EVENT, "when a watch last told of something", &["kind"])?,
            apply: counters(
                APPLY_TOTAL,
                "children looked at, by what was done",
                &["kind", "result"],
            )?,
            pruned: counters(
                PRUNED_TOTAL,
                "children deleted because nothing asks for them",
                &["kind"],
            )?,
            drift_corrected: counters(
                DRIFT_CORRECTED_TOTAL,
                "children that somebody else had changed and that were put right",
                &["kind"],
            )?,
            api_requests: counters(API_REQUESTS_TOTAL, "requests to the API server", &["verb"])?,
            last_success: gauges(LAST_SUCCESS, "when a pipeline's last pass succeeded", &pipeline)?,
            condition: gauges(
                PIPELINE_CONDITION,
                "1 for the status that a condition has, 0 for the others",
                &["namespace", "pipeline", "type", "status"],
            )?,
            cert_expiry: gauges(CERT_EXPIRY, "when a pipeline's first certificate ends", &pipeline)?,
            detector_last_success: gauges(
                DETECTOR_LAST_SUCCESS,
                "when a detector last succeeded",
                &detector,
            )?,
            detector_period: gauges(DETECTOR_PERIOD, "seconds between a detector's cycles", &detector)?,
        };
        // A rate needs a first 0.
        for result in ["success", "error"] {
            metrics.reconcile.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// A pass has ended; with the category of its error if it failed.
    pub(crate) fn reconciled(&self, took: Duration, error: Option<&'static str>) {
        let result = if error.is_some() { "error" } else { "success" };
        self.reconcile.with_label_values(&[result]).inc();
        if let Some(category) = error {
            self.reconcile_errors.with_label_values(&[category]).inc();
        }
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// How many pipelines wait for a pass.
    pub(crate) fn set_pending(&self, n: usize) {
        self.pending.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// Whether this process leads.
    pub(crate) fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// A watch told of something at `now`.
    pub(crate) fn watched(&self, kind: &'static str, now: SystemTime) {
        self.watch_events.with_label_values(&[kind]).inc();
        self.watch_last_event.with_label_values(&[kind]).set(seconds(now));
    }

    /// A watch failed; it begins again.
    pub(crate) fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.with_label_values(&[kind]).inc();
    }

    /// A child was looked at.
    pub(crate) fn applied(&self, kind: &str, result: Applied) {
        self.apply.with_label_values(&[kind, result.name()]).inc();
    }

    /// A child was deleted because nothing asks for it.
    pub(crate) fn pruned(&self, kind: &str) {
        self.pruned.with_label_values(&[kind]).inc();
    }

    /// A child that somebody else had changed was put right.
    pub(crate) fn drift_corrected(&self, kind: &str) {
        self.drift_corrected.with_label_values(&[kind]).inc();
    }

    /// A request was sent to the API server.
    pub(crate) fn requested(&self, verb: &'static str) {
        self.api_requests.with_label_values(&[verb]).inc();
    }

    /// A pass over this pipeline succeeded at `now`.
    pub(crate) fn succeeded(&self, namespace: &str, pipeline: &str, now: SystemTime) {
        self.last_success
            .with_label_values(&[namespace, pipeline])
            .set(seconds(now));
    }

    /// A condition has this status. Types and statuses that are not ours are left out.
    pub(crate) fn set_condition(&self, namespace: &str, pipeline: &str, kind: &str, status: &str) {
        if !types::ALL.contains(&kind) || !STATUSES.contains(&status) {
            return;
        }
        for each in STATUSES {
            self.condition
                .with_label_values(&[namespace, pipeline, kind, each])
                .set(i64::from(each == status));
        }
    }

    /// When the first certificate ends; nothing if the operator makes none.
    pub(crate) fn set_cert_expiry(&self, namespace: &str, pipeline: &str, expiry: Option<SystemTime>) {
        let labels = [namespace, pipeline];
        match expiry {
            Some(at) => self.cert_expiry.with_label_values(&labels).set(seconds(at)),
            None => forget_one(&self.cert_expiry, &labels),
        }
    }

    /// A detector's last success, if there was one, and the time between its cycles, if they are not suspended.
    pub(crate) fn set_detector(
        &self,
        (namespace, pipeline, detector): (&str, &str, &str),
        last_success: Option<SystemTime>,
        period: Option<Duration>,
    ) {
        let labels = [namespace, pipeline, detector];
        match last_success {
            Some(at) => self
                .detector_last_success
                .with_label_values(&labels)
                .set(seconds(at)),
            None => forget_one(&self.detector_last_success, &labels),
        }
        match period {
            Some(period) => {
                let period = i64::try_from(period.as_secs()).unwrap_or(i64::MAX);
                self.detector_period.with_label_values(&labels).set(period);
            }
            None => forget_one(&self.detector_period, &labels),
        }
    }

    /// Takes away what is said of detectors of this pipeline that are not among `kept`.
    pub(crate) fn keep_detectors(&self, namespace: &str, pipeline: &str, kept: &[&str]) {
        for gauges in [&self.detector_last_success, &self.detector_period] {
            remove_where(gauges, |label| match label("detector") {
                Some(name) => is_of(namespace, pipeline, label) && !kept.contains(&name),
                None => false,
            });
        }
    }

    /// Takes away all that is said of a pipeline that is gone.
    pub(crate) fn forget(&self, namespace: &str, pipeline: &str) {
        for gauges in self.of_pipelines() {
            remove_where(gauges, |label| is_of(namespace, pipeline, label));
        }
    }

    /// Takes away all that is said of any pipeline: another process leads and says it.
    pub(crate) fn forget_all(&self) {
        for gauges in self.of_pipelines() {
            gauges.reset();
        }
        self.pending.set(0);
    }

    /// All metrics with a label `pipeline`.
    fn of_pipelines(&self) -> [&IntGaugeVec; 5] {
        [
            &self.last_success,
            &self.condition,
            &self.cert_expiry,
            &self.detector_last_success,
            &self.detector_period,
        ]
    }
}

/// Seconds since 1970.
fn seconds(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn is_of<'l>(namespace: &str, pipeline: &str, label: &dyn Fn(&str) -> Option<&'l str>) -> bool {
    label("namespace") == Some(namespace) && label("pipeline") == Some(pipeline)
}

/// Takes one series away, if it is there.
fn forget_one(gauges: &IntGaugeVec, labels: &[&str]) {
    let _was_there = gauges.remove_label_values(labels).is_ok();
}

/// Takes away the series for which `is_gone` says so of their labels.
fn remove_where<F>(gauges: &IntGaugeVec, is_gone: F)
where
    F: for<'l> Fn(&dyn Fn(&str) -> Option<&'l str>) -> bool,
{
    // `desc` names the labels in the order in which they were given; a series lists them sorted.
    let order: Vec<String> = gauges
        .desc()
        .first()
        .map(|desc| desc.variable_labels.clone())
        .unwrap_or_default();
    for family in gauges.collect() {
        for series in family.get_metric() {
            let label = |name: &str| {
                let found = series.get_label().iter().find(|label| label.name() == name);
                found.map(prometheus::proto::LabelPair::value)
            };
            if is_gone(&label) {
                let values: Vec<&str> = order.iter().filter_map(|name| label(name)).collect();
                forget_one(gauges, &values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn filled() -> (Registry, Metrics) {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        for (namespace, pipeline) in [("shop", "main"), ("shop", "other"), ("main", "shop")] {
            metrics.succeeded(namespace, pipeline, AT + Duration::from_secs(5));
            metrics.set_cert_expiry(namespace, pipeline, Some(AT));
            for kind in types::ALL {
                metrics.set_condition(namespace, pipeline, kind, "True");
            }
            for detector in ["fast", "slow"] {
                metrics.set_detector(
                    (namespace, pipeline, detector),
                    Some(AT),
                    Some(Duration::from_mins(5)),
                );
            }
        }
        (registry, metrics)
    }

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    fn series_of(text: &str, namespace: &str, pipeline: &str) -> usize {
        text.lines()
            .filter(|line| {
                line.contains(&format!("namespace=\"{namespace}\""))
                    && line.contains(&format!("pipeline=\"{pipeline}\""))
            })
            .count()
    }

    #[test]
    fn a_pipeline_that_is_gone_leaves_nothing_and_others_stay() {
        let (registry, metrics) = filled();
        let each = types::ALL.len() * STATUSES.len() + 2 + 4;
        assert_eq!(series_of(&text(&registry), "shop", "main"), each);
        metrics.forget("shop", "main");
        metrics.forget("shop", "never");
        let text = text(&registry);
        assert_eq!(series_of(&text, "shop", "main"), 0, "{text}");
        assert_eq!(series_of(&text, "shop", "other"), each);
        assert_eq!(series_of(&text, "main", "shop"), each);
    }

    #[test]
    fn who_stops_leading_says_nothing_of_pipelines() {
        let (registry, metrics) = filled();
        metrics.set_pending(3);
        metrics.forget_all();
        let text = text(&registry);
        assert!(
            !text.contains("pipeline=") && text.contains("ja4_operator_pending 0"),
            "{text}"
        );
    }

    #[test]
    fn a_detector_that_is_gone_leaves_nothing() {
        let (registry, metrics) = filled();
        metrics.keep_detectors("shop", "main", &["slow"]);
        metrics.set_detector(("shop", "other", "slow"), None, None);
        let text = text(&registry);
        let said = |pipeline: &str, detector: &str| {
            text.lines()
                .filter(|line| {
                    line.contains("namespace=\"shop\"")
                        && line.contains(&format!("pipeline=\"{pipeline}\""))
                        && line.contains(&format!("detector=\"{detector}\""))
                })
                .count()
        };
        assert_eq!(
            [
                said("main", "fast"),
                said("main", "slow"),
                said("other", "fast"),
                said("other", "slow")
            ],
            [0, 2, 2, 0],
            "{text}"
        );
    }

    #[test]
    fn a_condition_has_one_status_and_unknown_types_are_left_out() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        metrics.set_condition("shop", "main", types::READY, "True");
        metrics.set_condition("shop", "main", types::READY, "Unknown");
        metrics.set_condition("shop", "main", "Invented", "True");
        metrics.set_condition("shop", "main", types::STALLED, "Perhaps");
        let text = text(&registry);
        let set: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with(PIPELINE_CONDITION) && line.ends_with(" 1"))
            .collect();
        assert_eq!(set.len(), 1, "{text}");
        assert!(set[0].contains("status=\"Unknown\"") && set[0].contains("type=\"Ready\""));
        assert!(!text.contains("Invented") && !text.contains("Perhaps"));
    }

    #[test]
    fn every_metric_has_the_prefix_and_its_name_once() {
        let (registry, metrics) = filled();
        metrics.reconciled(Duration::from_millis(20), Some("apply"));
        metrics.set_leader(true);
        metrics.watched("Ja4Pipeline", AT);
        metrics.watch_failed("Ja4Pipeline");
        metrics.applied("Service", Applied::Created);
        metrics.pruned("Service");
        metrics.drift_corrected("Service");
        metrics.requested("patch");
        let names: BTreeSet<String> = registry
            .gather()
            .iter()
            .map(|family| family.name().to_owned())
            .collect();
        let expected: BTreeSet<String> = [
            RECONCILE_TOTAL,
            RECONCILE_ERRORS_TOTAL,
            RECONCILE_DURATION_SECONDS,
            PENDING,
            LEADER,
            WATCH_EVENTS_TOTAL,
            WATCH_ERRORS_TOTAL,
            WATCH_LAST_EVENT,
            APPLY_TOTAL,
            PRUNED_TOTAL,
            DRIFT_CORRECTED_TOTAL,
            API_REQUESTS_TOTAL,
            LAST_SUCCESS,
            PIPELINE_CONDITION,
            CERT_EXPIRY,
            DETECTOR_LAST_SUCCESS,
            DETECTOR_PERIOD,
            BUILD_INFO,
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(names, expected);
    }
}
