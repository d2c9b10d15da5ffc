//! One pass over a pipeline: what it asks for, what there is, what to send, what to say.
//!
//! ```text
//! dereference (caches) ─▶ validate ─▶ certificates ─▶ plan ─▶ apply, stage by stage ─▶ prune ─▶ observe ─▶ conditions ─▶ status, events
//! ```
//!
//! A pass over a world that is as it should be sends nothing. Every step may be the last one of this process: the next pass begins from
//! what the cluster has.

mod certificates;
mod sets;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};
use operator_api::conditions::types;
use operator_api::{Component, Ja4Pipeline, Release, Revisions, SchemaStatus, labels};
use operator_manifests::{Facts, Invalid, Stage, ValidPipeline, unchecked, validate};
use serde_json::json;

use crate::apply::{ApplyError, Sender};
use crate::conditions::{Certificates, Seen, conditions};
use crate::context::{Context, Memory};
use crate::observe::{Children, DetectorState, JobState, Pods, Trouble};
use crate::world::Key;
use crate::{pki, revisions, status};

/// How long a write may take to come back by the watch.
const CACHE_LAG: Duration = Duration::from_secs(10);
/// How long a right may be missing before that is called stuck.
const FORBIDDEN_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a pipeline that is ready: times pass that no watch tells of.
const LOOK_READY: Duration = Duration::from_secs(30);
/// Between two looks at one that is not.
const LOOK_BUSY: Duration = Duration::from_secs(5);

/// Why a pass ended early. It is tried again with back-off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// Something could not be sent.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Certificates could not be made.
    #[error("certificates could not be made")]
    Pki(#[from] pki::PkiError),
    /// The status could not be written.
    #[error("the status could not be written")]
    Status(#[source] kube::Error),
    /// A record of a set could not be read.
    #[error("the record of set {0} could not be read")]
    Record(String, #[source] kube::Error),
    /// A record of a set does not hold what it should.
    #[error(
        "the record of set {0} is damaged; delete that ControllerRevision and change the spec to make another set"
    )]
    Damaged(String),
}

impl ReconcileError {
    /// Class for the metric of errors.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Apply(error) => error.category(),
            Self::Pki(_) => "pki",
            Self::Status(_) => "status",
            Self::Record(..) | Self::Damaged(_) => "record",
        }
    }
}

/// One pass.
pub(crate) async fn reconcile(
    pipeline: Arc<Ja4Pipeline>,
    ctx: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if !ctx.term.holds() || pipeline.metadata.deletion_timestamp.is_some() {
        // Children go with their owner; nothing has to be done for it.
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let key = (pipeline.namespace().unwrap_or_default(), pipeline.name_any());
    let outcome = Pass::new(&pipeline, &ctx, key).run().await;
    let category = outcome.as_ref().err().map(ReconcileError::category);
    ctx.metrics.reconciled(started.elapsed(), category);
    match outcome {
        Err(ReconcileError::Apply(ApplyError::NamespaceGoing)) => Ok(Action::requeue(LOOK_READY)),
        Err(ReconcileError::Apply(ApplyError::NotLeader)) => Ok(Action::await_change()),
        other => other,
    }
}

/// What a pass has gathered so far.
struct Pass<'p> {
    pipeline: &'p Ja4Pipeline,
    ctx: &'p Context,
    key: Key,
    now: SystemTime,
    sender: Sender,
    faults: Vec<Trouble>,
    next: Duration,
}

/// What the apply step did.
struct Outcome {
    held: Option<Stage>,
    schema_job: String,
    schema_attempt: u32,
    next_attempt: Option<SystemTime>,
    revisions: Revisions,
    awaiting: Option<(Vec<String>, String)>,
    rolled_back: Option<String>,
}

impl<'p> Pass<'p> {
    fn new(pipeline: &'p Ja4Pipeline, ctx: &'p Context, key: Key) -> Self {
        Self {
            pipeline,
            ctx,
            now: SystemTime::now(),
            sender: ctx.sender.clone(),
            key,
            faults: Vec::new(),
            next: LOOK_READY,
        }
    }

