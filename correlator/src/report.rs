//! `/report`: how the pipeline is, for the operator and for monitors. Every part of it says how old it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ja4_common::exit::Failure;
use ja4_common::ledger::Ledger;
use ja4_transport::Counters;
use ja4_transport::remote::{NodeFacts, RemoteConfig};
use serde_json::{Value, json};

use crate::clock;
use crate::config::{CorrelatorConfig, IngestSection};

#[derive(Debug, Default)]
struct State {
    ledger: Option<(Instant, Ledger)>,
    listeners: Value,
    store: Option<Store>,
}

/// How the store is.
#[derive(Debug)]
struct Store {
    /// Class of the error; none if it takes batches.
    error: Option<&'static str>,
    reason: String,
    since: Instant,
    asked: Instant,
}

/// What the parts of the process tell, and what answers are made of. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reporter(Arc<Mutex<State>>);

/// Longest text of the store in a report.
const REASON_CHARS: usize = 300;

impl Reporter {
    /// The listeners of the configuration; that for nodes answers with reports.
    pub(crate) fn listeners(&self, config: &CorrelatorConfig) -> Result<Vec<RemoteConfig>, Failure> {
        let boot = getrandom::u64().map_err(|error| Failure::failed(error.to_string()))?;
        let mut listeners = Vec::new();
        if let Some(remote) = &config.remote {
            let mut listener = remote.listener();
            let reporter = self.clone();
            listener.report = Some(Arc::new(move |facts| reporter.report(&facts)));
            listeners.push(listener);
        }
        listeners.extend(config.ingest.iter().map(IngestSection::listener));
        for listener in &mut listeners {
            listener.boot = boot;
        }
        Ok(listeners)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up the counts of now.
    pub(crate) fn publish(&self, ledger: &Ledger, counters: &Counters) {
        let listeners = counters.listeners.iter().map(|listener| {
            let refused: BTreeMap<&str, u64> = listener
                .refused
                .iter()
                .map(|(reason, n)| (reason.name(), *n))
                .collect();
            json!({
                "name": listener.path.display().to_string(),
                "open": listener.open,
                "accepted": listener.accepted,
                "refused": refused,
            })
        });
        let listeners = listeners.collect();
        let mut state = self.lock();
        state.ledger = Some((Instant::now(), ledger.clone()));
        state.listeners = listeners;
    }

    /// Notes how the store is: the class of its error, or none.
    pub(crate) fn store(&self, error: Option<&'static str>, reason: &str) {
        let now = Instant::now();
        let mut state = self.lock();
        let since = match &state.store {
            Some(store) if store.error == error => store.since,
            _ => now,
        };
        state.store = Some(Store {
            error,
            reason: reason.trim().chars().take(REASON_CHARS).collect(),
            since,
            asked: now,
        });
    }

    /// The report as JSON.
    fn report(&self, facts: &[NodeFacts]) -> Vec<u8> {
        let state = self.lock();
        let nodes: Vec<Value> = facts.iter().map(node).collect();
        let store = state.store.as_ref().map(|store| {
            json!({
                "error": store.error,
                "reason": store.reason,
                "since_ms": age(store.since),
                "age_ms": age(store.asked),
            })
        });
        let counts = state.ledger.as_ref().map(|(at, ledger)| {
            let dropped: BTreeMap<&str, &BTreeMap<String, u64>> = ledger
                .stages
                .iter()
                .filter(|stage| !stage.dropped.is_empty())
                .map(|stage| (stage.name.as_str(), &stage.dropped))
                .collect();
            json!({
                "age_ms": age(*at),
                "stages": ledger.stages,
                "dropped": dropped,
                "joined": ledger.facts.get("joined"),
                "join_rate": join_rate(ledger.facts.get("joined")),
                "requests": ledger.facts.get("requests"),
                "hellos": ledger.facts.get("hellos"),
                "announced": ledger.facts.get("announced"),
                "spool": ledger.facts.get("spool"),
                "listeners": state.listeners,
            })
        });
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "made_ns": clock::wall_ns(),
            "nodes": nodes,
            "store": store,
            "counts": counts,
        });
        report.to_string().into_bytes()
    }
}

fn node(facts: &NodeFacts) -> Value {
    // Bounded by the hop; what is no JSON is said to be none.
    let said: Option<Value> = serde_json::from_slice(&facts.json).ok();
    json!({
        "node": facts.node,
        "connected": facts.connected,
        "software": facts.software,
        "facts": said,
        "age_ms": age(facts.received),
    })
}

/// Joined requests by all that are not plaintext; null while there are none.
fn join_rate(joined: Option<&Value>) -> Option<f64> {
    let joined = joined?;
    let n = |value: &Value| value.as_u64().unwrap_or(0);
    let good = n(&joined["exact"]) + n(&joined["asof"]);
    let none: u64 = joined["none"]
        .as_object()?
        .iter()
        .filter(|(reason, _)| *reason != "plaintext")
        .map(|(_, value)| n(value))
        .sum();
    let all = good + n(&joined["ambiguous"]) + none;
    (all > 0).then(|| good as f64 / all as f64)
}

fn age(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_join_rate_leaves_out_plain_requests() {
        let joined =
            json!({ "exact": 2, "asof": 4, "ambiguous": 1, "none": { "no_conn": 1, "plaintext": 9 } });
        assert_eq!(join_rate(Some(&joined)), Some(0.75));
        assert_eq!(
            join_rate(Some(
                &json!({ "exact": 0, "asof": 0, "ambiguous": 0, "none": {} })
            )),
            None
        );
    }

    #[test]
    fn every_part_of_a_report_says_its_age_and_what_is_not_known_is_null() {
        let reporter = Reporter::default();
        let report: Value = serde_json::from_slice(&reporter.report(&[])).unwrap();
        assert!(
            report["store"].is_null() && report["counts"].is_null(),
            "{report}"
        );
        reporter.publish(&Ledger::default(), &Counters::default());
        reporter.store(Some("Unreachable"), "refused\n");
        let facts = NodeFacts {
            node: "web-1".to_owned(),
            received: Instant::now(),
            json: bytes::Bytes::from_static(b"{\"spool\":{}}"),
            connected: true,
            software: "x 1".to_owned(),
        };
        let report: Value = serde_json::from_slice(&reporter.report(&[facts])).unwrap();
        for part in [&report["store"], &report["counts"], &report["nodes"][0]] {
            assert!(part["age_ms"].is_u64(), "{report}");
        }
        assert_eq!(report["store"]["error"], "Unreachable");
    }
}
