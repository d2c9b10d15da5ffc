//! A pipeline from the plain manifests: its secrets, its store, its schema, its sensors; and questions to its store.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerState, PersistentVolume, Pod, Secret, Service};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use crate::case::Case;
use crate::nodes::NodeAccess;
use crate::wait::{self, JobEnd};

/// Classes of the store's tokens.
const CLASSES: [&str; 4] = ["writer", "detector", "dashboard", "migrator"];

/// The manifests, as a person has them.
pub mod manifests {
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
}

/// What a cluster keeps of a last word; ours are to be shorter.
const LAST_WORD_MAX: usize = 4000;

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

/// The folder of a node that is a pod's volume.
#[derive(Debug, Clone)]
pub struct NodeDisk {
    nodes: NodeAccess,
    node: String,
    path: String,
}

impl NodeDisk {
    /// Takes the space that is free, but for `left` bytes.
    ///
    /// # Errors
    /// When less is free, or the node does not answer.
    pub fn fill(&self, left: u64) -> anyhow::Result<()> {
        let free = self
            .nodes
            .run(&self.node, &["stat", "-f", "-c", "%a %S", &self.path])?;
        let mut words = free.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(blocks)), Some(Ok(size))) = (words.next(), words.next()) else {
            bail!("stat -f printed {free:?}");
        };
        let taken = (blocks * size)
            .checked_sub(left)
            .with_context(|| format!("only {} bytes are free", blocks * size))?;
        let taken = taken.to_string();
        self.nodes
            .run(&self.node, &["fallocate", "-l", &taken, &self.ballast()])
            .map(drop)
    }

    /// Gives back what [`Self::fill`] took.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn empty(&self) -> anyhow::Result<()> {
        self.nodes.run(&self.node, &["rm", &self.ballast()]).map(drop)
    }

    fn ballast(&self) -> String {
        format!("{}/ballast", self.path)
    }
}

/// Somebody whose certificates are believed.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Certificate and key for a server's names.
    ///
    /// # Errors
    /// When a name is none.
    pub fn server(&self, names: &[String]) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names.to_vec())?.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Certificate and key for a client with a role.
    ///
    /// # Errors
    /// When the name is no URI.
    pub fn client(&self, uri: &str) -> anyhow::Result<(String, String)> {
        self.client_with(uri, |_| {})
    }

    /// The same, out of date for years.
    ///
    /// # Errors
    /// When the name is no URI.
    pub fn expired_client(&self, uri: &str) -> anyhow::Result<(String, String)> {
        self.client_with(uri, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })
    }

    fn client_with(
        &self,
        uri: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

impl Store {
    /// Starts the store on `node`, and makes its tables by the schema Job.
    ///
    /// # Errors
    /// When something does not become ready in time.
    pub async fn start(case: &Case, node: &str) -> anyhow::Result<Self> {
        Self::start_on(case, volume(case, "store", node, "10Gi").await?).await
    }

    /// As [`Self::start`], on a disk of its own with so many MiB, which is gone when its node loses its power.
    ///
    /// # Errors
    /// When something does not become ready in time.
    pub async fn start_on_small_disk(case: &Case, node: &str, mebibytes: u32) -> anyhow::Result<Self> {
        let disk = volume(case, "store", node, "10Gi").await?;
        let options = format!("size={mebibytes}m,uid=65532,gid=65532,mode=0700");
        let mount = ["mount", "-t", "tmpfs", "-o", &options, "ja4-e2e", &disk.path];
        disk.nodes.run(node, &mount)?;
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
                    json!(volume_name(case, "store"));
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
        let service = case.api::<Service>().get("store").await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip);
        let client = StoreClient {
            nodes: case.nodes().clone(),
            from: if disk.node == "node1" { "node2" } else { "node1" },
            address: address.context("the store's Service has no address")?,
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

/// Starts the correlator of all nodes on `node`, with certificates for it and for forwarders. Gives who made them.
///
/// # Errors
/// When it does not become ready in time.
pub async fn correlator(case: &Case, node: &str) -> anyhow::Result<Authority> {
    case.image("ja4-correlator")?;
    let authority = Authority::new()?;
    certificates(case, &authority, &authority.pem).await?;
    volume(case, "correlator", node, "2Gi").await?;
    case.apply_manifest(manifests::CORRELATOR, |object| {
        if object["kind"] == "PersistentVolumeClaim" {
            object["spec"]["storageClassName"] = json!(volume_name(case, "correlator"));
        }
    })
    .await?;
    case.deployment_available("correlator").await?;
    Ok(authority)
}

/// Writes certificates of both ends of the hop, made by `authority`; `bundle` is whom both believe.
///
/// # Errors
/// When the API server refuses them.
pub async fn certificates(case: &Case, authority: &Authority, bundle: &str) -> anyhow::Result<()> {
    let names = [
        "correlator".to_owned(),
        format!("correlator.{}.svc", case.namespace),
    ];
    let server = authority.server(&names)?;
    let forward = authority.client("ja4://demo/forward/*")?;
    for (name, (certificate, key)) in [("correlator-tls", server), ("forward-tls", forward)] {
        let data = json!({"tls.crt": certificate, "tls.key": key, "ca.crt": bundle});
        case.apply::<Secret>(json!({"metadata": {"name": name}, "stringData": data}))
            .await?;
    }
    Ok(())
}

/// The key under which secrets in requests are hashed.
///
/// # Errors
/// When the API server refuses it.
pub async fn redaction_key(case: &Case) -> anyhow::Result<()> {
    // 32 characters are 32 bytes.
    let key: String = token()?.chars().take(32).collect();
    case.apply::<Secret>(json!({"metadata": {"name": "redaction-key"}, "stringData": {"key": key}}))
        .await
        .map(drop)
}

fn volume_name(case: &Case, whose: &str) -> String {
    format!("{}-{whose}", case.namespace)
}

/// A volume on a node's disk, and a class of its own for the claim that is to get it.
async fn volume(case: &Case, whose: &str, node: &str, size: &str) -> anyhow::Result<NodeDisk> {
    let name = volume_name(case, whose);
    let path = format!("/var/lib/ja4-e2e/{name}");
    case.nodes().run(
        node,
        &["install", "-d", "-o", "65532", "-g", "65532", "-m", "0700", &path],
    )?;
    let wanted = json!({
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "ja4-e2e"}},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": name,
            "hostPath": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
            ]}]}},
        },
    });
    let volumes: Api<PersistentVolume> = Api::all(case.client.clone());
    volumes
        .create(&PostParams::default(), &serde_json::from_value(wanted)?)
        .await
        .with_context(|| format!("could not make volume {name}"))?;
    Ok(NodeDisk {
        nodes: case.nodes().clone(),
        node: node.to_owned(),
        path,
    })
}

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

    /// Runs the schema Job in another way, under another name, which must fail, and gives its last word.
    ///
    /// # Errors
    /// When it does not fail, or its last word is none.
    pub async fn failed_schema(&self, name: &str, change: impl Fn(&mut Value)) -> anyhow::Result<Value> {
        self.apply_manifest(manifests::SCHEMA, |object| {
            object["metadata"]["name"] = json!(name);
            change(&mut object["spec"]);
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

/// A token with 256 bits.
fn token() -> anyhow::Result<String> {
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
