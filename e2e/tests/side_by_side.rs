//! Clusters come and go: a second one beside the first, and nothing of it left when it is down.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ja4_e2e::{Need, wait};

#[test]
fn a_second_cluster_runs_beside_the_first_and_leaves_nothing() {
    let name = "a_second_cluster_runs_beside_the_first_and_leaves_nothing";
    ja4_e2e::test(name, Need::nodes(1).with_node_access(), async |case| {
        let state = case.nodes().state().with_extension("second");
        let second = Second(state.clone());
        let _down = Down(&second);
        second.script("up.sh", &["node"])?;
        let up = second.script("ctl.sh", &["traces"])?;
        for kind in ["process", "netns", "cgroup"] {
            ensure!(
                up.lines().any(|line| line.starts_with(kind)),
                "up, but no {kind} is seen:\n{up}"
            );
        }
        // Neither is in the other's way: both answer, and they are two.
        let kubeconfig = state.join("pki/admin.kubeconfig");
        let nodes = second.kubectl(&kubeconfig, &["get", "nodes", "-o", "name"])?;
        ensure!(nodes.trim() == "node/node1", "{nodes}");
        let namespaces = second.kubectl(&kubeconfig, &["get", "namespaces", "-o", "name"])?;
        ensure!(!namespaces.contains(&case.namespace), "{namespaces}");
        case.client
            .apiserver_version()
            .await
            .context("the first cluster does not answer")?;

        second.script("down.sh", &["--wipe"])?;
        let held: Vec<&str> = up
            .lines()
            .filter_map(|line| line.strip_prefix("netns ")?.split(' ').next())
            .collect();
        wait::until(
            "nothing of the second cluster is left",
            Duration::from_secs(20),
            async || {
                let left = second.script("ctl.sh", &[&["traces"], &held[..]].concat())?;
                ensure!(left.is_empty() && !state.exists(), "left:\n{left}");
                Ok(Some(()))
            },
        )
        .await?;
        case.client
            .apiserver_version()
            .await
            .context("the first cluster went with the second")?;
        Ok(())
    });
}

/// A cluster with a state folder of its own.
struct Second(PathBuf);

impl Second {
    fn script(&self, name: &str, args: &[&str]) -> anyhow::Result<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(name);
        let mut command = Command::new(script);
        command.args(args).env("E2E_STATE", &self.0).env("E2E_NODES", "1");
        Self::printed(&mut command)
    }

    fn kubectl(&self, kubeconfig: &Path, args: &[&str]) -> anyhow::Result<String> {
        let kit = std::fs::read_to_string(self.0.join("kit")).context("the state names no kit")?;
        let mut command = Command::new(Path::new(kit.trim()).join("bin/kubectl"));
        command
            .args(args)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env("KUBECACHEDIR", self.0.join("kubecache"));
        Self::printed(&mut command)
    }

    fn printed(command: &mut Command) -> anyhow::Result<String> {
        let output = command
            .output()
            .with_context(|| format!("could not start {command:?}"))?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{command:?} ended with {}: {words}",
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Also when the test fails half way.
struct Down<'a>(&'a Second);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        if self.0.0.exists() {
            // The failure that brought us here is the one to report.
            let _ended = self.0.script("down.sh", &["--wipe"]);
        }
    }
}
