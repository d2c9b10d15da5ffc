//! Sets of objects that were applied, kept as `ControllerRevision`s, so that the last good one can come back.
//!
//! A set is everything that a spec stands for. A new set gets the next number. A set is good once the pipeline was ready with it.
//! Which set is to run is decided here, purely, from what is recorded; the shell keeps the records.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use operator_api::{Approval, Ja4Pipeline, labels};
use operator_manifests::{Desired, Stage, ValidPipeline, hash, release_number};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::world::Child;

/// Sets that are kept beside the last good one.
pub(crate) const KEPT: usize = 3;
/// Annotation of a record: hash of its set.
pub(crate) const SET_HASH: &str = "ja4platform.io/set-hash";
/// Annotation of a record: generation of the spec that it was made of.
pub(crate) const SET_GENERATION: &str = "ja4platform.io/set-generation";
/// Annotation of a record: release that it runs.
pub(crate) const SET_VERSION: &str = "ja4platform.io/set-version";

/// A record, without its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) number: i64,
    pub(crate) hash: String,
    pub(crate) generation: i64,
    /// The release that it runs.
    pub(crate) version: String,
}

/// An object of a record.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    stage: u8,
    owned: bool,
    object: Value,
}

/// Hash of a set: of the hashes of its objects. The schema Job is left out: its name has the number of the try.
pub(crate) fn set_hash(objects: &[Desired]) -> String {
    let parts: Vec<Value> = objects
        .iter()
        .filter(|object| object.stage != Stage::Schema)
        .map(|object| json!([object.kind(), object.name(), object.hash()]))
        .collect();
    let schema: Vec<Value> = objects
        .iter()
        .filter(|object| object.stage == Stage::Schema)
        .map(|object| object.object["spec"]["template"].clone())
        .collect();
    hash(&json!([parts, schema]))
}

/// The records among a pipeline's children, oldest first.
pub(crate) fn records(children: &[Arc<Child>]) -> Vec<Record> {
    let mut records: Vec<Record> = children
        .iter()
        .filter(|child| child.kind.name == "ControllerRevision" && !child.is_going())
        .filter_map(|child| {
            Some(Record {
                name: child.name().to_owned(),
                number: child.object["revision"].as_i64()?,
                hash: child.annotation(SET_HASH)?.to_owned(),
                generation: child.annotation(SET_GENERATION)?.parse().ok()?,
                version: child.annotation(SET_VERSION)?.to_owned(),
            })
        })
        .collect();
    records.sort_by_key(|record| record.number);
    records
}

/// A record of a set.
pub(crate) fn record(pipeline: &ValidPipeline, generation: i64, number: i64, objects: &[Desired]) -> Value {
    let set_hash = set_hash(objects);
    let stored: Vec<Stored> = objects
        .iter()
        .map(|object| Stored {
            stage: stage_number(object.stage),
            owned: object.owned,
            object: object.object.clone(),
        })
        .collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": format!("{}-set-{number}", pipeline.name),
            "namespace": pipeline.namespace,
            "labels": pipeline.labels("revision"),
            "annotations": {SET_HASH: set_hash, SET_GENERATION: generation.to_string(), SET_VERSION: pipeline.version},
            "ownerReferences": pipeline.owner(),
        },
        "revision": number,
        "data": {"objects": stored},
    })
}

/// The objects of a record.
pub(crate) fn objects(record: &Value) -> Option<Vec<Desired>> {
    let stored: Vec<Stored> = serde_json::from_value(record["data"]["objects"].clone()).ok()?;
    stored
        .into_iter()
        .map(|stored| {
            Some(Desired {
                stage: stage_of(stored.stage)?,
                owned: stored.owned,
                object: stored.object,
            })
        })
        .collect()
}

fn stage_number(stage: Stage) -> u8 {
    Stage::ALL
        .iter()
        .position(|known| *known == stage)
        .and_then(|i| u8::try_from(i).ok())
        .unwrap_or(0)
}

fn stage_of(number: u8) -> Option<Stage> {
    Stage::ALL.get(usize::from(number)).copied()
}

/// Which set is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The spec's, which is recorded already.
    Current(Record),
    /// The spec's, which is to be recorded first, under this number.
    New(i64),
    /// The one before waits for a person to agree to the spec's.
    Awaiting { hash: String, running: Record },
    /// The last good one, because the spec's did not become ready in time.
    RolledBack { good: Record, why: String },
}