    async fn run(mut self) -> Result<Action, ReconcileError> {
        let facts = self.ctx.facts();
        let valid = match validate(self.pipeline, &facts) {
            Ok(valid) => valid,
            Err(invalid) => return self.hold(&invalid, &facts).await,
        };
        let certificates = self.certificates(&valid).await?;
        let Some(certificates) = certificates else {
            return Ok(Action::requeue(Duration::from_secs(1)));
        };
        let outcome = self.sets(&valid).await?;
        let status = self.observed(&valid, &outcome, &certificates);
        let is_ready = status
            .conditions
            .iter()
            .any(|c| c.type_ == types::READY && c.status == "True");
        self.write_status(status).await?;
        self.ctx.metrics.succeeded(&self.key.0, &self.key.1, self.now);
        if !is_ready {
            self.next = self.next.min(LOOK_BUSY);
        }
        Ok(Action::requeue(self.next))
    }

    /// A spec that cannot be built: what ran before is kept as it was, and its certificates are renewed.
    async fn hold(mut self, invalid: &Invalid, facts: &Facts) -> Result<Action, ReconcileError> {
        let before = self
            .pipeline
            .status
            .as_ref()
            .and_then(|status| status.revisions.clone());
        let records = revisions::records(&self.children().0);
        let running = before.and_then(|before| {
            records
                .iter()
                .find(|record| record.number == before.current)
                .cloned()
        });
        if let Some(running) = running {
            let valid = unchecked(self.pipeline, facts);
            let known = self.certificates(&valid).await?;
            if known.is_none() {
                return Ok(Action::requeue(Duration::from_secs(1)));
            }
            for object in sets::without_schema(self.load(&running).await?) {
                let children = self.children();
                let live = children.find(object.kind(), object.name());
                self.send(&object, live.map(AsRef::as_ref)).await?;
            }
        }
        let seen = self.seen_invalid(invalid);
        let status = status::invalid(self.pipeline, conditions(&seen));
        self.write_status(status).await?;
        self.ctx.metrics.succeeded(&self.key.0, &self.key.1, self.now);
        // Another pipeline's port may become free.
        Ok(Action::requeue(LOOK_READY))
    }

    fn children(&self) -> Children {
        Children(self.ctx.world.of(&self.key))
    }

    fn is_older_than(&self, age: Duration) -> bool {
        let made = self.pipeline.creation_timestamp();
        made.is_some_and(|made| {
            self.now
                .duration_since(SystemTime::from(made.0))
                .is_ok_and(|passed| passed > age)
        })
    }

    /// What the API server refuses for good is for the conditions, and the pass goes on; all else ends it.
    fn keep_fault(&mut self, error: ApplyError) -> Result<(), ReconcileError> {
        match error.fault() {
            Some(fault) => {
                tracing::debug!(
                    pipeline.namespace = self.key.0,
                    pipeline.name = self.key.1,
                    "{}",
                    fault.message
                );
                self.faults.push(fault);
                Ok(())
            }
            None => Err(error.into()),
        }
    }

    /// From what there is now to the status.
    fn observed(
        &mut self,
        valid: &ValidPipeline,
        outcome: &Outcome,
        certificates: &Certificates,
    ) -> operator_api::Ja4PipelineStatus {
        let children = self.children();
        let pods = |component| children.component(&valid.name, component, self.now);
        let (schema, schema_trouble) = children.job(&outcome.schema_job, self.now);
        let detectors: Vec<DetectorState> = valid
            .detectors
            .iter()
            .map(|detector| children.detector(&valid.name, &detector.spec.name, self.now))
            .collect();
        let uncovered = children.uncovered(self.now);
        let told = self.ctx.told(&self.key);
        let seen = Seen {
            pipeline: self.pipeline,
            valid: Ok(valid),
            faults: &self.faults,
            store: pods(Component::Store),
            schema: schema.clone(),
            schema_trouble,
            next_attempt: outcome.next_attempt,
            correlator: pods(Component::Correlator),
            dashboard: pods(Component::Dashboard),
            sensor: pods(Component::Sensor),
            uncovered: &uncovered,
            detectors: &detectors,
            held: outcome.held,
            told: told.as_ref(),
            certificates,
            awaiting: outcome
                .awaiting
                .as_ref()
                .map(|(changes, hash)| (changes.len(), hash.clone())),
            rolled_back: outcome.rolled_back.clone(),
            now: self.now,
        };
        let conditions = conditions(&seen);
        let mut revisions = outcome.revisions.clone();
        if is_up(&seen, valid) {
            revisions.last_good = Some(revisions.current);
        }
        let names: Vec<&str> = valid
            .detectors
            .iter()
            .map(|detector| detector.spec.name.as_str())
            .collect();
        self.ctx.metrics.keep_detectors(&self.key.0, &self.key.1, &names);
        for detector in &valid.detectors {
            let state = detectors.iter().find(|state| state.name == detector.spec.name);
            let last = state.and_then(|state| state.last_success);
            let period = (!detector.spec.suspend && !valid.spec.suspend).then_some(detector.periods.longest);
            let labels = (
                self.key.0.as_str(),
                self.key.1.as_str(),
                detector.spec.name.as_str(),
            );
            self.ctx.metrics.set_detector(labels, last, period);
        }
        let before = self.pipeline.status.clone().unwrap_or_default();
        let applied = if schema == JobState::Complete {
            Some(valid.version.clone())
        } else {
            before.schema.as_ref().and_then(|schema| schema.applied.clone())
        };
        let said = children.min_writer(&outcome.schema_job).map(Release);
        let schema = SchemaStatus {
            min_writer: said.or_else(|| {
                before
                    .schema
                    .as_ref()
                    .and_then(|schema| schema.min_writer.clone())
            }),
            applied,
            target: Some(valid.version.clone()),
            job: Some(outcome.schema_job.clone()),
            attempt: outcome.schema_attempt,
            next_attempt: outcome.next_attempt.map(crate::conditions::time),
        };
        let mut status = status::whole(
            &seen,
            valid,
            conditions,
            schema,
            revisions,
            outcome.awaiting.as_ref(),
        );
        status.foreign_fields = children.foreign_fields();
        status
    }

