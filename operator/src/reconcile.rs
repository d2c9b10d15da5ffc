//! One pass over a pipeline: what it asks for, what there is, what to send, what to say.
//!
//! ```text
//! dereference (caches) ─▶ validate ─▶ certificates ─▶ plan ─▶ apply, stage by stage ─▶ prune ─▶ observe ─▶ conditions ─▶ status, events
//! ```
//!
//! A pass over a world that is as it should be sends nothing. Every step may be the last one of this process: the next pass begins from
//! what the cluster has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};
use operator_api::conditions::{reasons, types};
use operator_api::{Component, Ja4Pipeline, Release, Revisions, SchemaStatus, labels};
use operator_manifests::{
    Desired, Facts, Invalid, Observed, Stage, ValidPipeline, desired, unchecked, validate,
};
use serde_json::{Value, json};

use crate::apply::{ApplyError, Sender, forbidden_remedy, orphans, sort};
use crate::conditions::{ApplyFault, Certificates, Seen, conditions};
use crate::context::{Context, Memory};
use crate::kinds::Kind;
use crate::observe::{Children, DetectorState, JobState, Pods};
use crate::pki::{self, Part, Stored};
use crate::revisions::{self, Choice, Record};
use crate::status;
use crate::vault::Known;
use crate::world::Key;

