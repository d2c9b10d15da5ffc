//! What only happens on real nodes: a killed container starts again, a node loses its power and comes back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ja4_e2e::{Need, wait};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use serde_json::json;

#[test]
fn a_killed_container_starts_again_as_another_process() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test(
        "a_killed_container_starts_again_as_another_process",
        need,
        async |case| {
            let labels = json!({"app": "killed"});
            let manifest = json!({
                "metadata": {"name": "killed"},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {
                            // The other test takes the second node's power.
                            "nodeName": "node1",
                            "terminationGracePeriodSeconds": 1,
                            "containers": [{
                                "name": "c", "image": "localhost/e2e-tool:1", "imagePullPolicy": "Never", "args": ["pause"],
                            }],
                        },
                    },
                },
            });
            case.apply::<Deployment>(manifest).await?;
            case.deployment_available("killed").await?;
            let pods = case.pods("app=killed").await?;
            let pod = pods.first().context("an available deployment has a pod")?;
            let name = pod.metadata.name.clone().context("a pod has a name")?;
            let first = case.nodes().process(pod, "c")?;
            first.kill()?;
            let again = wait::object(
                &case,
                case.api(),
                &name,
                Duration::from_mins(1),
                |pod: Option<&Pod>| {
                    let Some(pod) = pod else {
                        return wait::State::Never("the pod is gone".to_owned());
                    };
                    let mut statuses = pod
                        .status
                        .iter()
                        .flat_map(|status| status.container_statuses.iter().flatten());
                    if statuses.any(|status| status.restart_count == 1 && status.ready) {
                        wait::State::Reached(pod.clone())
                    } else {
                        wait::State::Waiting("not started again".to_owned())
                    }
                },
            )
            .await?;
            let second = case.nodes().process(&again, "c")?;
            ensure!(second.pid != first.pid, "{first:?} was killed and runs");
            Ok(())
        },
    );
}

#[test]
fn a_node_without_power_is_noticed_and_comes_back() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test(
        "a_node_without_power_is_noticed_and_comes_back",
        need,
        async |case| {
            case.nodes().power_off("node2")?;
            let lost = readiness(&case, |status| status != "True").await;
            // In any case: other tests want the node.
            case.nodes().power_on("node2")?;
            lost?;
            readiness(&case, |status| status == "True").await
        },
    );
}

/// Waits until node2's condition Ready is as wanted.
async fn readiness(case: &ja4_e2e::Case, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(case.client.clone());
    wait::object(
        case,
        nodes,
        "node2",
        Duration::from_mins(2),
        |node: Option<&Node>| {
            let conditions = node
                .iter()
                .filter_map(|node| node.status.as_ref()?.conditions.as_ref())
                .flatten();
            let mut ready = conditions
                .filter(|condition| condition.type_ == "Ready")
                .map(|condition| condition.status.clone());
            match ready.next_back() {
                Some(status) if is_wanted(&status) => wait::State::Reached(()),
                status => wait::State::Waiting(format!("Ready is {status:?}")),
            }
        },
    )
    .await
}
