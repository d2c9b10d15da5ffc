//! The store of the plain manifests, with its tables; statements to it and their answers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::case::Case;
use crate::manifests;
use crate::nodes::NodeAccess;
use crate::volume::{self, NodeDisk};
use crate::wait::{self, JobEnd};

/// Classes of the store's tokens.
const CLASSES: [&str; 4] = ["writer", "detector", "dashboard", "migrator"];

/// A store that is ready and has its tables.
#[derive(Debug)]
pub struct Store {
    client: StoreClient,
    disk: NodeDisk,
}

/// Sends statements to a store. A writer on a thread of its own has a copy.
#[derive(Debug, Clone)]
pub struct StoreClient {
    nodes: NodeAccess,
    /// From where it asks: not where the store runs, which a test may switch off.
    from: &'static str,
    /// Of the store's Service: nodes do not know the cluster's names.
    address: String,
    /// By class.
    tokens: BTreeMap<&'static str, String>,
}

impl StoreClient {
    /// What the store answers to a statement of a class of clients; `settings` go with it.
    ///
    /// # Errors
    /// When it does not answer or refuses the statement, with its words.
    pub fn ask(&self, class: &str, settings: &str, sql: &str) -> anyhow::Result<String> {
        let key = format!("X-ClickHouse-Key: {}", self.tokens[class]);
        let url = format!("https://{}:8123/?{settings}", self.address);
        let curl = ["curl", "-sSk", "--fail-with-body", "--max-time", "30"];
        let request = ["-H", &key, "--data-binary", sql, &url];
        self.nodes.run(self.from, &[&curl[..], &request].concat())
    }
}

impl Store {
    /// Starts the store on `node`, and makes its tables by the schema Job.
    ///
    /// # Errors
    /// When something does not become ready in time.
    pub async fn start(case: &Case, node: &str) -> anyhow::Result<Self> {
        Self::start_on(case, volume::make(case, "store", node, "10Gi").await?).await
    }

    /// As [`Self::start`], on a disk of its own with so many MiB, which is gone when its node loses its power.
    ///
    /// # Errors
    /// When something does not become ready in time.
    pub async fn start_on_small_disk(case: &Case, node: &str, mebibytes: u32) -> anyhow::Result<Self> {
        let disk = volume::make(case, "store", node, "10Gi").await?;
        disk.make_small(mebibytes)?;
        Self::start_on(case, disk).await
    }

    async fn start_on(case: &Case, disk: NodeDisk) -> anyhow::Result<Self> {
        for image in ["ja4-clickhouse", "ja4-cli"] {
            case.image(image)?;
        }
        let namespace = &case.namespace;
        let authority = Authority::new()?;
        let names = ["store".to_owned(), format!("store.{namespace}.svc")];
        let (certificate, key) = authority.server(&names)?;
        let mut tokens = BTreeMap::new();
        for class in CLASSES {
            tokens.insert(class, token()?);
        }
        case.apply::<Secret>(json!({"metadata": {"name": "store-tls"}, "stringData": {"tls.crt": certificate, "tls.key": key}}))
            .await?;
        case.apply::<Secret>(json!({"metadata": {"name": "store-tokens"}, "stringData": tokens}))
            .await?;
        case.apply::<ConfigMap>(json!({"metadata": {"name": "store-ca"}, "data": {"ca.crt": authority.pem}}))
            .await?;
        case.apply_manifest(manifests::STORE, |object| {
            // The cluster's own class of volumes, which here is one volume.
            if object["kind"] == "StatefulSet" {
                object["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] =
                    json!(volume::name(case, "store"));
            }
        })
        .await?;
        case.stateful_set_ready("store").await?;
        case.apply_manifest(manifests::SCHEMA, |_| {}).await?;
        ensure!(
            case.job_ended("schema").await? == JobEnd::Complete,
            "the schema Job failed: {}",
            case.last_word("job-name=schema").await?
        );
        let client = StoreClient {
            nodes: case.nodes().clone(),
            from: if disk.node() == "node1" { "node2" } else { "node1" },
            address: case.service_address("store").await?,
            tokens,
        };
        Ok(Self { client, disk })
    }

    /// Who asks it, for a thread of its own.
    pub fn client(&self) -> StoreClient {
        self.client.clone()
    }

    /// What it is stored on.
    pub fn disk(&self) -> &NodeDisk {
        &self.disk
    }

    /// Rows that a query gives, each as an object.
    ///
    /// # Errors
    /// When the store does not answer or refuses the query.
    pub fn rows(&self, sql: &str) -> anyhow::Result<Vec<Value>> {
        let answer = self.client.ask("dashboard", "default_format=JSONEachRow", sql)?;
        answer
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("the store answered {line}")))
            .collect()
    }

    /// Runs a statement that writes.
    ///
    /// # Errors
    /// When the store does not answer or refuses it.
    pub fn write(&self, class: &str, sql: &str) -> anyhow::Result<()> {
        self.client.ask(class, "", sql).map(drop)
    }

    /// Waits, by asking again, until `is_enough` of the rows that a query gives.
    ///
    /// # Errors
    /// At the deadline.
    pub async fn rows_until(
        &self,
        what: &str,
        deadline: Duration,
        sql: &str,
        is_enough: impl Fn(&[Value]) -> bool,
    ) -> anyhow::Result<Vec<Value>> {
        wait::until(what, deadline, async || {
            let rows = self.rows(sql)?;
            Ok(is_enough(&rows).then_some(rows))
        })
        .await
    }

    /// The token of a class of clients.
    pub fn token(&self, class: &str) -> &str {
        &self.client.tokens[class]
    }
}

/// A token with 256 bits.
pub(crate) fn token() -> anyhow::Result<String> {
    let mut halves = [[0; 16]; 2];
    let mut random = std::fs::File::open("/dev/urandom").context("no random bytes")?;
    for half in &mut halves {
        std::io::Read::read_exact(&mut random, half).context("no random bytes")?;
    }
    let [first, second] = halves.map(u128::from_be_bytes);
    Ok(format!("{first:032x}{second:032x}"))
}

/// A count in a row, which JSON has as text when it has 64 bits.
///
/// # Panics
/// When it is neither: the query asked for another type.
pub fn count(value: &Value) -> u64 {
    let count = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    count.unwrap_or_else(|| panic!("{value} is no count"))
}
