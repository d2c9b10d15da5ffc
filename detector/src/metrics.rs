//! Metrics of the detector.

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::cycle::Report;

/// Cycles that succeeded.
pub const CYCLES_TOTAL: &str = "detector_cycles_total";
/// Cycles that failed.
pub const CYCLE_FAILURES_TOTAL: &str = "detector_cycle_failures_total";
/// Clients scored, all cycles.
pub const SCORED_TOTAL: &str = "detector_clients_scored_total";
/// Length of the last cycle.
pub const CYCLE_DURATION_MS: &str = "detector_cycle_duration_milliseconds";
/// Processor time of the last cycle.
pub const CYCLE_CPU_MS: &str = "detector_cycle_cpu_milliseconds";
/// Clients in the last cycle; label `what`: seen, scored, flagged, alerts, suppressed, `suppressed_by_label`.
pub const CLIENTS: &str = "detector_clients";
/// End of the newest scored window.
pub const WINDOW_END_SECONDS: &str = "detector_window_end_timestamp_seconds";
/// New incidents of the last 24 hours.
pub const BUDGET_USED: &str = "detector_budget_used";
/// State by model; label `model`: 0 learning, 1 provisional, 2 armed.
pub const MODEL_STATE: &str = "detector_model_state";

/// The metrics of one process. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    cycles: IntCounter,
    failures: IntCounter,
    scored: IntCounter,
    duration_ms: IntGauge,
    cpu_ms: IntGauge,
    clients: IntGaugeVec,
    window_end: IntGauge,
    budget_used: IntGauge,
    model_state: IntGaugeVec,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// If one of the names is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            cycles: IntCounter::new(CYCLES_TOTAL, "cycles that succeeded")?,
            failures: IntCounter::new(CYCLE_FAILURES_TOTAL, "cycles that failed")?,
            scored: IntCounter::new(SCORED_TOTAL, "clients scored")?,
            duration_ms: IntGauge::new(CYCLE_DURATION_MS, "length of the last cycle")?,
            cpu_ms: IntGauge::new(CYCLE_CPU_MS, "processor time of the last cycle")?,
            clients: IntGaugeVec::new(Opts::new(CLIENTS, "clients of the last cycle"), &["what"])?,
            window_end: IntGauge::new(WINDOW_END_SECONDS, "end of the newest scored window")?,
            budget_used: IntGauge::new(BUDGET_USED, "new incidents of the last 24 hours")?,
            model_state: IntGaugeVec::new(
                Opts::new(MODEL_STATE, "0 learning, 1 provisional, 2 armed"),
                &["model"],
            )?,
        };
        registry.register(Box::new(metrics.cycles.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.scored.clone()))?;
        registry.register(Box::new(metrics.duration_ms.clone()))?;
        registry.register(Box::new(metrics.cpu_ms.clone()))?;
        registry.register(Box::new(metrics.clients.clone()))?;
        registry.register(Box::new(metrics.window_end.clone()))?;
        registry.register(Box::new(metrics.budget_used.clone()))?;
        registry.register(Box::new(metrics.model_state.clone()))?;
        Ok(metrics)
    }

    /// Notes a cycle.
    pub fn follow(&self, report: &Report) {
        let row = &report.row;
        self.cycles.inc();
        self.scored.inc_by(row.scored);
        self.duration_ms.set(i64::from(row.duration_ms));
        self.cpu_ms.set(i64::from(row.cpu_ms));
        self.window_end.set(i64::from(row.window_end_s));
        self.budget_used.set(i64::from(row.budget_used));
        for (what, n) in [
            ("seen", row.entities),
            ("scored", row.scored),
            ("flagged", row.flagged),
            ("alerts", row.alerts),
            ("suppressed", row.suppressed),
            ("suppressed_by_label", row.suppressed_by_label),
        ] {
            self.clients
                .with_label_values(&[what])
                .set(i64::try_from(n).unwrap_or(i64::MAX));
        }
        for (model, state) in &row.model_states {
            let rank = match state.as_str() {
                "armed" => 2,
                "provisional" => 1,
                _ => 0,
            };
            self.model_state.with_label_values(&[model.as_str()]).set(rank);
        }
    }

    /// Notes a failure.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
