//! The step that decides which set is to run, sends it stage by stage, and takes away what is too much.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, ResourceExt as _};
use operator_api::conditions::reasons;
use operator_api::{Component, labels};
use operator_manifests::{Desired, Observed, Stage, ValidPipeline, desired};
use serde_json::Value;

use super::{Outcome, Pass, ReconcileError};
use crate::apply::{ApplyError, orphans};
use crate::kinds::CONTROLLER_REVISION;
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
        let mut observed = Observed {
            schema_attempt: self.attempt_before(),
            retry: self
                .pipeline
                .annotations()
                .get(labels::RETRY)
                .cloned()
                .unwrap_or_default(),
        };
        let mut wanted = desired(valid, &observed);
        let mut schema_job = job_name(&wanted);
        let mut next_attempt = self.next_attempt(&schema_job, observed.schema_attempt);
        if next_attempt.is_some_and(|next| next <= self.now) {
            next_attempt = None;
            observed.schema_attempt += 1;
            wanted = desired(valid, &observed);
            schema_job = job_name(&wanted);
        }
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
            schema_attempt: observed.schema_attempt,
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
                without_schema(objects)
            }
            Choice::RolledBack { good, why } => {
                outcome.rolled_back = Some(why);
                outcome.revisions.rolled_back = Some(wanted_hash);
                outcome.revisions.current = good.number;
                let objects = self.load(&good).await?;
                without_schema(objects)
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

    /// Which try of the schema Job it was, from 0.
    fn attempt_before(&self) -> u32 {
        let schema = self
            .pipeline
            .status
            .as_ref()
            .and_then(|status| status.schema.as_ref());
        schema.map_or(0, |schema| schema.attempt)
    }

    /// When the schema Job is to be tried again, if its last try failed.
    fn next_attempt(&self, job: &str, attempt: u32) -> Option<SystemTime> {
        let JobState::Failed { reason, at, .. } = self.children().job(job, self.now).0 else {
            return None;
        };
        let most = if is_of_store(&reason) {
            ATTEMPT_MAX_STORE
        } else {
            ATTEMPT_MAX
        };
        Some(at + ATTEMPT_MIN.saturating_mul(1 << attempt.min(5)).min(most))
    }

    async fn keep_record(
        &self,
        valid: &ValidPipeline,
        number: i64,
        objects: &[Desired],
    ) -> Result<(), ApplyError> {
        let generation = self.pipeline.metadata.generation.unwrap_or(0);
        let record = revisions::record(valid, generation, number, objects);
        let name = record["metadata"]["name"].as_str().unwrap_or_default();
        let sent = self
            .sender
            .put(CONTROLLER_REVISION, &self.key.0, name, &record)
            .await?;
        self.ctx.world.note(CONTROLLER_REVISION, sent);
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
        for stage in Stage::ALL {
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

/// Name of the schema Job of a set.
fn job_name(objects: &[Desired]) -> String {
    let job = objects.iter().find(|object| object.stage == Stage::Schema);
    job.map(|job| job.name().to_owned()).unwrap_or_default()
}

/// Migrations go forward only: a set that is not the spec's takes none back.
pub(super) fn without_schema(objects: Vec<Desired>) -> Vec<Desired> {
    objects
        .into_iter()
        .filter(|object| object.stage != Stage::Schema)
        .collect()
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
