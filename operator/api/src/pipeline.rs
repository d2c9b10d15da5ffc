//! The resource itself: what can be asked of a pipeline.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::components::{Correlator, Dashboard, Detector, Sensor, Sources};
use crate::scalars::{Annotations, Labels, ObjectName, Release};
use crate::status::Ja4PipelineStatus;
use crate::store::{Privacy, Retention, Store, Tls};

/// A pipeline: sensors on nodes, a correlator, a store with its tables, detectors and a dashboard, kept running.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ja4platform.io",
    version = "v1alpha1",
    kind = "Ja4Pipeline",
    plural = "ja4pipelines",
    shortname = "ja4p",
    category = "ja4",
    namespaced,
    status = "Ja4PipelineStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Sensors", type_ = "string", json_path = ".status.sensors.summary"),
    printcolumn(name = "Join", type_ = "string", json_path = ".status.correlator.joinRate"),
    printcolumn(name = "Schema", type_ = "string", json_path = r#".status.conditions[?(@.type=="SchemaInSync")].status"#),
    printcolumn(name = "Detectors", type_ = "string", json_path = ".status.detectorsSummary"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 30 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: at most 30 characters, a to z, digits and -, beginning with a letter: names of its Jobs and Services are made of it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(self.correlator.placement == 'Node' && has(self.sources.ingest) && self.sources.ingest.size() > 0)")
        .message("sources.ingest needs correlator.placement Central: sources with a token send to the one correlator")
        .field_path(".sources.ingest"),
    validation = Rule::new("!(self.correlator.placement == 'Node' && has(self.correlator.placing))")
        .message("correlator.placing is for placement Central: with Node it runs beside each sensor, see sensor.placing")
        .field_path(".correlator.placing"),
)]
pub struct Ja4PipelineSpec {
    /// Which release the pipeline runs. Default: that of the operator that saw it first, in `status.version`; a newer
    /// operator changes nothing that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Release>,
    /// True to stop everything but the store; schedules stop, data stays. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Where requests come from.
    #[serde(default)]
    pub sources: Sources,
    /// Captures TLS handshakes on nodes.
    #[serde(default)]
    pub sensor: Sensor,
    /// Joins requests with connections.
    #[serde(default)]
    pub correlator: Correlator,
    /// Score clients. Default: one, every five minutes.
    #[serde(default = "one_detector")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub detectors: Vec<Detector>,
    /// Where rows are kept.
    pub store: Store,
    /// The analyst's pages.
    #[serde(default)]
    pub dashboard: Dashboard,
    /// Certificates between the parts.
    #[serde(default)]
    pub tls: Tls,
    /// How long rows are kept.
    #[serde(default)]
    pub retention: Retention,
    /// What is replaced before a request is kept.
    #[serde(default)]
    pub privacy: Privacy,
    /// Metrics and alerts.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Who may talk to whom.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
    /// How changes reach what runs.
    #[serde(default)]
    pub rollout: Rollout,
    /// Where images come from.
    #[serde(default)]
    pub images: Images,
    /// How much the programs log. Default: `info`.
    #[serde(default)]
    pub log_level: LogLevel,
    /// Labels and annotations for the pods of one component. Nothing else can be overridden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["component".into()]))]
    pub overrides: Option<Vec<Override>>,
}

/// Metrics and alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Objects for the Prometheus operator. Default: `Auto`.
    #[serde(default)]
    pub mode: MonitoringMode,
    /// Labels of these objects, by which a Prometheus selects them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// Whether there are objects for the Prometheus operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MonitoringMode {
    /// A `PodMonitor` and a `PrometheusRule` where the cluster has these kinds.
    #[default]
    Auto,
    /// None.
    Disabled,
}

/// Who may talk to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// A policy for each component that lets in its ports only. Sensors are on their nodes' network, for which no policy holds.
    /// Default: true.
    #[serde(default = "crate::components::yes")]
    pub enabled: bool,
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// How changes reach what runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// `Automatic`, or `Manual`: what would change waits in `status.plannedChanges` for a person. Default: `Automatic`.
    #[serde(default)]
    pub approval: Approval,
    /// Most sensors that may be away at once while they are replaced. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_unavailable: u16,
    /// How long a new set may take to become ready before the last good one is put back. Default: 600.
    #[serde(default = "progress_deadline")]
    #[schemars(range(min = 60, max = 86400))]
    pub progress_deadline_seconds: u32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            approval: Approval::default(),
            max_unavailable: 1,
            progress_deadline_seconds: progress_deadline(),
        }
    }
}

/// Who lets a change go ahead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Approval {
    /// Nobody need agree.
    #[default]
    Automatic,
    /// A person agrees, by the annotation `ja4platform.io/approved`.
    Manual,
}

/// Where images come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// Registry and path before the image's name, such as `registry.example.org/security`. Default: the operator's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 200),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-][a-z0-9]+)*)*$")
    )]
    pub registry: Option<String>,
    /// When nodes fetch. Default: `IfNotPresent`.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Secrets with the registry's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub pull_secrets: Option<Vec<ObjectName>>,
}

/// When nodes fetch images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures that somebody should act on.
    Error,
    /// Also what works, but not well.
    Warn,
    /// Also beginnings, ends and rare events.
    #[default]
    Info,
    /// Also each batch.
    Debug,
}

impl LogLevel {
    /// As the programs read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// A part of a pipeline that has pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Component {
    /// The embedded store.
    Store,
    /// The Job that migrates the store's tables.
    Schema,
    /// The correlator of all nodes.
    Correlator,
    /// What runs on each node.
    Sensor,
    /// Detectors.
    Detector,
    /// The dashboard.
    Dashboard,
}

impl Component {
    /// Its name in labels and in names of children.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Schema => "schema",
            Self::Correlator => "correlator",
            Self::Sensor => "sensor",
            Self::Detector => "detector",
            Self::Dashboard => "dashboard",
        }
    }
}

/// Labels and annotations for the pods of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.podLabels) || self.podLabels.all(key, !key.startsWith('ja4platform.io/') && !key.startsWith('app.kubernetes.io/'))")
        .message("overrides: podLabels cannot begin with ja4platform.io/ or app.kubernetes.io/, the operator's own are there")
        .field_path(".podLabels"),
    validation = Rule::new("!has(self.podAnnotations) || self.podAnnotations.all(key, !key.startsWith('ja4platform.io/'))")
        .message("overrides: podAnnotations cannot begin with ja4platform.io/, the operator's own are there")
        .field_path(".podAnnotations"),
)]
pub struct Override {
    /// Whose pods.
    pub component: Component,
    /// Labels that they get as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_labels: Option<Labels>,
    /// Annotations that they get as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_annotations: Option<Annotations>,
}

fn one() -> u16 {
    1
}

fn progress_deadline() -> u32 {
    600
}

fn one_detector() -> Vec<Detector> {
    vec![Detector::default()]
}
