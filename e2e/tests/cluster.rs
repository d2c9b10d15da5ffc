//! The cluster itself: nodes are ready, names are found, pods of our own images run.

use anyhow::{Context as _, ensure};
use ja4_e2e::{Case, JobEnd, Need, wait};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn two_nodes_are_ready() {
    ja4_e2e::test("two_nodes_are_ready", Need::nodes(2), async |case| {
        let nodes: Api<Node> = Api::all(case.client.clone());
        wait::until("two nodes are ready", Duration::from_mins(1), async || {
            let found = nodes.list(&ListParams::default()).await?;
            let n_ready = found.items.iter().filter(|node| is_ready(node)).count();
            Ok((n_ready >= 2).then_some(()))
        })
        .await
    });
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| condition.type_ == "Ready")
        .any(|condition| condition.status == "True")
}

#[test]
fn names_of_services_are_found_and_others_are_not() {
    // The cluster's own tool image is there only where our scripts made the cluster.
    let need = Need::nodes(1).with_node_access();
    ja4_e2e::test(
        "names_of_services_are_found_and_others_are_not",
        need,
        async |case| {
            let manifest = json!({
                "metadata": {"name": "named"},
                "spec": {"clusterIP": "None", "selector": {"app": "named"}, "ports": [{"port": 8080}]},
            });
            case.apply::<Service>(manifest).await?;
            let mut pod = tool_pod("named", &["httpd", ":8080"]);
            pod["metadata"]["labels"] = json!({"app": "named"});
            case.apply::<Pod>(pod).await?;
            let ready = case.pod_ready("named").await?;
            let address = ready
                .status
                .and_then(|status| status.pod_ip)
                .context("a ready pod has an address")?;
            let name = format!("named.{}.svc.cluster.local", case.namespace);
            // The name server hears of the pod a moment after us.
            wait::until(
                "the name has the pod's address",
                Duration::from_secs(30),
                async || {
                    let answer = case.exec("named", "c", &["/tool", "lookup", &name]).await?;
                    Ok(answer.contains(&address).then_some(()))
                },
            )
            .await?;
            let refused = case
                .exec("named", "c", &["/tool", "lookup", "nowhere.example.com"])
                .await;
            let error = format!(
                "{:#}",
                refused.expect_err("nothing outside the cluster has a name")
            );
            ensure!(error.contains("no such host"), "{error}");
            Ok(())
        },
    );
}

/// A pod of the cluster's own helpers.
fn tool_pod(name: &str, args: &[&str]) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "c",
                "image": "localhost/e2e-tool:1",
                "imagePullPolicy": "Never",
                "args": args,
            }],
        },
    })
}

#[test]
fn a_pod_of_every_image_says_its_version() {
    ja4_e2e::test(
        "a_pod_of_every_image_says_its_version",
        Need::nodes(1),
        async |case| {
            let images = [
                "ja4-sensor",
                "ja4-sensor-filecap",
                "ja4-correlator",
                "ja4-detector",
                "ja4-dashboard",
                "ja4-clickhouse",
                "ja4-demo",
                "ja4-cli",
            ];
            for image in images {
                case.apply::<Job>(version_job(&case, image)?).await?;
            }
            for image in images {
                ensure!(
                    case.job_ended(image).await? == JobEnd::Complete,
                    "{image} --version failed"
                );
                let pods = case.pods(&format!("job-name={image}")).await?;
                let pod = pods
                    .first()
                    .and_then(|pod| pod.metadata.name.clone())
                    .context("a job has a pod")?;
                let log = case.log(&pod, "c").await?;
                ensure!(log.contains(env!("CARGO_PKG_VERSION")), "{image} says {log:?}");
            }
            Ok(())
        },
    );
}

/// Runs `--version` under what the restricted profile of pod security asks, but for the two ways of the sensor.
fn version_job(case: &Case, image: &str) -> anyhow::Result<Value> {
    let mut capabilities = json!({"drop": ["ALL"]});
    if image == "ja4-sensor-filecap" {
        // The kernel refuses to start a program that can never have its file capability.
        capabilities["add"] = json!(["NET_RAW"]);
    }
    Ok(json!({
        "metadata": {"name": image},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "c",
                    "image": case.image(image)?,
                    "imagePullPolicy": "Never",
                    "args": ["--version"],
                    "securityContext": {
                        "runAsNonRoot": image != "ja4-sensor",
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": capabilities,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }],
            }},
        },
    }))
}
