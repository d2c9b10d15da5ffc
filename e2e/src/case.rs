//! One test: its namespace, its client, and what is kept when it fails.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{self, Cluster, Found, Need};
use crate::evidence;
use crate::nodes::NodeAccess;
use crate::wait;

/// How long a change in a cluster may take that must come. A busy machine with two cores is slow, not wrong.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A test that runs: everything it makes is in a namespace of its own.
#[derive(Clone)]
pub struct Case {
    /// Talks to the API server as an administrator.
    pub client: kube::Client,
    /// Of this test alone.
    pub namespace: String,
    name: String,
    nodes: Option<NodeAccess>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Runs `body` on a cluster that has what it needs, or prints why it cannot.
///
/// `name` is the test's function: it names the namespace and the folder with what is kept of a failure.
///
/// # Panics
/// When the cluster cannot be reached or the body fails: so does a test.
#[expect(
    clippy::print_stdout,
    reason = "a skipped test says why, a failed one where its logs are"
)]
pub fn test<F, R>(name: &str, need: Need, body: F)
where
    F: FnOnce(Case) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime needs a few threads and file descriptors");
    runtime.block_on(async {
        let cluster = match cluster::find(need).await {
            Ok(Found::Cluster(cluster)) => cluster,
            Ok(Found::No(why)) => {
                println!("skipped: {why}");
                return;
            }
            Err(error) => panic!("{error:#}"),
        };
        let case = match Case::new(name, cluster).await {
            Ok(case) => case,
            Err(error) => panic!("{error:#}"),
        };
        // A panic of an assertion keeps its logs as well.
        let outcome = AssertUnwindSafe(body(case.clone())).catch_unwind().await;
        if !matches!(outcome, Ok(Ok(()))) {
            let folder = evidence::keep(&case).await;
            println!("logs and events: {}", folder.display());
        }
        case.forget_namespace().await;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("{error:#}"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
}

impl Case {
    async fn new(name: &str, cluster: Cluster) -> anyhow::Result<Self> {
        // 63 characters at most, of which the suffix takes 6.
        let prefix: String = format!("e2e-{}", name.replace('_', "-"))
            .chars()
            .take(57)
            .collect();
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let wanted = json!({"metadata": {
            "generateName": format!("{}-", prefix.trim_end_matches('-')),
            "labels": {"app.kubernetes.io/part-of": "ja4-e2e"},
        }});
        let made = namespaces
            .create(&PostParams::default(), &serde_json::from_value(wanted)?)
            .await
            .context("could not make a namespace")?;
        let case = Self {
            client: cluster.client,
            namespace: made.metadata.name.context("a namespace has a name")?,
            name: name.to_owned(),
            nodes: cluster.nodes,
        };
        if cluster.has_controllers {
            wait::found(&case, case.api::<ServiceAccount>(), "default").await?;
        }
        Ok(case)
    }

    /// Its name, as given to [`test()`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Objects of one kind in this test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The nodes from inside.
    ///
    /// # Panics
    /// When the test did not ask for them with [`Need::with_node_access`].
    pub fn nodes(&self) -> &NodeAccess {
        self.node_access()
            .expect("the test needs node access and said so")
    }

    /// The nodes from inside, where they can be reached.
    pub(crate) fn node_access(&self) -> Option<&NodeAccess> {
        self.nodes.as_ref()
    }

    /// Makes an object from its manifest, or changes it to that (server-side apply).
    ///
    /// # Errors
    /// When the manifest is none of its kind, has no name, or the API server refuses it.
    pub async fn apply<K>(&self, manifest: Value) -> anyhow::Result<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let name = manifest["metadata"]["name"]
            .as_str()
            .context("the manifest has no name")?
            .to_owned();
        let kind = K::DynamicType::default();
        let mut manifest = manifest;
        manifest["apiVersion"] = json!(K::api_version(&kind));
        manifest["kind"] = json!(K::kind(&kind));
        // Forced: a test owns what it made.
        let params = PatchParams::apply("ja4-e2e").force();
        self.api::<K>()
            .patch(&name, &params, &Patch::Apply(&manifest))
            .await
            .with_context(|| format!("could not apply {} {name}", K::kind(&kind)))
    }

    /// Where what is kept of this test goes.
    pub(crate) fn log_folder(&self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"),
            PathBuf::from,
        );
        target.join("e2e-logs").join(&self.name)
    }

    /// Nobody waits: a namespace with pods takes a quarter of a minute to go.
    #[expect(clippy::print_stdout, reason = "somebody may want to remove it by hand")]
    async fn forget_namespace(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if let Err(error) = namespaces.delete(&self.namespace, &DeleteParams::default()).await {
            println!("namespace {} stays: {error}", self.namespace);
        }
    }
}
