//! Volumes for claims: folders on a node's disk, which can be filled.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::case::Case;
use crate::nodes::NodeAccess;

/// The folder of a node that is a pod's volume.
#[derive(Debug, Clone)]
pub struct NodeDisk {
    nodes: NodeAccess,
    node: String,
    path: String,
}

impl NodeDisk {
    /// The node that it is on.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Puts a file system of so many MiB in its place, in memory: it is gone when the node loses its power.
    pub(crate) fn make_small(&self, mebibytes: u32) -> anyhow::Result<()> {
        let options = format!("size={mebibytes}m,uid=65532,gid=65532,mode=0700");
        let mount = ["mount", "-t", "tmpfs", "-o", &options, "ja4-e2e", &self.path];
        self.nodes.run(&self.node, &mount).map(drop)
    }

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

pub(crate) fn name(case: &Case, whose: &str) -> String {
    format!("{}-{whose}", case.namespace)
}

/// A volume on a node's disk, and a class of its own for the claim that is to get it.
pub(crate) async fn make(case: &Case, whose: &str, node: &str, size: &str) -> anyhow::Result<NodeDisk> {
    let name = name(case, whose);
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
