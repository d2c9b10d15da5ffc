//! Where rows are kept: the embedded store or somebody's ClickHouse.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::components::{Placing, Volume};
use crate::scalars::{ConfigMapKey, Database, Resources, SecretKey, Size};

/// The store: exactly one of `embedded` and `external`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.embedded) != has(self.external)")
        .message("store: name exactly one of embedded (a store of the pipeline's own) and external (your ClickHouse)"),
    validation = Rule::new("has(self.embedded) == has(oldSelf.embedded)")
        .message("store: embedded and external cannot be exchanged, the data would stay behind; make another pipeline and move the data"),
)]
pub struct Store {
    /// A store of the pipeline's own: one pod with one volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedStore>,
    /// Your ClickHouse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStore>,
}

/// A store of the pipeline's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedStore {
    /// Its disk. Default: 20Gi of the cluster's default class.
    #[serde(default = "store_volume")]
    pub volume: Volume,
    /// What becomes of the volume when the pipeline is deleted. Default: `Retain`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Which nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placing: Option<Placing>,
    /// Processor and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Default for EmbeddedStore {
    fn default() -> Self {
        Self {
            volume: store_volume(),
            deletion_policy: DeletionPolicy::default(),
            placing: None,
            resources: None,
        }
    }
}

/// What becomes of data when its pipeline is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The volume claim stays, and a pipeline of the same name takes it up again.
    #[default]
    Retain,
    /// The volume claim goes, and the data with it.
    Delete,
}

/// Your ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.ca) || self.url.startsWith('https://')")
        .message("store.external.ca is for https: write https:// in the url or remove ca"),
    validation = Rule::new("self.logsDatabase != self.processingDatabase")
        .message("store.external: logsDatabase and processingDatabase are two databases"),
    validation = Rule::new("self.logsDatabase == oldSelf.logsDatabase && self.processingDatabase == oldSelf.processingDatabase")
        .message("store.external: databases cannot change, the data would stay behind; make another pipeline"),
)]
pub struct ExternalStore {
    /// Address of its HTTP interface, such as `https://clickhouse.data.svc:8443`.
    #[schemars(
        length(min = 8, max = 256),
        regex(pattern = r"^https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$")
    )]
    pub url: String,
    /// Certificates to check an https address with; without it the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ConfigMapKey>,
    /// Database of what happened. Default: `ja4_logs`.
    #[serde(default = "logs_database")]
    pub logs_database: Database,
    /// Database of what was made of it. Default: `ja4_processing`.
    #[serde(default = "processing_database")]
    pub processing_database: Database,
    /// Users and their passwords.
    pub users: StoreUsers,
}

/// Users of ClickHouse, each with the least rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreUsers {
    /// Writes rows.
    pub writer: StoreUser,
    /// Reads rows, writes scores.
    pub detector: StoreUser,
    /// Reads both, writes verdicts.
    pub dashboard: StoreUser,
    /// Makes and migrates the tables.
    pub migrator: StoreUser,
}

/// A user of ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreUser {
    /// Name of the user.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_.@-]*$"))]
    pub user: String,
    /// Its password.
    pub password: SecretKey,
}

/// How many days rows are kept. Tables drop whole days; 0 keeps rows for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Joined requests, with addresses, paths and header values. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub http_logs_days: Option<u32>,
    /// Connections, with or without a request. Default: 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub tls_logs_days: Option<u32>,
    /// Counts by client and hour. Default: 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub agg_days: Option<u32>,
    /// Scores and their reasons. Default: 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub detection_days: Option<u32>,
    /// What each cycle of a detector did. Default: 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub cycles_days: Option<u32>,
    /// Counts by minute. Default: 40.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub traffic_days: Option<u32>,
    /// Counts by value and hour. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub facet_days: Option<u32>,
    /// What is usual by hour of the week. Default: 35.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub baseline_days: Option<u32>,
    /// When a fingerprint was first seen. Default: 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub first_seen_days: Option<u32>,
    /// What sensors and web servers said of themselves. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub source_status_days: Option<u32>,
    /// Rows that the store refused. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub quarantine_days: Option<u32>,
    /// What analysts did. Default: 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3650))]
    pub soc_audit_days: Option<u32>,
}

impl Retention {
    /// What is set, by the names that `ja4 schema apply --retention` takes.
    pub fn settings(&self) -> Vec<(&'static str, u32)> {
        let all = [
            ("http_logs_days", self.http_logs_days),
            ("tls_logs_days", self.tls_logs_days),
            ("agg_days", self.agg_days),
            ("detection_days", self.detection_days),
            ("cycles_days", self.cycles_days),
            ("traffic_days", self.traffic_days),
            ("facet_days", self.facet_days),
            ("baseline_days", self.baseline_days),
            ("first_seen_days", self.first_seen_days),
            ("source_status_days", self.source_status_days),
            ("quarantine_days", self.quarantine_days),
            ("soc_audit_days", self.soc_audit_days),
        ];
        all.into_iter()
            .filter_map(|(name, days)| Some((name, days?)))
            .collect()
    }
}

/// What is replaced before a request is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Privacy {
    /// 32 bytes under which credentials are hashed; without it the operator makes a key and keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redaction_key: Option<SecretKey>,
    /// Names of query parameters whose values are replaced; without it the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_.-]+$"))
    )]
    pub query_keys: Option<Vec<String>>,
    /// Names of cookies that are sessions; without it the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_.-]+$"))
    )]
    pub session_cookies: Option<Vec<String>>,
}

/// Certificates between the parts, which the operator makes with an authority of the pipeline's own and renews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Days that a certificate holds; it is renewed after two thirds of them, without a restart. Default: 90.
    #[serde(default = "certificate_days")]
    #[schemars(range(min = 10, max = 825))]
    pub certificate_days: u32,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificate_days: certificate_days(),
        }
    }
}

fn certificate_days() -> u32 {
    90
}

fn store_volume() -> Volume {
    Volume {
        size: Size::from("20Gi"),
        storage_class_name: None,
    }
}

fn logs_database() -> Database {
    Database::from("ja4_logs")
}

fn processing_database() -> Database {
    Database::from("ja4_processing")
}
