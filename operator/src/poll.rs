//! Asks every correlator for its report, again and again, and makes of two reports what happens now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::ResourceExt as _;
use operator_api::{Component, Ja4Pipeline, Placement};
use operator_manifests::{CORRELATOR_PORT, names};
use tokio::sync::{mpsc, watch};

use crate::conditions::Told;
use crate::context::Context;
use crate::pki::{Data, Part};
use crate::report::{Credentials, Endpoint, Joined, Passage, Report, fetch};
use crate::vault::Known;
use crate::world::Key;

/// Between two questions to a correlator.
const EVERY: Duration = Duration::from_secs(10);
/// What happens now is what has happened since the window before this one began.
const WINDOW: Duration = Duration::from_mins(2);
/// Questions at once.
const AT_ONCE: usize = 16;
/// Requests over TLS below which a share says nothing.
const FEW: u64 = 20;
/// Requests that the correlator could not have joined: their connections began before it did.
const WARMUP: &str = "warmup";

/// The last two reports at the beginning of a window. Before the first, nothing had happened.
#[derive(Debug)]
struct Windows {
    earlier: Report,
    latest: (Instant, Report),
}

impl Windows {
    fn new() -> Self {
        Self {
            earlier: Report::default(),
            latest: (Instant::now(), Report::default()),
        }
    }

    /// The report to compare with. It moves on when time has passed and enough has happened to say something.
    fn baseline(&mut self, report: &Report) -> Report {
        let n = joined(report).since(&joined(&self.latest.1)).over_tls();
        if self.latest.0.elapsed() >= WINDOW && n >= FEW {
            self.earlier = std::mem::replace(&mut self.latest, (Instant::now(), report.clone())).1;
        }
        self.earlier.clone()
    }
}

fn joined(report: &Report) -> Joined {
    report
        .counts
        .as_ref()
        .and_then(|counts| counts.joined.clone())
        .unwrap_or_default()
}

/// Asks while this process leads.
pub(crate) async fn poll(
    ctx: Arc<Context>,
    leads: watch::Receiver<bool>,
    changed: mpsc::UnboundedSender<Key>,
) {
    let mut windows: BTreeMap<Key, Windows> = BTreeMap::new();
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if !*leads.borrow() {
            windows.clear();
            continue;
        }
        let pipelines = ctx.all_pipelines();
        ctx.metrics
            .set_pending(pipelines.iter().filter(|pipeline| is_pending(pipeline)).count());
        let asked: Vec<Arc<Ja4Pipeline>> = pipelines
            .iter()
            .filter(|pipeline| has_correlator(pipeline))
            .cloned()
            .collect();
        let answers: Vec<(Key, Option<Report>)> = futures_util::stream::iter(asked)
            .map(|pipeline| ask(Arc::clone(&ctx), pipeline))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        windows.retain(|key, _| answers.iter().any(|(other, _)| other == key));
        for (key, report) in answers {
            let Some(report) = report else { continue };
            let Some(pipeline) = pipelines.iter().find(|pipeline| key_of(pipeline) == key) else {
                continue;
            };
            let baseline = windows
                .entry(key.clone())
                .or_insert_with(Windows::new)
                .baseline(&report);
            if ctx.reports.keep(&key, told(&report, &baseline, pipeline)) {
                // Nobody listens any more when the process ends.
                drop(changed.send(key));
            }
        }
    }
}

fn key_of(pipeline: &Ja4Pipeline) -> Key {
    (pipeline.namespace().unwrap_or_default(), pipeline.name_any())
}

/// True if the operator has not said anything of the newest spec yet.
fn is_pending(pipeline: &Ja4Pipeline) -> bool {
    pipeline.status.as_ref().map(|status| status.observed_generation) != pipeline.metadata.generation
}

/// True if there should be a correlator that answers.
fn has_correlator(pipeline: &Ja4Pipeline) -> bool {
    let spec = &pipeline.spec;
    spec.correlator.placement == Placement::Central && !spec.suspend && !spec.correlator.suspend
}