/// How long a write may take to come back by the watch.
const CACHE_LAG: Duration = Duration::from_secs(10);
/// How long a right may be missing before that is called stuck.
const FORBIDDEN_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a pipeline that is ready: times pass that no watch tells of.
const LOOK_READY: Duration = Duration::from_secs(30);
/// Between two looks at one that is not.
const LOOK_BUSY: Duration = Duration::from_secs(5);
/// Longest pause before another try of the schema Job.
const ATTEMPT_MAX: Duration = Duration::from_mins(5);
/// The same where a person is likely to have mended it outside: the store, its password.
const ATTEMPT_MAX_STORE: Duration = Duration::from_mins(1);
/// The first pause.
const ATTEMPT_MIN: Duration = Duration::from_secs(10);

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
    faults: Vec<ApplyFault>,
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
            for object in self.without_schema(self.load(&running).await?) {
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

    /// Makes and renews certificates and tokens; nothing when it is not known yet which there are.
    async fn certificates(&mut self, valid: &ValidPipeline) -> Result<Option<Certificates>, ReconcileError> {
        let secrets = match self.ctx.vault.of(&self.key) {
            Known::NotYet => return Ok(None),
            Known::Forbidden(words) => {
                self.faults.push(ApplyFault {
                    reason: reasons::FORBIDDEN,
                    message: format!("{words}; {}", forbidden_remedy("Secret")),
                    // A binding that was made a moment ago is not known everywhere yet.
                    is_stuck: self.is_older_than(FORBIDDEN_PATIENCE),
                });
                return Ok(Some(Certificates::default()));
            }
            Known::All(secrets) => secrets,
        };
        let needs = needs(valid, self.pipeline);
        let mut existing = pki::Existing::new();
        for part in Part::ALL {
            let name = part.name(&valid.name);
            let found = if part.is_config_map() {
                self.trust(&name)
            } else {
                secrets.get(&name).cloned()
            };
            if let Some(found) = found {
                existing.insert(part, found);
            }
        }
        let plan = pki::plan(&existing, &needs, self.now, &mut getrandom::fill)?;
        for write in &plan.writes {
            let is_new = !existing.contains_key(&write.part);
            if let Err(error) = self.write_part(valid, write.part, &write.content, is_new).await {
                self.keep_fault(error)?;
                // Those after it may rest on it: trust comes before leaves.
                break;
            }
            tracing::info!(
                pipeline.namespace = self.key.0,
                pipeline.name = self.key.1,
                "wrote {} of {}/{}: {}",
                write.part.suffix(),
                self.key.0,
                self.key.1,
                write.why
            );
        }
        for fault in plan.faults {
            self.faults.push(ApplyFault {
                reason: reasons::CONFIG_MISSING,
                message: fault,
                is_stuck: true,
            });
        }
        self.next = self.next.min(plan.next_check);
        self.ctx
            .metrics
            .set_cert_expiry(&self.key.0, &self.key.1, plan.earliest_expiry);
        Ok(Some(Certificates {
            earliest_expiry: plan.earliest_expiry,
            rotation: plan.rotation.map(|phase| phase.name().to_owned()),
        }))
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

    fn trust(&self, name: &str) -> Option<Stored> {
        let children = self.children();
        let found = children.find("ConfigMap", name)?;
        let data = found.object["data"].as_object().into_iter().flatten();
        Some(Stored {
            data: pki::Data(
                data.map(|(key, value)| {
                    (
                        key.clone(),
                        value.as_str().unwrap_or_default().as_bytes().to_vec(),
                    )
                })
                .collect(),
            ),
            annotations: BTreeMap::new(),
        })
    }

    async fn write_part(
        &self,
        valid: &ValidPipeline,
        part: Part,
        content: &Stored,
        is_new: bool,
    ) -> Result<(), ApplyError> {
        let name = part.name(&valid.name);
        let kind = if part.is_config_map() {
            "ConfigMap"
        } else {
            "Secret"
        };
        let mut object = json!({
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": valid.namespace,
                "labels": {
                    labels::PIPELINE: valid.name,
                    labels::INSTANCE: valid.name,
                    labels::PART_OF: labels::PLATFORM,
                    labels::MANAGED_BY: labels::OPERATOR,
                    labels::COMPONENT: "pki",
                },
                "annotations": content.annotations,
            },
        });
        // Tokens and key belong to the data: who keeps the volume needs them again.
        let outlives = keeps_data(valid) && matches!(part, Part::StoreTokens | Part::RedactionKey);
        if !outlives {
            object["metadata"]["ownerReferences"] = owner(valid);
        }
        if part.is_config_map() {
            let data: BTreeMap<&String, String> = content
                .data
                .0
                .iter()
                .map(|(key, value)| (key, String::from_utf8_lossy(value).into_owned()))
                .collect();
            object["data"] = json!(data);
        } else {
            let data: BTreeMap<&String, ByteString> = content
                .data
                .0
                .iter()
                .map(|(key, value)| (key, ByteString(value.clone())))
                .collect();
            object["type"] = json!(part.secret_type());
            object["data"] = json!(data);
        }
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.ctx.client.clone(), &valid.namespace, &resource);
        if is_new {
            self.ctx.metrics.requested("get");
            let found = api
                .get_opt(&name)
                .await
                .map_err(|error| sort(kind, &name, error))?;
            let kind = kind.to_owned();
            match found {
                None => {}
                // A key or a token that is there is never replaced by a new one.
                Some(found) if found.labels().get(labels::PIPELINE) == Some(&valid.name) => {
                    return Err(ApplyError::Stale { kind, name });
                }
                Some(_) => return Err(ApplyError::NotOurs { kind, name }),
            }
        }
        self.sender.must_lead()?;
        self.ctx.metrics.requested("apply");
        let params = PatchParams::apply(labels::OPERATOR).force();
        let sent = api
            .patch(&name, &params, &Patch::Apply(&object))
            .await
            .map_err(|error| sort(kind, &name, error))?;
        if part.is_config_map() {
            let kind = Kind::of("v1", "ConfigMap").expect("it is a known kind");
            self.ctx.world.note(kind, sent);
        } else {
            self.ctx.vault.note(&self.key, &name, content.clone());
        }
        Ok(())
    }

    /// Decides which set is to run, sends it stage by stage, and takes away what is too much.
    async fn sets(&mut self, valid: &ValidPipeline) -> Result<Outcome, ReconcileError> {
        let (attempt, next_attempt) = self.schema_attempt(valid);
        let observed = Observed {
            schema_attempt: attempt,
            retry: self.annotation(labels::RETRY),
        };
        let wanted = desired(valid, &observed);
        let schema_job = wanted
            .iter()
            .find(|object| object.stage == Stage::Schema)
            .map(|object| object.name().to_owned())
            .unwrap_or_default();
        let wanted_hash = revisions::set_hash(&wanted);
        let records = revisions::records(&self.children().0);
        let before = self
            .pipeline
            .status
            .as_ref()
            .and_then(|status| status.revisions.clone())
            .unwrap_or_default();
        let choice = revisions::choose(self.pipeline, &wanted_hash, &records, self.now);
        let mut outcome = Outcome {
            held: None,
            schema_job,
            schema_attempt: attempt,
            next_attempt,
            revisions: before.clone(),
            awaiting: None,
            rolled_back: None,
        };
        let good = before
            .last_good
            .and_then(|number| records.iter().find(|record| record.number == number));
        let running = match choice {
            Choice::Current(record) => {
                outcome.revisions.current = record.number;
                wanted
            }
            Choice::New(number) => {
                if let Err(error) = self.keep_record(valid, number, &wanted).await {
                    self.keep_fault(error)?;
                }
                outcome.revisions.current = number;
                outcome.revisions.rolled_back = None;
                wanted
            }
            Choice::Awaiting { hash, running } => {
                let objects = self.load(&running).await?;
                outcome.awaiting = Some((revisions::differences(&objects, &wanted), hash));
                self.without_schema(objects)
            }
            Choice::RolledBack { good, why } => {
                outcome.rolled_back = Some(why);
                outcome.revisions.rolled_back = Some(wanted_hash);
                outcome.revisions.current = good.number;
                let objects = self.load(&good).await?;
                self.without_schema(objects)
            }
        };
        if outcome.revisions.current != before.current || outcome.revisions.since.is_none() {
            outcome.revisions.since = Some(crate::conditions::time(self.now));
        }
        outcome.held = self.apply_stages(valid, &running, good, &outcome).await?;
        for record in revisions::superfluous(&records, before.last_good) {
            let children = self.children();
            if let Some(child) = children.find("ControllerRevision", &record.name)
                && let Err(error) = self.sender.delete(&self.key, child).await
            {
                self.keep_fault(error)?;
            }
        }
        Ok(outcome)
    }

    /// Migrations go forward only: a set that is not the spec's takes none back.
    #[expect(clippy::unused_self, reason = "reads as a step of the pass")]
    fn without_schema(&self, objects: Vec<Desired>) -> Vec<Desired> {
        objects
            .into_iter()
            .filter(|object| object.stage != Stage::Schema)
            .collect()
    }

    fn annotation(&self, name: &str) -> String {
        self.pipeline.annotations().get(name).cloned().unwrap_or_default()
    }

    /// Which try of the schema Job it is, and when the next one is if this one failed.
    fn schema_attempt(&self, valid: &ValidPipeline) -> (u32, Option<SystemTime>) {
        let attempt = self
            .pipeline
            .status
            .as_ref()
            .and_then(|status| status.schema.as_ref())
            .map_or(0, |schema| schema.attempt);
        let observed = Observed {
            schema_attempt: attempt,
            retry: self.annotation(labels::RETRY),
        };
        let objects = desired(valid, &observed);
        let Some(job) = objects.iter().find(|object| object.stage == Stage::Schema) else {
            return (attempt, None);
        };
        match self.children().job(job.name(), self.now).0 {
            JobState::Failed { reason, at, .. } => {
                let most = if is_of_store(&reason) {
                    ATTEMPT_MAX_STORE
                } else {
                    ATTEMPT_MAX
                };
                let next = at + ATTEMPT_MIN.saturating_mul(1 << attempt.min(5)).min(most);
                if next <= self.now {
                    (attempt + 1, None)
                } else {
                    (attempt, Some(next))
                }
            }
            _ => (attempt, None),
        }
    }

    async fn keep_record(
        &self,
        valid: &ValidPipeline,
        number: i64,
        objects: &[Desired],
    ) -> Result<(), ApplyError> {
        self.sender.must_lead()?;
        let generation = self.pipeline.metadata.generation.unwrap_or(0);
        let record = revisions::record(valid, generation, number, objects);
        let name = record["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let kind = Kind::of("apps/v1", "ControllerRevision").expect("it is a known kind");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.ctx.client.clone(), &self.key.0, &kind.resource());
        self.ctx.metrics.requested("apply");
        let sent = api
            .patch(
                &name,
                &PatchParams::apply(labels::OPERATOR).force(),
                &Patch::Apply(&record),
            )
            .await
            .map_err(|error| sort("ControllerRevision", &name, error))?;
        self.ctx.world.note(kind, sent);
        Ok(())
    }

    /// The objects of a recorded set.
    async fn load(&self, record: &Record) -> Result<Vec<Desired>, ReconcileError> {
        let known = self.ctx.memory(&self.key, |memory| memory.set.clone());
        if let Some((number, objects)) = known
            && number == record.number
        {
            return Ok(objects);
        }
        let api: Api<ControllerRevision> = Api::namespaced(self.ctx.client.clone(), &self.key.0);
        self.ctx.metrics.requested("get");
        let found = api
            .get(&record.name)
            .await
            .map_err(|error| ReconcileError::Record(record.name.clone(), error))?;
        let found = serde_json::to_value(&found).unwrap_or(Value::Null);
        // Nothing would be sent of a set that cannot be read, and everything of it removed.
        let objects =
            revisions::objects(&found).ok_or_else(|| ReconcileError::Damaged(record.name.clone()))?;
        self.ctx.memory(&self.key, |memory| {
            memory.set = Some((record.number, objects.clone()));
        });
        Ok(objects)
    }

    /// Sends objects in the order of their stages. Gives the first stage that is not ready.
    async fn apply_stages(
        &mut self,
        valid: &ValidPipeline,
        running: &[Desired],
        good: Option<&Record>,
        outcome: &Outcome,
    ) -> Result<Option<Stage>, ReconcileError> {
        let mut held = None;
        let mut kept: BTreeSet<(String, String)> =
            [("ConfigMap".to_owned(), Part::Trust.name(&valid.name))].into();
        let mut fallback: Option<Vec<Desired>> = None;
        for stage in [
            Stage::Base,
            Stage::Store,
            Stage::Schema,
            Stage::Correlator,
            Stage::Sensors,
            Stage::Detectors,
        ] {
            for object in running.iter().filter(|object| object.stage == stage) {
                kept.insert((object.kind().to_owned(), object.name().to_owned()));
                let children = self.children();
                let live = children.find(object.kind(), object.name());
                let is_known =
                    live.is_some_and(|live| live.annotation(labels::APPLIED_HASH) == Some(object.hash()));
                if held.is_none() || is_known {
                    self.send(object, live.map(AsRef::as_ref)).await?;
                    continue;
                }
                // A gate holds back what is new, not the repair of what was there.
                let Some(good) = good else { continue };
                if fallback.is_none() {
                    fallback = Some(self.load(good).await?);
                }
                let before = fallback.iter().flatten().find(|other| {
                    other.kind() == object.kind()
                        && other.name() == object.name()
                        && other.stage != Stage::Schema
                });
                if let Some(before) = before {
                    self.send(before, live.map(AsRef::as_ref)).await?;
                }
            }
            if held.is_none() && !self.is_ready(valid, stage, outcome) {
                held = Some(stage);
            }
        }
        // What a gate holds back may still need what the new set does not have.
        kept.extend(
            fallback
                .iter()
                .flatten()
                .map(|object| (object.kind().to_owned(), object.name().to_owned())),
        );
        let children = self.children();
        for orphan in orphans(&children.0, &valid.uid, &kept) {
            if let Err(error) = self.sender.delete(&self.key, orphan).await {
                self.keep_fault(error)?;
            }
        }
        Ok(held)
    }

    /// Sends one object; what the API server refuses for good is kept for the conditions, and the others go on.
    async fn send(
        &mut self,
        object: &Desired,
        live: Option<&crate::world::Child>,
    ) -> Result<(), ReconcileError> {
        match self.sender.apply(&self.key.0, object, live).await {
            Ok(_) => Ok(()),
            Err(error) => self.keep_fault(error),
        }
    }

    /// True if what comes after a stage may begin.
    fn is_ready(&self, valid: &ValidPipeline, stage: Stage, outcome: &Outcome) -> bool {
        let children = self.children();
        let pods = |component| children.component(&valid.name, component, self.now);
        match stage {
            Stage::Store => !valid.is_embedded() || pods(Component::Store).is_done(),
            Stage::Schema => {
                outcome.awaiting.is_some()
                    || outcome.rolled_back.is_some()
                    || children.job(&outcome.schema_job, self.now).0 == JobState::Complete
            }
            Stage::Correlator => !valid.has_correlator() || pods(Component::Correlator).is_done(),
            // A node without a sensor must not keep clients from being scored.
            Stage::Base | Stage::Sensors | Stage::Detectors => true,
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
        if !self.ctx.term.holds() {
            return Err(ApplyError::NotLeader.into());
        }
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

/// True if a program's word is about the store, which a person may mend at any time.
fn is_of_store(reason: &str) -> bool {
    [
        reasons::UNREACHABLE,
        reasons::WRONG_PASSWORD,
        reasons::NOT_ALLOWED,
        reasons::READ_ONLY,
        reasons::TLS_FAILED,
        reasons::DISK_FULL,
    ]
    .contains(&reason)
}

/// True if the store's volume outlives the pipeline.
fn keeps_data(valid: &ValidPipeline) -> bool {
    let store = valid.spec.store.embedded.as_ref();
    store.is_some_and(|store| store.deletion_policy == operator_api::DeletionPolicy::Retain)
}

fn owner(valid: &ValidPipeline) -> Value {
    json!([{
        "apiVersion": format!("{}/{}", operator_api::GROUP, operator_api::VERSION),
        "kind": operator_api::KIND,
        "name": valid.name,
        "uid": valid.uid,
        "controller": true,
    }])
}

/// Which certificates and tokens a pipeline needs.
fn needs(valid: &ValidPipeline, pipeline: &Ja4Pipeline) -> pki::Needs {
    let mut parts = BTreeSet::new();
    let spec = &valid.spec;
    if valid.has_correlator() || valid.is_embedded() {
        parts.extend([Part::Ca, Part::Trust]);
    }
    if valid.has_correlator() {
        parts.extend([Part::CorrelatorTls, Part::ForwardTls, Part::OperatorTls]);
    }
    if valid.is_embedded() {
        parts.extend([Part::StoreTls, Part::StoreTokens]);
    }
    if spec
        .sources
        .ingest
        .as_ref()
        .is_some_and(|sources| !sources.is_empty())
    {
        parts.insert(Part::IngestTls);
    }
    if spec.privacy.redaction_key.is_none() {
        parts.insert(Part::RedactionKey);
    }
    pki::Needs {
        namespace: valid.namespace.clone(),
        pipeline: valid.name.clone(),
        parts,
        rotate: pipeline.annotations().get(pki::ROTATE).cloned(),
        times: pki::Times::of_leaf(Duration::from_hours(24 * u64::from(spec.tls.certificate_days))),
    }
}
