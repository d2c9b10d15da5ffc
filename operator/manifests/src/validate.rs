//! Whether a spec can be built, and what it stands for: names, release, periods. The only step that can fail.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::LocalObjectReference;
use operator_api::conditions::reasons;
use operator_api::{Component, Detector, Ja4Pipeline, Ja4PipelineSpec, Placement, Release, labels};

use serde_json::{Value, json};

use crate::names;
use crate::schedule::{Periods, periods};

/// A detector must have time for a cycle; below a minute cron cannot go.
const SHORTEST_PERIOD: Duration = Duration::from_mins(1);

/// What the cluster can do beyond Kubernetes itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Apis {
    /// `monitoring.coreos.com/v1` has `PodMonitor` and `PrometheusRule`.
    pub monitoring: bool,
    /// `gateway.networking.k8s.io/v1` has `HTTPRoute`.
    pub gateway: bool,
}

/// What is known beside the resource.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The operator's own release.
    pub operator_version: String,
    /// Registry of images where the spec names none.
    pub registry: String,
    /// What is written before `docs/runbooks/` in the addresses of alerts.
    pub runbook_base: String,
    /// What the cluster can do.
    pub apis: Apis,
    /// Other pipelines' ports on nodes, by `namespace/name`, oldest first.
    pub ports: Vec<(String, u16)>,
}

/// Why a spec cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Reason of the condition.
    pub reason: &'static str,
    /// Where, such as `spec.detectors[main].schedule`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A detector whose schedule comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidDetector {
    /// As written.
    pub spec: Detector,
    /// Times between its runs.
    pub periods: Periods,
}

/// A pipeline that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidPipeline {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its identity, for owner references.
    pub uid: String,
    /// As written, with defaults.
    pub spec: Ja4PipelineSpec,
    /// The release that runs.
    pub version: Release,
    /// Registry of its images.
    pub registry: String,
    /// What is written before `docs/runbooks/` in the addresses of alerts.
    pub runbook_base: String,
    /// Its detectors.
    pub detectors: Vec<ValidDetector>,
    /// What the cluster can do.
    pub apis: Apis,
}

/// Checks what the schema cannot, and resolves names, release and periods.
///
/// # Errors
/// The first thing that keeps the pipeline from being built.
pub fn validate(pipeline: &Ja4Pipeline, facts: &Facts) -> Result<ValidPipeline, Invalid> {
    let name = pipeline.metadata.name.clone().unwrap_or_default();
    let namespace = pipeline.metadata.namespace.clone().unwrap_or_default();
    let spec = pipeline.spec.clone();
    let version = version(pipeline, facts)?;
    let mut detectors = Vec::new();
    for detector in &spec.detectors {
        detectors.push(valid_detector(detector)?);
    }
    let me = format!("{namespace}/{name}");
    let port = spec.sensor.metrics_port;
    // The older of two keeps its port.
    let older = facts.ports.iter().take_while(|(other, _)| *other != me);
    if let Some((other, _)) = older.clone().find(|(_, taken)| *taken == port) {
        return Err(Invalid {
            reason: reasons::INVALID_PORT,
            field: "spec.sensor.metricsPort".to_owned(),
            message: format!(
                "pipeline {other} has port {port} on the nodes; take another, such as {}",
                free(port, facts)
            ),
        });
    }
    if spec.dashboard.http_route.is_some() && !facts.apis.gateway {
        return Err(Invalid {
            reason: reasons::INVALID_SPEC,
            field: "spec.dashboard.httpRoute".to_owned(),
            message: "the cluster has no Gateway API; install it or use spec.dashboard.ingress".to_owned(),
        });
    }
    Ok(ValidPipeline {
        registry: spec
            .images
            .registry
            .clone()
            .unwrap_or_else(|| facts.registry.clone()),
        runbook_base: facts.runbook_base.clone(),
        uid: pipeline.metadata.uid.clone().unwrap_or_default(),
        apis: facts.apis,
        name,
        namespace,
        spec,
        version,
        detectors,
    })
}

/// A port that no pipeline has.
fn free(from: u16, facts: &Facts) -> u16 {
    let is_taken = |port: &u16| facts.ports.iter().any(|(_, taken)| taken == port);
    (from..u16::MAX).find(|port| !is_taken(port)).unwrap_or(from)
}