async fn ask(ctx: Arc<Context>, pipeline: Arc<Ja4Pipeline>) -> (Key, Option<Report>) {
    let key = key_of(&pipeline);
    let Known::All(secrets) = ctx.vault.of(&key) else {
        return (key, None);
    };
    let Some(own) = secrets.get(&Part::OperatorTls.name(&key.1)) else {
        return (key, None);
    };
    let file = |data: &Data, name: &str| data.get(name).to_vec();
    let credentials = Credentials {
        trust: file(&own.data, "ca.crt"),
        certificate: file(&own.data, "tls.crt"),
        key: file(&own.data, "tls.key"),
    };
    let host = names::service_host(&key.0, &names::of(&key.1, Component::Correlator));
    let endpoint = Endpoint {
        host: host.clone(),
        port: CORRELATOR_PORT,
        server_name: host,
    };
    match fetch(&endpoint, &credentials).await {
        Ok(report) => (key, Some(report)),
        Err(error) => {
            // A correlator that is starting or away: the conditions say that it does not answer.
            tracing::debug!(
                pipeline.namespace = key.0,
                pipeline.name = key.1,
                "no report: {}",
                error.line()
            );
            (key, None)
        }
    }
}

/// What a report says, and what has happened since the one before.
fn told(report: &Report, baseline: &Report, pipeline: &Ja4Pipeline) -> Told {
    let (join_rate, join_reason) = join(&joined(report).since(&joined(baseline)));
    let asked = &pipeline.spec.sensor.interfaces;
    let (mut missing, mut lost) = (Vec::new(), Vec::new());
    let mut worst: Option<(f64, String)> = None;
    for node in report.nodes.iter().filter(|node| node.connected) {
        if let Some(interfaces) = node.interfaces() {
            for name in asked.iter().filter(|name| name.as_str() != "auto") {
                if interfaces.get(name.as_str()) != Some(&true) {
                    missing.push(format!("{} on {}", name, node.node));
                }
            }
        }
        let earlier = baseline.nodes.iter().find(|other| other.node == node.node);
        let lost_before = earlier.map(|node| node.dropped_events()).unwrap_or_default();
        let reasons: Vec<&str> = node
            .dropped_events()
            .into_iter()
            .filter(|(reason, n)| *n > lost_before.get(reason).copied().unwrap_or(0))
            .map(|(reason, _)| reason)
            .collect();
        if !reasons.is_empty() {
            lost.push(format!("{} ({})", node.node, reasons.join(", ")));
        }
        let before = earlier.map(|node| node.sensor_passages()).unwrap_or_default();
        for (stage, passage) in node.sensor_passages() {
            let passage = passage.since(before.get(stage).copied().unwrap_or_default());
            raise(&mut worst, passage, &node.node);
        }
    }
    missing.sort();
    lost.sort();
    Told {
        store: report.store.as_ref().and_then(|store| store.error.clone()),
        knows_store: report.store.is_some(),
        join_rate,
        join_reason,
        has_http_source: report
            .counts
            .as_ref()
            .and_then(|counts| counts.requests)
            .unwrap_or(0)
            > 0,
        worst_drop: worst,
        lost,
        missing_interfaces: missing,
        drift: report.schema.as_ref().and_then(|schema| schema.drift.clone()),
    }
}

/// Keeps the highest share.
fn raise(worst: &mut Option<(f64, String)>, passage: Passage, node: &str) {
    let Some(share) = passage.share_dropped() else {
        return;
    };
    if worst.as_ref().is_none_or(|(known, _)| share > *known) {
        // Shares below one in ten thousand are no news.
        *worst = Some(((share * 10_000.0).round() / 10_000.0, node.to_owned()));
    }
}

/// The share of requests over TLS that found their connection, and why others did not.
fn join(joined: &Joined) -> (Option<f64>, Option<String>) {
    let warmup = joined.none.get(WARMUP).copied().unwrap_or(0);
    let all = joined.over_tls().saturating_sub(warmup);
    if all < FEW {
        return (None, None);
    }
    let found = joined.exact.saturating_add(joined.asof);
    // In steps of one in a hundred: status and log are not a chart.
    let rate = (found as f64 / all as f64 * 100.0).round() / 100.0;
    let most = joined
        .none
        .iter()
        .filter(|(reason, _)| *reason != WARMUP && *reason != "plaintext")
        .max_by_key(|(_, n)| **n);
    let reason = most.map(|(reason, _)| match reason.as_str() {
        "no_conn" => "no connection has the addresses of the requests: something between sensor and web server rewrites addresses, or no sensor is where TLS ends".to_owned(),
        "sensor_gap" => "a sensor lost events at that time".to_owned(),
        other => other.to_owned(),
    });
    (Some(rate), reason)
}
