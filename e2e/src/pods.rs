//! Pods through the API: logs, commands in them, how often they were started again; the address in front of them.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{AttachParams, LogParams};
use tokio::io::AsyncReadExt as _;

use crate::case::Case;

/// How often the containers of a pod were started again, in all.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter();
    statuses
        .flat_map(|status| status.container_statuses.iter().flatten())
        .map(|status| status.restart_count)
        .sum()
}

impl Case {
    /// The address of a Service inside the cluster. Nodes do not know the cluster's names.
    ///
    /// # Errors
    /// When there is no such Service or it has none.
    pub async fn service_address(&self, name: &str) -> anyhow::Result<String> {
        let service = self.api::<Service>().get(name).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip);
        address.with_context(|| format!("Service {name} has no address"))
    }

    /// All that a pod's container has printed.
    ///
    /// # Errors
    /// When there is no such container or its node does not answer.
    pub async fn log(&self, pod: &str, container: &str) -> anyhow::Result<String> {
        let params = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        let log = self.api::<Pod>().logs(pod, &params).await;
        log.with_context(|| format!("could not read the log of {pod}/{container}"))
    }

    /// Runs a command in a pod and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be started or ends with another status than 0, with what it printed.
    pub async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> anyhow::Result<String> {
        let params = AttachParams::default().container(container).stderr(true);
        let mut process = self
            .api::<Pod>()
            .exec(pod, command.iter().copied(), &params)
            .await
            .with_context(|| format!("could not run {command:?} in {pod}/{container}"))?;
        let status = process.take_status().context("the status was not taken before")?;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut out = process.stdout().context("standard output was asked for")?;
        let mut err = process.stderr().context("standard error was asked for")?;
        let (read_out, read_err) =
            tokio::join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr));
        read_out.context("could not read standard output")?;
        read_err.context("could not read standard error")?;
        let status = status.await.context("the command's status did not arrive")?;
        if status.status.as_deref() != Some("Success") {
            let message = status.message.unwrap_or_default();
            bail!("{command:?} in {pod}/{container}: {message}: {stdout}{stderr}");
        }
        Ok(stdout)
    }
}
