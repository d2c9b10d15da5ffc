//! Which cluster a test runs on, and why it may not run at all.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::fs::FlockOperation;

use crate::nodes::NodeAccess;

/// What a test asks of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    tier: Tier,
    node_access: bool,
}

impl Need {
    /// An API server, nothing behind it.
    pub const fn api() -> Self {
        Self::of(Tier::Api)
    }

    /// An API server with its controllers and scheduler: objects get children, no pod ever runs.
    pub const fn controllers() -> Self {
        Self::of(Tier::Controllers)
    }

    /// At least `n` nodes that run pods.
    pub const fn nodes(n: usize) -> Self {
        Self::of(Tier::Nodes(n))
    }

    /// Commands inside nodes as well: only the clusters of `e2e/cluster/` allow it.
    #[must_use]
    pub const fn with_node_access(self) -> Self {
        Self {
            node_access: true,
            ..self
        }
    }

    const fn of(tier: Tier) -> Self {
        Self {
            tier,
            node_access: false,
        }
    }
}

/// How much of a cluster is there; a later one does all that an earlier one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Api,
    Controllers,
    Nodes(usize),
}

impl Tier {
    /// Reads what `up.sh` notes when a cluster is up: `node 2`.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        match (words.next()?, words.next()?.parse().ok()?) {
            ("api", 0) => Some(Self::Api),
            ("controllers", 0) => Some(Self::Controllers),
            ("node", n) => Some(Self::Nodes(n)),
            _ => None,
        }
    }

    /// The argument of `up.sh` and its number of nodes.
    fn argument(self) -> (&'static str, usize) {
        match self {
            Self::Api => ("api", 1),
            Self::Controllers => ("controllers", 1),
            // Two at least: tests of one program then share a cluster.
            Self::Nodes(n) => ("node", n.max(2)),
        }
    }
}

/// A cluster that answers, as this process reaches it.
pub(crate) struct Cluster {
    pub(crate) client: kube::Client,
    /// `None` on somebody else's cluster.
    pub(crate) nodes: Option<NodeAccess>,
    /// Whether somebody makes a service account for each namespace, without which pods are refused.
    pub(crate) has_controllers: bool,
}

/// What came of looking for a cluster.
pub(crate) enum Found {
    Cluster(Cluster),
    /// The test cannot run here, and why.
    No(String),
}

/// The cluster that the environment names, or one started now.
pub(crate) async fn find(need: Need) -> anyhow::Result<Found> {
    let state = variable("E2E_STATE").map(PathBuf::from);
    let kubeconfig = variable("KUBECONFIG");
    match (state, kubeconfig) {
        (Some(state), _) => attach(need, &state).await,
        (None, Some(_)) => {
            if need.node_access {
                return Ok(Found::No(
                    "looks into nodes, and those behind KUBECONFIG are out of reach".to_owned(),
                ));
            }
            let client = kube::Client::try_default()
                .await
                .context("could not read the cluster's address from KUBECONFIG")?;
            let cluster = Cluster {
                client,
                nodes: None,
                has_controllers: true,
            };
            lacks_nodes(need, cluster).await
        }
        (None, None) => start(need).await,
    }
}

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where the scripts of the cluster are.
pub(crate) fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

async fn attach(need: Need, state: &Path) -> anyhow::Result<Found> {
    let tier = std::fs::read_to_string(state.join("run/tier"))
        .ok()
        .and_then(|text| Tier::parse(&text));
    let Some(tier) = tier else {
        bail!(
            "no cluster is up in E2E_STATE={}; start it with e2e/cluster/up.sh node, or unset E2E_STATE",
            state.display()
        );
    };
    if tier < need.tier {
        return Ok(Found::No(format!(
            "needs {:?}, the cluster has {tier:?}",
            need.tier
        )));
    }
    let path = state.join("pki/admin.kubeconfig");
    let kubeconfig =
        Kubeconfig::read_from(&path).with_context(|| format!("could not read {}", path.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Found::Cluster(Cluster {
        client: kube::Client::try_from(config)?,
        nodes: matches!(tier, Tier::Nodes(_)).then(|| NodeAccess::new(state.to_owned())),
        has_controllers: tier > Tier::Api,
    }))
}

/// Somebody else's cluster has all controllers; only the number of its nodes may fall short.
async fn lacks_nodes(need: Need, cluster: Cluster) -> anyhow::Result<Found> {
    if let Tier::Nodes(wanted) = need.tier {
        let nodes = kube::Api::<k8s_openapi::api::core::v1::Node>::all(cluster.client.clone());
        let found = nodes
            .list(&kube::api::ListParams::default())
            .await
            .context("could not list the cluster's nodes")?;
        if found.items.len() < wanted {
            return Ok(Found::No(format!(
                "needs {wanted} nodes, the cluster has {}",
                found.items.len()
            )));
        }
    }
    Ok(Found::Cluster(cluster))
}

/// Starts a cluster that lives as long as a process that uses it.
async fn start(need: Need) -> anyhow::Result<Found> {
    let have = Command::new(scripts().join("build.sh"))
        .arg("--have")
        .stderr(Stdio::null())
        .status()
        .context("could not start e2e/cluster/build.sh")?;
    if !have.success() {
        return Ok(Found::No(
            "no cluster is named (E2E_STATE, KUBECONFIG) and none can be started before e2e/cluster/build.sh has run once"
                .to_owned(),
        ));
    }
    if matches!(need.tier, Tier::Nodes(_)) && !rustix::process::geteuid().is_root() {
        return Ok(Found::No("nodes need root".to_owned()));
    }
    let (tier, n_nodes) = need.tier.argument();
    // One for each tier: two test programs that want different ones never take each other's away.
    let base = std::env::temp_dir().join(format!("ja4-e2e-{}", rustix::process::getuid().as_raw()));
    let state = base.join(format!("tests-{tier}-{n_nodes}"));
    hold(&base, &state)?;
    let output = Command::new(scripts().join("up.sh"))
        .arg(tier)
        .env("E2E_STATE", &state)
        .env("E2E_NODES", n_nodes.to_string())
        .output()
        .context("could not start e2e/cluster/up.sh")?;
    if !output.status.success() {
        bail!(
            "up.sh {tier} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    attach(need, &state).await
}

/// Takes a share in a cluster. The kernel gives it back when this process ends, however it ends; whoever waits for all
/// of it then takes the cluster down.
fn hold(base: &Path, state: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(base)
        .with_context(|| format!("could not make {}", base.display()))?;
    // Beside the state, which is wiped.
    let path = state.with_extension("users");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("could not open {}", path.display()))?;
    rustix::fs::flock(&lock, FlockOperation::LockShared)
        .with_context(|| format!("could not lock {}", path.display()))?;
    // Kept open on purpose, until the process ends.
    std::mem::forget(lock);
    let mut reaper = Command::new("flock");
    reaper
        .arg("--exclusive")
        .arg(&path)
        .arg(scripts().join("down.sh"))
        .arg("--wipe")
        .env("E2E_STATE", state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    reaper
        .spawn()
        .context("could not start flock (Debian: util-linux)")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_up_sh_notes_is_read_and_ordered() {
        assert_eq!(Tier::parse("api 0\n"), Some(Tier::Api));
        assert_eq!(Tier::parse("node 2\n"), Some(Tier::Nodes(2)));
        assert_eq!(Tier::parse("down\n"), None);
        assert!(Tier::Nodes(1) > Tier::Controllers && Tier::Nodes(2) > Tier::Nodes(1));
    }
}
