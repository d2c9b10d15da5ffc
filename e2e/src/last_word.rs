//! What a Job has left as its last word.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::case::Case;
use crate::manifests;
use crate::wait::JobEnd;

/// What a cluster keeps of a last word; ours are to be shorter.
const LAST_WORD_MAX: usize = 4000;

impl Case {
    /// What the newest pod behind a selector has left as its last word.
    ///
    /// # Errors
    /// When there is no such pod, or it has not ended.
    pub async fn last_word(&self, selector: &str) -> anyhow::Result<String> {
        let pods = self.pods(selector).await?;
        let newest = pods
            .iter()
            .max_by_key(|pod| pod.creation_timestamp())
            .with_context(|| format!("no pod has {selector}"))?;
        last_word_of(newest).with_context(|| format!("pod {} has left no last word", newest.name_any()))
    }

    /// Runs the schema Job in another way, under another name and with more arguments, which must fail, and gives its last word.
    ///
    /// # Errors
    /// When it does not fail, or its last word is none.
    ///
    /// # Panics
    /// When the manifest's container has no arguments.
    pub async fn failed_schema(
        &self,
        name: &str,
        more_args: &[&str],
        change: impl Fn(&mut Value),
    ) -> anyhow::Result<Value> {
        self.apply_manifest(manifests::SCHEMA, |object| {
            object["metadata"]["name"] = json!(name);
            let spec = &mut object["spec"];
            change(spec);
            let args = spec["template"]["spec"]["containers"][0]["args"].as_array_mut();
            let args = args.expect("the schema Job has arguments");
            args.extend(more_args.iter().map(|arg| json!(arg)));
        })
        .await?;
        ensure!(
            self.job_ended(name).await? == JobEnd::Failed,
            "{name} did not fail"
        );
        read_last_word(&self.last_word(&format!("job-name={name}")).await?)
    }
}

/// Reads a last word.
///
/// # Errors
/// When it is longer than a cluster keeps, or no JSON.
pub fn read_last_word(word: &str) -> anyhow::Result<Value> {
    ensure!(word.len() <= LAST_WORD_MAX, "{} bytes", word.len());
    serde_json::from_str(word).with_context(|| format!("it is no JSON: {word}"))
}

/// The termination message of a pod's first container.
fn last_word_of(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let ended = |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref()?.message.clone();
    ended(&status.state).or_else(|| ended(&status.last_state))
}
