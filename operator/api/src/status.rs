//! What the operator answers. Numbers are bands that change seldom; exact values are metrics.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalars::Release;

/// How a pipeline does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ja4PipelineStatus {
    /// Generation of the spec that this is about; -1 until the operator has seen it.
    #[serde(default = "not_seen")]
    pub observed_generation: i64,
    /// What is true of it, each with reason and remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Release that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Release>,
    /// Sensors and the nodes that they are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensors: Option<SensorsStatus>,
    /// The correlator, as it says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlator: Option<CorrelatorStatus>,
    /// Each detector's last cycles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub detectors: Vec<DetectorStatus>,
    /// Detectors in a few words, for `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectors_summary: Option<String>,
    /// The store's tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaStatus>,
    /// When the first certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_expire: Option<Time>,
    /// What would change when a person agrees, and the hash to agree to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_changes: Option<PlannedChanges>,
    /// Sets of objects that were applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revisions: Option<Revisions>,
    /// Fields of children that others manage, such as a person with kubectl.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub foreign_fields: Vec<String>,
    /// How to reach the dashboard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<String>,
}

/// Sensors and their nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SensorsStatus {
    /// `3/3`: ready ones and those that there should be.
    pub summary: String,
    /// Nodes that should have one.
    pub scheduled: i32,
    /// Nodes whose sensor is ready.
    pub ready: i32,
    /// Nodes whose sensor is of the newest set.
    pub updated: i32,
    /// Share of packets or events that were dropped on the worst node: `none`, `under 0.1 %`, `under 1 %`, `1 % or more`, `unknown`.
    pub dropping: String,
    /// Nodes without a working sensor, ten at most, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub uncovered: Vec<String>,
}

/// What the correlator says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CorrelatorStatus {
    /// True if it answers.
    pub ready: bool,
    /// Share of TLS requests that found their connection: `over 99 %`, `over 95 %`, `over 80 %`, `under 80 %`, `no traffic`, `unknown`.
    pub join_rate: String,
    /// What the store answers it: `Ok`, or a word such as `WrongPassword`; `unknown` without an answer.
    pub store: String,
}

/// A detector's last cycles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetectorStatus {
    /// Its name.
    pub name: String,
    /// When a cycle last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Time>,
    /// What it said then of itself: `learning`, `provisional` or `armed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Clients that it scored then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<i64>,
    /// Clients that it flagged then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flagged: Option<i64>,
    /// Why the last cycle failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The store's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchemaStatus {
    /// Release whose migrations are applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Release>,
    /// Release whose migrations are to be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Release>,
    /// Oldest release that may write to the tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_writer: Option<Release>,
    /// Job of the last try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Which try it is, from 0.
    pub attempt: u32,
    /// When the next try begins, if the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Time>,
}

/// What would change when a person agrees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChanges {
    /// What to write in the annotation `ja4platform.io/approved`.
    pub hash: String,
    /// One line for each object, twenty at most.
    #[schemars(length(max = 20))]
    pub changes: Vec<String>,
    /// Changes that are not listed.
    pub more: u32,
}

/// Sets of objects that were applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revisions {
    /// The set that is applied now.
    pub current: i64,
    /// The last set that was ready as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<i64>,
    /// Hash of a set that did not become ready in time; it is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<String>,
    /// When the current set was first applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

fn not_seen() -> i64 {
    -1
}