/// Decides which set is to run.
pub(crate) fn choose(
    pipeline: &Ja4Pipeline,
    wanted_hash: &str,
    records: &[Record],
    now: SystemTime,
) -> Choice {
    let status = pipeline
        .status
        .as_ref()
        .and_then(|status| status.revisions.as_ref());
    let generation = pipeline.metadata.generation.unwrap_or(0);
    let newest = records.last();
    let next = newest.map_or(1, |record| record.number + 1);
    let good = status
        .and_then(|status| status.last_good)
        .and_then(|number| records.iter().find(|record| record.number == number));
    let running = status
        .and_then(|status| records.iter().find(|record| record.number == status.current))
        .or(newest);
    if let Some(running) = running
        && running.hash != wanted_hash
    {
        let is_agreed = pipeline
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(labels::APPROVED))
            .map(String::as_str)
            == Some(wanted_hash);
        if pipeline.spec.rollout.approval == Approval::Manual && !is_agreed {
            return Choice::Awaiting {
                hash: wanted_hash.to_owned(),
                running: running.clone(),
            };
        }
    }
    if let (Some(good), Some(status)) = (good, status)
        && good.hash != wanted_hash
        && may_write(pipeline, &good.version)
    {
        let deadline = Duration::from_secs(u64::from(pipeline.spec.rollout.progress_deadline_seconds));
        let is_known_bad = status.rolled_back.as_deref() == Some(wanted_hash);
        let is_late = running
            .is_some_and(|running| running.hash == wanted_hash && running.number != good.number)
            && status.since.as_ref().is_some_and(|since| {
                now.duration_since(SystemTime::from(since.0))
                    .is_ok_and(|passed| passed > deadline)
            });
        if is_known_bad || is_late {
            return Choice::RolledBack {
                good: good.clone(),
                why: format!(
                    "generation {generation} did not become ready within {} s; set {} of generation {} runs. Change the spec; this one is not tried again",
                    deadline.as_secs(),
                    good.number,
                    good.generation
                ),
            };
        }
    }
    match newest {
        Some(record) if record.hash == wanted_hash => Choice::Current(record.clone()),
        _ => Choice::New(next),
    }
}

/// True if a release may write to the tables as they are: migrations are never taken back.
fn may_write(pipeline: &Ja4Pipeline, version: &str) -> bool {
    let schema = pipeline.status.as_ref().and_then(|status| status.schema.as_ref());
    let oldest = schema.and_then(|schema| schema.min_writer.as_ref());
    oldest.is_none_or(|oldest| release_number(version) >= release_number(oldest.as_str()))
}

/// Records that are not needed any more.
pub(crate) fn superfluous(records: &[Record], last_good: Option<i64>) -> Vec<&Record> {
    let n = records.len().saturating_sub(KEPT);
    records[..n]
        .iter()
        .filter(|record| Some(record.number) != last_good)
        .collect()
}

/// What differs between two sets, one line for each object.
pub(crate) fn differences(running: &[Desired], wanted: &[Desired]) -> Vec<String> {
    let name = |object: &Desired| (object.kind().to_owned(), object.name().to_owned());
    let is_job = |object: &&Desired| object.stage != Stage::Schema;
    let mut lines = Vec::new();
    for object in wanted.iter().filter(is_job) {
        match running.iter().find(|other| name(other) == name(object)) {
            None => lines.push(format!("create {} {}", object.kind(), object.name())),
            Some(other) if other.hash() != object.hash() => {
                let mut paths = Vec::new();
                changed(&other.object, &object.object, "", &mut paths);
                paths.retain(|path| !path.contains(labels::APPLIED_HASH));
                let restarts = paths.iter().any(|path| path.starts_with("spec.template"));
                paths.truncate(4);
                lines.push(format!(
                    "change {} {}: {}{}",
                    object.kind(),
                    object.name(),
                    paths.join(", "),
                    if restarts { "; its pods are replaced" } else { "" }
                ));
            }
            Some(_) => {}
        }
    }
    for object in running.iter().filter(is_job) {
        if !wanted.iter().any(|other| name(other) == name(object)) {
            lines.push(format!("remove {} {}", object.kind(), object.name()));
        }
    }
    lines
}

fn changed(old: &Value, new: &Value, path: &str, into: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                changed(
                    old.get(key).unwrap_or(&Value::Null),
                    new.get(key).unwrap_or(&Value::Null),
                    &path,
                    into,
                );
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                changed(old, new, &format!("{path}[{i}]"), into);
            }
        }
        (old, new) => {
            if old != new {
                into.push(path.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests;
