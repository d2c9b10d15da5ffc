//! The nodes of our own cluster from inside: commands, processes of containers as the kernel sees them, power.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::cluster;

/// What can be done to nodes with `ctl.sh`.
#[derive(Debug, Clone)]
pub struct NodeAccess {
    state: PathBuf,
}

impl NodeAccess {
    pub(crate) fn new(state: PathBuf) -> Self {
        Self { state }
    }

    /// Folder of the cluster's keys, data and logs.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Runs `ctl.sh` and returns what it printed.
    ///
    /// # Errors
    /// When it ends with another status than 0, with what it printed.
    pub fn ctl(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(cluster::scripts().join("ctl.sh"))
            .args(args)
            .env("E2E_STATE", &self.state)
            .output()
            .context("could not start e2e/cluster/ctl.sh")?;
        printed(&format!("ctl.sh {}", args.join(" ")), &output)
    }

    /// Runs a command inside a node: in its pid, mount, network and uts namespaces.
    ///
    /// # Errors
    /// As [`Self::ctl`].
    pub fn run(&self, node: &str, command: &[&str]) -> anyhow::Result<String> {
        let index = index(node)?;
        self.ctl(&[&["in-node", index, "--"], command].concat())
    }

    /// The first process of a node, as this machine numbers it: the node's files are below its `/proc/N/root`.
    ///
    /// # Errors
    /// As [`Self::ctl`].
    pub fn first_process(&self, node: &str) -> anyhow::Result<u32> {
        let pid = self.ctl(&["first-process", index(node)?])?;
        pid.trim()
            .parse()
            .with_context(|| format!("{pid:?} is no process"))
    }

    /// A program that came with the kit, such as `haproxy`.
    ///
    /// # Errors
    /// When the running cluster's kit has none of that name.
    pub fn program(&self, name: &str) -> anyhow::Result<String> {
        let kit =
            std::fs::read_to_string(self.state.join("kit")).context("could not read which kit is in use")?;
        let path = Path::new(kit.trim()).join("root/usr/sbin").join(name);
        if !path.is_file() {
            bail!(
                "{} is not there; e2e/cluster/versions.env names the packages of the kit",
                path.display()
            );
        }
        Ok(path.display().to_string())
    }

    /// Takes a node's power away: every process of it is gone at once.
    ///
    /// # Errors
    /// As [`Self::ctl`].
    pub fn power_off(&self, node: &str) -> anyhow::Result<()> {
        self.ctl(&["stop", node]).map(drop)
    }

    /// Gives it back.
    ///
    /// # Errors
    /// As [`Self::ctl`].
    pub fn power_on(&self, node: &str) -> anyhow::Result<()> {
        self.ctl(&["start", node]).map(drop)
    }

    /// The first process of a running container.
    ///
    /// # Errors
    /// When the pod does not run or its node does not know the container.
    pub fn process(&self, pod: &Pod, container: &str) -> anyhow::Result<ContainerProcess> {
        let name = pod.name_any();
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .with_context(|| format!("pod {name} is on no node"))?;
        let id = pod
            .status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten())
            .find(|status| status.name == container)
            .and_then(|status| status.container_id.as_deref()?.strip_prefix("containerd://"))
            .with_context(|| format!("container {name}/{container} does not run"))?;
        let tasks = self.run(&node, &["ctr", "-n", "k8s.io", "tasks", "ls"])?;
        let pid =
            task_pid(&tasks, id).with_context(|| format!("{node} has no process for {name}/{container}"))?;
        Ok(ContainerProcess {
            nodes: self.clone(),
            node,
            pid,
        })
    }

    /// Logs of the control plane and of each node's parts, by a name of their own.
    pub(crate) fn component_logs(&self) -> Vec<(String, PathBuf)> {
        let mut found = Vec::new();
        let folders = std::fs::read_dir(&self.state).into_iter().flatten().flatten();
        for folder in folders {
            let of = folder.file_name().to_string_lossy().into_owned();
            if of != "logs" && !of.starts_with("node") {
                continue;
            }
            for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let path = file.path();
                if path.extension().is_some_and(|extension| extension == "log") {
                    found.push((format!("{of}.{}", file.file_name().to_string_lossy()), path));
                }
            }
        }
        found
    }
}

