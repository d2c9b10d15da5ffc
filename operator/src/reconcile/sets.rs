//! The step that decides which set is to run, sends it stage by stage, and takes away what is too much.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use operator_api::conditions::reasons;
use operator_api::{Component, labels};
use operator_manifests::{Desired, Observed, Stage, ValidPipeline, desired};
use serde_json::Value;

use super::{Outcome, Pass, ReconcileError};
use crate::apply::{ApplyError, orphans, sort};
use crate::kinds::Kind;
use crate::observe::JobState;
use crate::pki::Part;
use crate::revisions::{self, Choice, Record};
use crate::world::Child;

/// Longest pause before another try of the schema Job.
const ATTEMPT_MAX: Duration = Duration::from_mins(5);
/// The same where a person is likely to have mended it outside: the store, its password.
const ATTEMPT_MAX_STORE: Duration = Duration::from_mins(1);
/// The first pause.
const ATTEMPT_MIN: Duration = Duration::from_secs(10);

impl Pass<'_> {
    /// Decides which set is to run, sends it stage by stage, and takes away what is too much.
    pub(super) async fn sets(&mut self, valid: &ValidPipeline) -> Result<Outcome, ReconcileError> {
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
    pub(super) fn without_schema(&self, objects: Vec<Desired>) -> Vec<Desired> {
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
    pub(super) async fn load(&self, record: &Record) -> Result<Vec<Desired>, ReconcileError> {
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
    pub(super) async fn send(
        &mut self,
        object: &Desired,
        live: Option<&Child>,
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
}

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
