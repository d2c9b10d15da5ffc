//! The plain manifests of `e2e/manifests/`: applied as a person would, into the test's namespace.

use anyhow::{Context as _, ensure};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::case::Case;

/// The embedded store.
pub const STORE: &str = include_str!("../manifests/store.yaml");
/// Its migrations.
pub const SCHEMA: &str = include_str!("../manifests/schema.yaml");
/// Sensor and correlator on each node.
pub const SENSOR_NODE: &str = include_str!("../manifests/sensor-node.yaml");
/// Sensor and forwarder on each node.
pub const SENSOR: &str = include_str!("../manifests/sensor.yaml");
/// The correlator of all nodes.
pub const CORRELATOR: &str = include_str!("../manifests/correlator.yaml");
/// The detector.
pub const DETECTOR: &str = include_str!("../manifests/detector.yaml");

/// The objects of a manifest with what a person fills in: `NAMESPACE` and `VERSION`.
///
/// # Errors
/// When it is no list of YAML documents with kind and name.
pub(crate) fn objects(text: &str, namespace: &str) -> anyhow::Result<Vec<Value>> {
    let filled = text
        .replace("NAMESPACE", namespace)
        .replace(":VERSION", concat!(":", env!("CARGO_PKG_VERSION")));
    filled
        .split("\n---\n")
        .map(|document| {
            let object: Value = serde_saphyr::from_str(document).context("a manifest is not YAML")?;
            ensure!(
                object["kind"].is_string() && object["metadata"]["name"].is_string(),
                "a manifest has no kind or no name: {object}"
            );
            Ok(object)
        })
        .collect()
}

impl Case {
    /// Applies a manifest of `e2e/manifests/` by its text; `change` may alter each object first, as an overlay does.
    ///
    /// # Errors
    /// When a document is no object, or the API server refuses it.
    pub async fn apply_manifest(&self, text: &str, change: impl Fn(&mut Value)) -> anyhow::Result<()> {
        for mut object in objects(text, &self.namespace)? {
            change(&mut object);
            self.apply_any(&object).await?;
        }
        Ok(())
    }

    /// Applies an object of any namespaced kind.
    ///
    /// # Errors
    /// When it names no kind, or the API server refuses it.
    pub async fn apply_any(&self, object: &Value) -> anyhow::Result<()> {
        let kind = object["kind"].as_str().context("an object has no kind")?;
        let name = object["metadata"]["name"]
            .as_str()
            .context("an object has no name")?;
        let version = object["apiVersion"]
            .as_str()
            .context("an object has no apiVersion")?;
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        // Forced: a test owns what it made.
        let params = PatchParams::apply("ja4-e2e").force();
        api.patch(name, &params, &Patch::Apply(object))
            .await
            .with_context(|| format!("could not apply {kind} {name}"))?;
        Ok(())
    }
}