/// The first process of a container, seen from its node.
#[derive(Debug, Clone)]
pub struct ContainerProcess {
    nodes: NodeAccess,
    /// Where it runs.
    pub node: String,
    /// Its number in the node's own pid namespace.
    pub pid: u32,
}

impl ContainerProcess {
    /// A file of its folder in `/proc`.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn proc_file(&self, name: &str) -> anyhow::Result<String> {
        self.nodes
            .run(&self.node, &["cat", &format!("/proc/{}/{name}", self.pid)])
    }

    /// What the kernel says of its rights.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn status(&self) -> anyhow::Result<ProcStatus> {
        ProcStatus::parse(&self.proc_file("status")?)
    }

    /// Runs a command of the node in the container's network.
    ///
    /// # Errors
    /// When the process is gone or the command ends with another status than 0, with what it printed.
    pub fn run_in_network(&self, command: &[&str]) -> anyhow::Result<String> {
        let pid = self.pid.to_string();
        let enter: &[&str] = &["nsenter", "-t", &pid, "--net", "--"];
        self.nodes.run(&self.node, &[enter, command].concat())
    }

    /// Kills it with SIGKILL, as the kernel does when memory is short.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.nodes
            .run(&self.node, &["sh", "-c", &format!("kill -KILL {}", self.pid)])
            .map(drop)
    }
}

/// The fields of `/proc/<pid>/status` that say what a process may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcStatus {
    /// Real, effective, saved and file system user.
    pub uid: Vec<u32>,
    /// Capabilities that it has now.
    pub cap_eff: u64,
    /// Capabilities that it may ever have.
    pub cap_bnd: u64,
    /// Whether `execve` can no longer raise its rights.
    pub no_new_privs: bool,
    /// 0 no filter, 1 strict, 2 a filter.
    pub seccomp: u32,
}

impl ProcStatus {
    /// Reads the text of `/proc/<pid>/status`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let fields: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let field = |name: &str| {
            fields
                .get(name)
                .copied()
                .with_context(|| format!("/proc/<pid>/status has no {name}"))
        };
        let bits = |name: &str| -> anyhow::Result<u64> { Ok(u64::from_str_radix(field(name)?, 16)?) };
        let uid = field("Uid")?.split_whitespace().map(str::parse);
        Ok(Self {
            uid: uid.collect::<Result<_, _>>()?,
            cap_eff: bits("CapEff")?,
            cap_bnd: bits("CapBnd")?,
            no_new_privs: field("NoNewPrivs")? == "1",
            seccomp: field("Seccomp")?.parse()?,
        })
    }
}

/// `node2` is number 2 to the scripts.
fn index(node: &str) -> anyhow::Result<&str> {
    node.strip_prefix("node")
        .with_context(|| format!("{node} is no node of our own cluster"))
}

/// Reads the number of a container's process from `ctr tasks ls`.
fn task_pid(tasks: &str, id: &str) -> Option<u32> {
    tasks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == id).then(|| words.next()?.parse().ok())?
    })
}

fn printed(what: &str, output: &Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!(
            "{what} ended with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_from_the_kernels_text() {
        let text = "Name:\tx\nUid:\t65532\t65532\t65532\t65532\nCapInh:\t0000000000000000\nCapEff:\t0000000000002000\n\
                    CapBnd:\t0000000000002000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let status = ProcStatus::parse(text).unwrap();
        assert_eq!(status.uid, [65532; 4]);
        assert_eq!((status.cap_eff, status.cap_bnd), (1 << 13, 1 << 13));
        assert!(status.no_new_privs);
        assert_eq!(status.seccomp, 2);
        assert!(ProcStatus::parse("Name:\tx\n").is_err());
    }

    #[test]
    fn a_containers_process_is_found_by_its_id() {
        let tasks = "TASK    PID     STATUS\nabc    12    RUNNING\nabcd    34    RUNNING\n";
        assert_eq!(task_pid(tasks, "abcd"), Some(34));
        assert_eq!(task_pid(tasks, "ab"), None);
    }
}
