//! A `Ja4Pipeline` of a test: made, changed, waited for.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::{Patch, PatchParams};
use operator_api::Ja4Pipeline;
use serde_json::{Value, json};

use crate::case::Case;
use crate::volume::{self, NodeDisk};
use crate::wait::{self, State};

/// Images of a pipeline's parts.
pub const IMAGES: [&str; 6] = [
    "ja4-sensor",
    "ja4-correlator",
    "ja4-detector",
    "ja4-dashboard",
    "ja4-clickhouse",
    "ja4-cli",
];

/// The smallest spec that runs here: small memory, volumes of classes that this test made.
pub fn small(case: &Case) -> Value {
    json!({
        "images": {"registry": "localhost"},
        "store": {"embedded": {
            "volume": {"size": "2Gi", "storageClassName": volume::name(case, "store")},
            "deletionPolicy": "Delete",
        }},
        "correlator": {
            "connectionMemory": "64Mi",
            "pendingMemory": "32Mi",
            "spool": {"size": "1Gi", "storageClassName": volume::name(case, "correlator")},
        },
        "detectors": [{"name": "main", "schedule": "* * * * *"}],
    })
}

/// Volumes for the classes that [`small`] names.
///
/// # Errors
/// When a node does not answer or the API server refuses them.
pub async fn volumes(case: &Case, node: &str) -> anyhow::Result<[NodeDisk; 2]> {
    Ok([
        volume::make(case, "store", node, "2Gi").await?,
        volume::make(case, "correlator", node, "1Gi").await?,
    ])
}

impl Case {
    /// Makes or changes a pipeline.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn pipeline(&self, name: &str, spec: Value) -> anyhow::Result<Ja4Pipeline> {
        self.apply(json!({"metadata": {"name": name}, "spec": spec}))
            .await
    }

    /// Annotates a pipeline.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn annotate_pipeline(&self, name: &str, key: &str, value: &str) -> anyhow::Result<()> {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.api::<Ja4Pipeline>()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .context("could not annotate the pipeline")?;
        Ok(())
    }

    /// Waits until a condition of a pipeline is as wanted: `status`, and `reason` unless that is empty. Only what the
    /// operator said of the newest spec counts. Gives the message.
    ///
    /// # Errors
    /// At the deadline, with the conditions that were seen last.
    pub async fn condition(
        &self,
        pipeline: &str,
        kind: &str,
        status: &str,
        reason: &str,
        deadline: Duration,
    ) -> anyhow::Result<String> {
        wait::object(
            self,
            self.api::<Ja4Pipeline>(),
            pipeline,
            deadline,
            |seen: Option<&Ja4Pipeline>| {
                let Some(found) = seen.and_then(|found| Some((found, found.status.as_ref()?))) else {
                    return State::Waiting("no status yet".to_owned());
                };
                let (found, now) = found;
                let is_current = Some(now.observed_generation) >= found.metadata.generation;
                let condition = now.conditions.iter().find(|c| c.type_ == kind);
                match condition {
                    Some(c)
                        if is_current && c.status == status && (reason.is_empty() || c.reason == reason) =>
                    {
                        State::Reached(c.message.clone())
                    }
                    _ => State::Waiting(shown(found)),
                }
            },
        )
        .await
        .with_context(|| format!("waited for {kind}={status} {reason}"))
    }

    /// Waits until a pipeline is ready.
    ///
    /// # Errors
    /// As [`Self::condition`].
    pub async fn pipeline_ready(&self, pipeline: &str, deadline: Duration) -> anyhow::Result<()> {
        self.condition(pipeline, "Ready", "True", "", deadline)
            .await
            .map(drop)
    }
}

/// Conditions that are not as they should be, one a line.
fn shown(pipeline: &Ja4Pipeline) -> String {
    let status = pipeline.status.clone().unwrap_or_default();
    let lines: Vec<String> = status
        .conditions
        .iter()
        .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message))
        .collect();
    format!("generation {}\n{}", status.observed_generation, lines.join("\n"))
}
