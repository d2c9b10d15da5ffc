//! The charts of this checkout, installed as a person would: with the `helm` of the cluster's kit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::case::Case;
use crate::wait;

/// The definition of the custom resource, as it is installed.
const CRD: &str = include_str!("../../crds/ja4pipelines.yaml");

/// How a command of helm ended.
#[derive(Debug)]
pub struct HelmRun {
    /// It said that all is well.
    pub is_success: bool,
    /// What it printed.
    pub printed: String,
    /// How long it took.
    pub took: Duration,
}

/// Folder of the charts.
pub fn charts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts")
}

impl Case {
    /// Runs helm on this test's namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn helm(&self, arguments: &[&str]) -> anyhow::Result<HelmRun> {
        let nodes = self.nodes().clone();
        let namespace = self.namespace.clone();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        // It may wait for minutes: not on the thread of the test's own waits.
        tokio::task::spawn_blocking(move || {
            let environment = nodes.ctl(&["env"])?;
            let script = format!("{environment}\nexec helm --namespace {namespace} \"$@\"");
            let began = std::time::Instant::now();
            let output = Command::new("bash")
                .args(["-c", &script, "helm"])
                .args(&arguments)
                .stdin(Stdio::null())
                .output()
                .context("could not start helm")?;
            let printed = [output.stdout, output.stderr].concat();
            Ok(HelmRun {
                is_success: output.status.success(),
                printed: String::from_utf8_lossy(&printed).into_owned(),
                took: began.elapsed(),
            })
        })
        .await?
    }

    /// The same, when it must succeed.
    ///
    /// # Errors
    /// When it does not, with what it printed.
    pub async fn helm_ok(&self, arguments: &[&str]) -> anyhow::Result<HelmRun> {
        let run = self.helm(arguments).await?;
        if !run.is_success {
            bail!("helm {}: {}", arguments.join(" "), run.printed);
        }
        Ok(run)
    }

    /// Installs the definition of the custom resource, which all tests of a cluster share.
    ///
    /// # Errors
    /// When the API server refuses it, or does not serve it in time.
    pub async fn install_crd(&self) -> anyhow::Result<()> {
        let definition: Value = serde_saphyr::from_str(CRD).context("the definition is not YAML")?;
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = "ja4pipelines.ja4platform.io";
        let params = PatchParams::apply("ja4-e2e").force();
        api.patch(name, &params, &Patch::Apply(&definition))
            .await
            .context("could not apply the definition")?;
        wait::until("the definition is served", Duration::from_secs(30), async || {
            let found = api.get(name).await?;
            let conditions = found
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            let is_served = conditions
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True");
            Ok(is_served.then_some(()))
        })
        .await
    }

    /// Installs the operator in this test's namespace, for this namespace alone.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn install_operator(&self, more: &[&str]) -> anyhow::Result<HelmRun> {
        self.install_crd().await?;
        self.image("ja4-operator")?;
        let chart = charts().join("ja4-platform");
        let namespaces = format!("namespaces={{{}}}", self.namespace);
        let mut arguments = vec![
            "upgrade",
            "--install",
            "platform",
            chart.to_str().context("the path is UTF-8")?,
            "--set",
            &namespaces,
            "--set",
            "crds.enabled=false,rbac.userRoles=false,logFormat=human,logLevel=debug",
            "--wait",
            "--timeout",
            "2m",
        ];
        arguments.extend(more);
        self.helm_ok(&arguments).await
    }

    /// Labels this test's namespace so that sensors may run in it.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn let_sensors_in(&self) -> anyhow::Result<()> {
        let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let labels = json!({"metadata": {"labels": {
            "pod-security.kubernetes.io/enforce": "privileged",
            "pod-security.kubernetes.io/warn": "restricted",
        }}});
        api.patch(&self.namespace, &PatchParams::default(), &Patch::Merge(&labels))
            .await?;
        Ok(())
    }
}
