//! The operator is killed: by its leader's death, and again and again while it makes a pipeline. What comes of it is what would have
//! come without.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ja4_e2e::{Case, Need, resource, wait};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use operator_api::Ja4Pipeline;
use serde_json::json;

/// Kills while a pipeline is made, and the pause between two.
const KILLS: (usize, Duration) = (6, Duration::from_millis(2500));
/// The lease holds 15 s; then a follower takes it within two.
const TAKEN_WITHIN: Duration = Duration::from_secs(25);
const READY_WITHIN: Duration = Duration::from_mins(4);

#[test]
fn killed_again_and_again_it_ends_the_same() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test("killed_again_and_again_it_ends_the_same", need, async |case| {
        case.let_sensors_in().await?;
        for image in resource::IMAGES {
            case.image(image)?;
        }
        resource::volumes(&case, "node1").await?;
        case.install_operator(&[]).await?;
        let mut spec = resource::small(&case);
        // The volumes are one each: the second pipeline takes up what the first one kept.
        spec["store"]["embedded"]["deletionPolicy"] = json!("Retain");

        case.pipeline("shop", spec.clone()).await?;
        case.pipeline_ready("shop", READY_WITHIN).await?;
        let undisturbed = children(&case).await?;
        a_killed_leader_is_followed(&case).await?;

        case.api::<Ja4Pipeline>()
            .delete("shop", &DeleteParams::default())
            .await?;
        wait::until("the first pipeline is gone", Duration::from_mins(1), async || {
            Ok(case
                .pods("ja4platform.io/pipeline=shop")
                .await?
                .is_empty()
                .then_some(()))
        })
        .await?;
        release_volume(&case, "correlator").await?;

        case.pipeline("shop", spec).await?;
        for _ in 0..KILLS.0 {
            // Not a wait for something: the kills are to fall anywhere.
            tokio::time::sleep(KILLS.1).await;
            kill_all(&case).await?;
        }
        case.pipeline_ready("shop", READY_WITHIN).await?;
        let disturbed = children(&case).await?;
        ensure!(
            undisturbed == disturbed,
            "undisturbed {undisturbed:#?}\ndisturbed {disturbed:#?}"
        );
        let records =
            ListParams::default().labels("ja4platform.io/pipeline=shop,app.kubernetes.io/component=revision");
        let n = case.api::<ControllerRevision>().list(&records).await?.items.len();
        ensure!(n == 1, "{n} sets are recorded of one spec");
        Ok(())
    });
}

/// Kind and name of each child that the operator makes.
async fn children(case: &Case) -> anyhow::Result<BTreeSet<(String, String)>> {
    let selector = ListParams::default()
        .labels("ja4platform.io/pipeline=shop,app.kubernetes.io/managed-by=ja4-operator");
    let mut found = BTreeSet::new();
    for (group, kind) in [
        ("", "ConfigMap"),
        ("", "Secret"),
        ("", "Service"),
        ("", "PersistentVolumeClaim"),
        ("apps", "StatefulSet"),
        ("apps", "Deployment"),
        ("apps", "DaemonSet"),
        ("batch", "CronJob"),
        ("networking.k8s.io", "NetworkPolicy"),
    ] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(case.client.clone(), &case.namespace, &resource);
        for object in api.list(&selector).await?.items {
            found.insert((kind.to_owned(), object.name_any()));
        }
    }
    ensure!(found.len() > 20, "{} children", found.len());
    Ok(found)
}

async fn leader(case: &Case) -> anyhow::Result<Option<String>> {
    let lease = case.api::<Lease>().get("ja4-operator").await?;
    Ok(lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .filter(|holder| !holder.is_empty()))
}

async fn operators(case: &Case) -> anyhow::Result<Vec<Pod>> {
    case.pods("app.kubernetes.io/name=ja4-platform").await
}

/// How long nobody leads is printed.
#[expect(clippy::print_stdout, reason = "a figure that belongs in the log of a run")]
async fn a_killed_leader_is_followed(case: &Case) -> anyhow::Result<()> {
    let before = leader(case).await?.context("somebody leads")?;
    let pod = case.api::<Pod>().get(&before).await?;
    case.nodes().process(&pod, "operator")?.kill()?;
    let began = Instant::now();
    // A child that is wrong is put right by whoever leads next.
    let change = json!({"spec": {"replicas": 3}});
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = case.api();
    deployments
        .patch("shop-dashboard", &PatchParams::default(), &Patch::Merge(&change))
        .await?;
    wait::until("somebody repairs", TAKEN_WITHIN, async || {
        let found = deployments.get("shop-dashboard").await?;
        Ok((found.spec.and_then(|spec| spec.replicas) == Some(1)).then_some(()))
    })
    .await?;
    println!(
        "after the leader's death a child was repaired within {:.1} s",
        began.elapsed().as_secs_f64()
    );
    case.pipeline_ready("shop", READY_WITHIN).await
}

/// Kills every operator that runs; one that is starting again is left for the next time.
async fn kill_all(case: &Case) -> anyhow::Result<()> {
    for pod in operators(case).await? {
        if let Ok(process) = case.nodes().process(&pod, "operator") {
            process.kill()?;
        }
    }
    Ok(())
}

/// A volume that was used belongs to its claim for ever; here the next claim of the same name gets it.
async fn release_volume(case: &Case, whose: &str) -> anyhow::Result<()> {
    let volumes: Api<k8s_openapi::api::core::v1::PersistentVolume> = Api::all(case.client.clone());
    let name = format!("{}-{whose}", case.namespace);
    wait::until("the volume is released", Duration::from_secs(30), async || {
        let found = volumes.get(&name).await?;
        Ok((found.status.and_then(|status| status.phase).as_deref() == Some("Released")).then_some(()))
    })
    .await?;
    let patch = json!({"spec": {"claimRef": null}});
    volumes
        .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}