    fn seen_invalid<'s>(&'s self, invalid: &'s Invalid) -> Seen<'s> {
        Seen {
            pipeline: self.pipeline,
            valid: Err(invalid),
            faults: &self.faults,
            store: Pods::default(),
            schema: JobState::Missing,
            schema_trouble: None,
            next_attempt: None,
            correlator: Pods::default(),
            dashboard: Pods::default(),
            sensor: Pods::default(),
            uncovered: &[],
            detectors: &[],
            held: None,
            told: None,
            certificates: &NO_CERTIFICATES,
            awaiting: None,
            rolled_back: None,
            now: self.now,
        }
    }

    /// Writes the status if it says something new, and an event for each transition.
    async fn write_status(&self, status: operator_api::Ja4PipelineStatus) -> Result<(), ReconcileError> {
        for condition in &status.conditions {
            self.ctx
                .metrics
                .set_condition(&self.key.0, &self.key.1, &condition.type_, &condition.status);
        }
        let before = self.pipeline.status.clone().unwrap_or_default();
        // What was written a moment ago may not have come back yet.
        let is_written = |memory: &mut Memory| {
            memory
                .status
                .as_ref()
                .is_some_and(|(at, written)| at.elapsed() < CACHE_LAG && *written == status)
        };
        if before == status || self.ctx.memory(&self.key, is_written) {
            return Ok(());
        }
        self.sender.must_lead()?;
        let api: Api<Ja4Pipeline> = Api::namespaced(self.ctx.client.clone(), &self.key.0);
        let body = json!({
            "apiVersion": format!("{}/{}", operator_api::GROUP, operator_api::VERSION),
            "kind": operator_api::KIND,
            "metadata": {"name": self.key.1, "namespace": self.key.0},
            "status": status,
        });
        self.ctx.metrics.requested("status");
        let params = PatchParams::apply(labels::STATUS_MANAGER).force();
        match api.patch_status(&self.key.1, &params, &Patch::Apply(&body)).await {
            Ok(_) => {}
            // Deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(ReconcileError::Status(error)),
        }
        let last = self.ctx.memory(&self.key, |memory| {
            memory.status.replace((Instant::now(), status.clone()))
        });
        let old = last
            .filter(|(at, _)| at.elapsed() < CACHE_LAG)
            .map_or(before, |(_, status)| status);
        self.ctx
            .tell_transitions(self.pipeline, &old.conditions, &status.conditions)
            .await;
        Ok(())
    }
}

/// True if the set that was applied runs as a whole: what happens to it later, such as a store that goes away, does not make it bad.
fn is_up(seen: &Seen<'_>, valid: &ValidPipeline) -> bool {
    let away = i32::from(valid.spec.rollout.max_unavailable);
    seen.held.is_none()
        && seen.faults.is_empty()
        && (!valid.is_embedded() || seen.store.is_done())
        && (!valid.has_correlator() || seen.correlator.is_done())
        && (!valid.spec.dashboard.enabled || seen.dashboard.is_done())
        && seen.sensor.is_done_but(away)
}

static NO_CERTIFICATES: Certificates = Certificates {
    earliest_expiry: None,
    rotation: None,
};
