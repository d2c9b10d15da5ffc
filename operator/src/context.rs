//! What all passes share: client, caches, settings, what was said last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::Store;
use kube::{Client, Resource as _, ResourceExt as _};
use operator_api::conditions::{reasons, types};
use operator_api::{Ja4Pipeline, Ja4PipelineStatus};
use operator_manifests::{Apis, Desired, Facts};

use crate::apply::Sender;
use crate::conditions::Told;
use crate::election::Term;
use crate::metrics::Metrics;
use crate::told::Reports;
use crate::vault::Vault;
use crate::world::{Key, World};

/// What is remembered of a pipeline between passes. All of it can be lost: then a pass asks again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The status as it was written last, and when.
    pub(crate) status: Option<(Instant, Ja4PipelineStatus)>,
    /// A recorded set that was fetched, with its number.
    pub(crate) set: Option<(i64, Vec<Desired>)>,
    /// Passes that failed in a row.
    pub(crate) failures: Failures,
}

/// Failures in a row of one pipeline.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    n: u32,
    generation: Option<i64>,
}

impl Failures {
    /// The pause before the next try: doubled each time, from the start again for another generation.
    pub(crate) fn pause(&mut self, generation: Option<i64>, (first, most): (Duration, Duration)) -> Duration {
        if self.generation != generation {
            *self = Self { n: 0, generation };
        }
        let pause = first.saturating_mul(1 << self.n.min(8)).min(most);
        self.n += 1;
        pause
    }

    pub(crate) fn clear(&mut self) {
        self.n = 0;
    }
}

/// What all passes share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: Arc<World>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sender: Sender,
    pub(crate) term: Term,
    pub(crate) recorder: Recorder,
    pub(crate) apis: Apis,
    pub(crate) registry: String,
    pub(crate) runbook_base: String,
    /// One for each namespace, or one for all.
    pub(crate) pipelines: Vec<Store<Ja4Pipeline>>,
    pub(crate) memories: Mutex<BTreeMap<Key, Memory>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context")
    }
}

/// Conditions whose `True` is bad news.
const BAD_WHEN_TRUE: [&str; 3] = [types::STALLED, types::ROLLED_BACK, types::AWAITING_APPROVAL];
/// Conditions of which no event tells: they come and go with every change.
const QUIET: [&str; 2] = [types::RECONCILING, types::SUSPENDED];

/// Reasons of what is not there yet, and nothing to warn of.
const UNDER_WAY: [&str; 5] = [
    reasons::PROGRESSING,
    reasons::PENDING,
    reasons::APPLYING,
    reasons::WAITING,
    reasons::SUSPENDED,
];

impl Context {
    /// What is known beside a resource.
    pub(crate) fn facts(&self) -> Facts {
        let mut ports: Vec<_> = self
            .all_pipelines()
            .into_iter()
            .map(|pipeline| {
                let name = format!(
                    "{}/{}",
                    pipeline.namespace().unwrap_or_default(),
                    pipeline.name_any()
                );
                (
                    pipeline.creation_timestamp(),
                    name,
                    pipeline.spec.sensor.metrics_port,
                )
            })
            .collect();
        ports.sort();
        Facts {
            operator_version: env!("CARGO_PKG_VERSION").to_owned(),
            registry: self.registry.clone(),
            runbook_base: self.runbook_base.clone(),
            apis: self.apis,
            ports: ports.into_iter().map(|(_, name, port)| (name, port)).collect(),
        }
    }

    /// Every pipeline that the operator sees.
    pub(crate) fn all_pipelines(&self) -> Vec<Arc<Ja4Pipeline>> {
        self.pipelines.iter().flat_map(Store::state).collect()
    }

    /// Looks into or changes what is remembered of a pipeline.
    pub(crate) fn memory<T>(&self, key: &Key, look: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        look(memories.entry(key.clone()).or_default())
    }

    /// Forgets everything that can be asked again: another process has led meanwhile.
    pub(crate) fn forget_all(&self) {
        self.memories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.metrics.forget_all();
    }

    /// What the correlator said, if it answers.
    pub(crate) fn told(&self, key: &Key) -> Option<Told> {
        self.reports.told(key)
    }

    /// Forgets a pipeline that is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.memories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        self.reports.forget(key);
        self.metrics.forget(&key.0, &key.1);
        if !self
            .all_pipelines()
            .iter()
            .any(|other| other.namespace().as_ref() == Some(&key.0))
        {
            self.vault.leave(&key.0);
        }
    }

    /// An event for each condition that is another than before.
    pub(crate) async fn tell_transitions(
        &self,
        pipeline: &Ja4Pipeline,
        old: &[Condition],
        new: &[Condition],
    ) {
        let reference = pipeline.object_ref(&());
        for condition in new
            .iter()
            .filter(|condition| !QUIET.contains(&condition.type_.as_str()))
        {
            let before = old.iter().find(|old| old.type_ == condition.type_);
            let is_new =
                before.is_none_or(|old| old.status != condition.status || old.reason != condition.reason);
            let is_good = BAD_WHEN_TRUE.contains(&condition.type_.as_str()) != (condition.status == "True");
            // What is well from the beginning is no news, nor is what is not known yet.
            if !is_new
                || condition.status == "Unknown"
                || (before.is_none() && is_good && condition.type_ != types::READY)
            {
                continue;
            }
            tracing::info!(
                pipeline.namespace = pipeline.namespace().unwrap_or_default(),
                pipeline.name = pipeline.name_any(),
                condition = condition.type_,
                status = condition.status,
                reason = condition.reason,
                "{}/{}: {} is {} ({}): {}",
                pipeline.namespace().unwrap_or_default(),
                pipeline.name_any(),
                condition.type_,
                condition.status,
                condition.reason,
                condition.message
            );
            let is_under_way = UNDER_WAY.contains(&condition.reason.as_str());
            let event = Event {
                type_: if is_good || is_under_way {
                    EventType::Normal
                } else {
                    EventType::Warning
                },
                reason: condition.reason.clone(),
                note: Some(format!(
                    "{} is {}: {}",
                    condition.type_, condition.status, condition.message
                )),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            self.metrics.requested("event");
            if let Err(error) = self.recorder.publish(&event, &reference).await {
                // The condition says the same; an event is a courtesy.
                tracing::debug!(error = %ja4_common::exit::chain(&error), "an event could not be written");
            }
        }
    }
}