/// The release: as asked, else as it runs, else the operator's own. One minor release older than the operator at most.
fn version(pipeline: &Ja4Pipeline, facts: &Facts) -> Result<Release, Invalid> {
    let running = pipeline.status.as_ref().and_then(|status| status.version.clone());
    let wanted = pipeline
        .spec
        .version
        .clone()
        .or(running)
        .unwrap_or_else(|| Release(facts.operator_version.clone()));
    let invalid = |message: String| Invalid {
        reason: reasons::INVALID_VERSION,
        field: "spec.version".to_owned(),
        message,
    };
    let (Some(own), Some(asked)) = (
        release_number(&facts.operator_version),
        release_number(wanted.as_str()),
    ) else {
        return Err(invalid(format!("{wanted} is no release; write it as 0.1.0")));
    };
    // Of one number the one without an addition is the newer.
    let is_newer = asked > own
        || asked == own && facts.operator_version.contains('-') && wanted.as_str() != facts.operator_version;
    if is_newer {
        return Err(invalid(format!(
            "{wanted} is newer than this operator ({}); upgrade the operator first",
            facts.operator_version
        )));
    }
    if asked[0] != own[0] || own[1] - asked[1] > 1 {
        return Err(invalid(format!(
            "{wanted} is more than one minor release older than this operator ({}); go up one minor release at a time",
            facts.operator_version
        )));
    }
    let oldest = pipeline
        .status
        .as_ref()
        .and_then(|status| status.schema.as_ref()?.min_writer.clone());
    if let Some(oldest) = oldest
        && release_number(oldest.as_str()).is_some_and(|oldest| asked < oldest)
    {
        return Err(invalid(format!(
            "the store's tables can be written by {oldest} and later only; run {oldest} or later, migrations are never taken back"
        )));
    }
    Ok(wanted)
}

/// Major, minor and patch of a release; nothing for what is none.
pub fn release_number(release: &str) -> Option<[u32; 3]> {
    let mut parts = release
        .split('-')
        .next()?
        .split('.')
        .map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// The pipeline as far as it can be told from a spec that cannot be built: for what must go on all the same, such as the renewal of
/// certificates.
pub fn unchecked(pipeline: &Ja4Pipeline, facts: &Facts) -> ValidPipeline {
    let running = pipeline.status.as_ref().and_then(|status| status.version.clone());
    ValidPipeline {
        name: pipeline.metadata.name.clone().unwrap_or_default(),
        namespace: pipeline.metadata.namespace.clone().unwrap_or_default(),
        uid: pipeline.metadata.uid.clone().unwrap_or_default(),
        spec: pipeline.spec.clone(),
        version: running.unwrap_or_else(|| Release(facts.operator_version.clone())),
        registry: facts.registry.clone(),
        runbook_base: facts.runbook_base.clone(),
        detectors: Vec::new(),
        apis: facts.apis,
    }
}

fn valid_detector(detector: &Detector) -> Result<ValidDetector, Invalid> {
    let invalid = |message: &str| Invalid {
        reason: reasons::INVALID_SCHEDULE,
        field: format!("spec.detectors[{}].schedule", detector.name),
        message: format!("{:?} {message}", detector.schedule.as_str()),
    };
    let periods = periods(detector.schedule.as_str()).ok_or_else(|| {
        invalid("never comes or is no schedule; write minute, hour, day, month, weekday, such as */5 * * * *")
    })?;
    if periods.shortest < SHORTEST_PERIOD {
        return Err(invalid("comes more often than once a minute"));
    }
    Ok(ValidDetector {
        spec: detector.clone(),
        periods,
    })
}

impl ValidPipeline {
    /// The owner of its children: what Kubernetes removes them with.
    pub fn owner(&self) -> Value {
        json!([{
            "apiVersion": format!("{}/{}", operator_api::GROUP, operator_api::VERSION),
            "kind": operator_api::KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": true,
        }])
    }

    /// Labels of a child.
    pub fn labels(&self, component: &str) -> BTreeMap<String, String> {
        [
            (labels::PIPELINE, self.name.as_str()),
            (labels::INSTANCE, &self.name),
            (labels::COMPONENT, component),
            (labels::NAME, &format!("ja4-{component}")),
            (labels::PART_OF, labels::PLATFORM),
            (labels::MANAGED_BY, labels::OPERATOR),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// Labels by which a component's pods are found; they never change.
    pub(crate) fn selector(&self, component: Component) -> BTreeMap<String, String> {
        [
            (labels::PIPELINE.to_owned(), self.name.clone()),
            (labels::COMPONENT.to_owned(), component.as_str().to_owned()),
        ]
        .into()
    }

    /// An image's whole name; `suffix` is empty or that of a variant.
    pub(crate) fn image(&self, program: &str, suffix: &str) -> String {
        format!("{}/{program}:{}{suffix}", self.registry, self.version)
    }

    /// True if it has a store of its own.
    pub fn is_embedded(&self) -> bool {
        self.spec.store.embedded.is_some()
    }

    /// True if each node joins for itself.
    pub fn joins_on_nodes(&self) -> bool {
        self.spec.correlator.placement == Placement::Node
    }

    /// True if it has a correlator of its own that should run.
    pub fn has_correlator(&self) -> bool {
        !self.joins_on_nodes()
    }

    /// Main object of a component.
    pub fn name_of(&self, component: Component) -> String {
        names::of(&self.name, component)
    }

    /// The Secrets with the registry's credentials.
    pub(crate) fn pull_secrets(&self) -> Vec<LocalObjectReference> {
        let secrets = self.spec.images.pull_secrets.iter().flatten();
        secrets
            .map(|name| LocalObjectReference { name: name.0.clone() })
            .collect()
    }
}
