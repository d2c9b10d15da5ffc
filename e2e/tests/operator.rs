//! The operator as a person meets it: both charts by helm, a pipeline that becomes ready and says so, real traffic through an
//! ingress, and the pipeline's life: repaired, changed, suspended, deleted.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ja4_e2e::{Case, HelmRun, Need, charts, resource, wait};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use operator_api::Ja4Pipeline;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// From `kubectl apply` to Ready: pods of five images start one after another on a machine with two cores.
const READY_WITHIN: Duration = Duration::from_mins(3);
/// What the contract allows for a condition to appear.
const SAID_WITHIN: Duration = Duration::from_secs(30);
/// What it allows for images and volumes.
const SAID_LATE: Duration = Duration::from_mins(1);
/// What it allows for the repair of a child.
const REPAIRED_WITHIN: Duration = Duration::from_secs(10);
const INGRESS_PORT: u16 = 28543;
const NODE1: &str = "10.77.0.11";
#[test]
fn helm_installs_a_pipeline_that_becomes_ready_and_joins() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test(
        "helm_installs_a_pipeline_that_becomes_ready_and_joins",
        need,
        async |case| {
            prepare(&case).await?;
            case.install_operator(&[]).await?;
            let values = json!({"name": "shop", "spec": resource::small(&case), "rbac": {"create": false}});
            let run = install_pipeline(&case, "pipeline", &values).await?;
            ensure!(run.is_success, "{}", run.printed);
            note(&format!(
                "helm --wait returned after {:.0} s",
                run.took.as_secs_f64()
            ));
            // What helm waited for is what kubectl waits for.
            case.pipeline_ready("shop", Duration::from_secs(1)).await?;

            origin(&case, "shop").await?;
            visit(&case, 300)?;
            let joined = joined(&case).await?;
            note(&format!("{joined} requests are joined"));
            a_detector_says_what_it_found(&case).await?;
            the_dashboard_shows_a_flagged_client(&case).await?;
            metrics_answer(&case).await?;
            at_rest_nothing_is_written(&case).await?;
            children_are_repaired(&case).await?;
            suspended_and_resumed(&case).await?;
            deleted_nothing_is_left(&case).await
        },
    );
}

#[test]
fn what_is_wrong_is_said_with_its_remedy() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test("what_is_wrong_is_said_with_its_remedy", need, async |case| {
        prepare(&case).await?;
        case.install_operator(&[]).await?;
        // Another port than that of the other test's pipeline, which may be on the same nodes.
        let small = || {
            let mut spec = resource::small(&case);
            spec["sensor"] = json!({"metricsPort": 9112});
            spec
        };
        case.apply::<Secret>(json!({"metadata": {"name": "users"}, "stringData": {"password": "wrong"}}))
            .await?;
        let user = |name: &str| json!({"user": name, "password": {"name": "users", "key": "password"}});
        let nobody = json!({"external": {
            "url": "http://127.0.0.1:1",
            "users": {"writer": user("writer"), "detector": user("detector"), "dashboard": user("dashboard"), "migrator": user("migrator")},
        }});

        // An image that cannot be pulled.
        let mut spec = small();
        spec["store"] = nobody.clone();
        spec["images"]["registry"] = json!("registry.invalid/nowhere");
        case.pipeline("image", spec).await?;
        let message = case
            .condition("image", "Stalled", "True", "ImagePullFailed", SAID_LATE)
            .await?;
        ensure!(message.contains("spec.images"), "{message}");
        remove(&case, "image").await?;

        // A volume that nothing binds.
        let mut spec = small();
        spec["store"]["embedded"]["volume"]["storageClassName"] = json!("nobody-makes-these");
        case.pipeline("volume", spec).await?;
        let message = case
            .condition("volume", "Stalled", "True", "VolumeUnbound", SAID_LATE)
            .await?;
        ensure!(message.contains("storageClassName"), "{message}");
        remove(&case, "volume").await?;

        // A schedule that never comes: helm does not wait for it to pass.
        let mut spec = small();
        spec["detectors"][0]["schedule"] = json!("0 0 31 2 *");
        let values = json!({"name": "never", "spec": spec, "rbac": {"create": false}});
        let run = install_pipeline(&case, "never", &values).await?;
        ensure!(!run.is_success, "helm says that all is well: {}", run.printed);
        let took = run.took.as_secs_f64();
        ensure!(
            run.took < SAID_LATE,
            "helm took {took:.0} s to see that it is stalled"
        );
        note(&format!("helm --wait failed after {took:.0} s"));
        let message = case
            .condition("never", "SpecValid", "False", "InvalidSchedule", SAID_WITHIN)
            .await?;
        ensure!(message.contains("never comes"), "{message}");
        remove(&case, "never").await?;

        // A store that is not there.
        let mut spec = small();
        spec["store"] = nobody;
        case.pipeline("away", spec).await?;
        let message = case
            .condition("away", "StoreReachable", "False", "Unreachable", SAID_LATE)
            .await?;
        ensure!(message.contains("spec.store.external.url"), "{message}");
        remove(&case, "away").await?;

        // Two pipelines that want one port of the nodes: the younger one is told.
        resource::volumes(&case, "node1").await?;
        case.pipeline("first", small()).await?;
        case.condition("first", "SpecValid", "True", "", SAID_WITHIN)
            .await?;
        case.pipeline("second", small()).await?;
        let message = case
            .condition("second", "SpecValid", "False", "InvalidPort", SAID_WITHIN)
            .await?;
        ensure!(message.contains("take another"), "{message}");
        remove(&case, "second").await?;

        // No node has the label.
        case.pipeline_ready("first", READY_WITHIN).await?;
        let mut spec = small();
        spec["sensor"]["placing"] = json!({"nodeSelector": {"nobody": "has-this"}});
        case.pipeline("first", spec).await?;
        let message = case
            .condition("first", "SensorsCovered", "False", "NoNodeMatches", SAID_WITHIN)
            .await?;
        ensure!(message.contains("nodeSelector"), "{message}");
        no_restarts(&case, "app.kubernetes.io/name=ja4-platform").await
    });
}

async fn prepare(case: &Case) -> anyhow::Result<()> {
    case.let_sensors_in().await?;
    for image in resource::IMAGES.into_iter().chain(["ja4-demo"]) {
        case.image(image)?;
    }
    if case.name().starts_with("helm") {
        resource::volumes(case, "node1").await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "figures that belong in the log of a run")]
fn note(text: &str) {
    println!("{text}");
}

/// Installs the chart of a pipeline and waits as helm does.
async fn install_pipeline(case: &Case, release: &str, values: &Value) -> anyhow::Result<HelmRun> {
    let name = format!("{}-{release}-values.yaml", case.namespace);
    let file = case.nodes().state().join(name);
    std::fs::write(&file, values.to_string())?;
    let chart = charts().join("ja4-pipeline");
    let chart = chart.to_str().context("the path is UTF-8")?;
    let file = file.to_str().context("the path is UTF-8")?;
    let wait = ["--wait", "--timeout", "5m"];
    let install = ["upgrade", "--install", release, chart, "--values", file];
    case.helm(&[&install[..], &wait[..]].concat()).await
}

async fn remove(case: &Case, pipeline: &str) -> anyhow::Result<()> {
    case.api::<Ja4Pipeline>()
        .delete(pipeline, &DeleteParams::default())
        .await?;
    gone(case, pipeline, Duration::from_mins(1)).await
}

/// Waits until no pod of a pipeline is left.
async fn gone(case: &Case, pipeline: &str, deadline: Duration) -> anyhow::Result<()> {
    let selector = format!("ja4platform.io/pipeline={pipeline}");
    wait::until(&format!("pods of {pipeline} are gone"), deadline, async || {
        Ok(case.pods(&selector).await?.is_empty().then_some(()))
    })
    .await
}

async fn no_restarts(case: &Case, selector: &str) -> anyhow::Result<()> {
    for pod in case.pods(selector).await? {
        ensure!(ja4_e2e::restarts(&pod) == 0, "{} was restarted", pod.name_any());
    }
    Ok(())
}

/// The demo's site behind an ingress on each node's own network, which passes TLS on.
async fn origin(case: &Case, pipeline: &str) -> anyhow::Result<()> {
    let config = json!({
        "listen": "0.0.0.0:8443", "source": "demo", "node": "node1",
        "socket": "/var/run/ja4/http.stream", "socket_kind": "stream",
    });
    let haproxy = case.nodes().program("haproxy")?;
    case.nodes().ctl(&["image", "localhost/haproxy:1", &haproxy])?;
    case.apply::<ConfigMap>(
        json!({"metadata": {"name": "origin"}, "data": {"demo.yaml": config.to_string()}}),
    )
    .await?;
    case.apply::<Service>(json!({"metadata": {"name": "origin"}, "spec": {
        "selector": {"app": "origin"}, "ports": [{"port": 443, "targetPort": 8443}],
    }}))
    .await?;
    case.apply::<Deployment>(json!({"metadata": {"name": "origin"}, "spec": {
        "selector": {"matchLabels": {"app": "origin"}},
        "template": {"metadata": {"labels": {"app": "origin"}}, "spec": {
            "nodeSelector": {"kubernetes.io/hostname": "node1"},
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532},
            "containers": [{
                "name": "site", "image": case.image("ja4-demo")?, "imagePullPolicy": "Never",
                "args": ["origin", "--config", "/etc/ja4/demo.yaml"],
                "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/ja4", "readOnly": true},
                    {"name": "sockets", "mountPath": "/var/run/ja4"},
                ],
            }],
            "volumes": [
                {"name": "config", "configMap": {"name": "origin"}},
                {"name": "sockets", "hostPath": {"path": format!("/var/run/ja4/{}/{pipeline}", case.namespace)}},
            ],
        }},
    }}))
    .await?;
    let address = case.service_address("origin").await?;
    let proxy = format!(
        "global\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\nlisten web\n  bind :{INGRESS_PORT}\n  server origin {address}:443\n"
    );
    case.apply::<ConfigMap>(json!({"metadata": {"name": "ingress"}, "data": {"haproxy.cfg": proxy}}))
        .await?;
    case.apply::<DaemonSet>(json!({"metadata": {"name": "ingress"}, "spec": {
        "selector": {"matchLabels": {"app": "ingress"}},
        "template": {"metadata": {"labels": {"app": "ingress"}}, "spec": {
            "hostNetwork": true, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "haproxy", "image": "localhost/haproxy:1", "imagePullPolicy": "Never",
                "args": ["-db", "-f", "/etc/haproxy/haproxy.cfg"],
                "readinessProbe": {"tcpSocket": {"host": "127.0.0.1", "port": INGRESS_PORT}, "periodSeconds": 1},
                "volumeMounts": [{"name": "config", "mountPath": "/etc/haproxy", "readOnly": true}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "ingress"}}],
        }},
    }}))
    .await?;
    case.deployment_available("origin").await?;
    case.daemon_set_ready("ingress").await.map(drop)
}

/// Connections from outside, by a client whose User-Agent says what its handshake does not.
fn visit(case: &Case, n: usize) -> anyhow::Result<()> {
    let mut config = String::new();
    for number in 0..n {
        let _written = write!(
            config,
            "url = \"https://shop.test:{INGRESS_PORT}/health?_cid={number}\"\nresolve = \"shop.test:{INGRESS_PORT}:{NODE1}\"\n\
             header = \"Connection: close\"\n\
             user-agent = \"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\"\n\
             output = \"/dev/null\"\nwrite-out = \"%{{http_code}}\\n\"\ninsecure\nhttp1.1\nsilent\nshow-error\nmax-time = 20\nnext\n"
        );
    }
    let file = case
        .nodes()
        .state()
        .join(format!("{}-visit.curl", case.namespace));
    std::fs::write(&file, config.trim_end_matches("next\n"))?;
    let file = file.to_str().context("the path is UTF-8")?;
    let answers = case.nodes().ctl(&["in-net", "--", "curl", "--config", file])?;
    let n_good = answers.lines().filter(|line| *line == "200").count();
    ensure!(n_good == n, "{n_good} of {n} answers are 200: {answers:.300}");
    Ok(())
}

/// Waits for joined rows and gives their number.
async fn joined(case: &Case) -> anyhow::Result<u64> {
    let token = case.api::<Secret>().get("shop-store-tokens").await?;
    let token = token
        .data
        .and_then(|data| data.get("dashboard").cloned())
        .context("the store has a token for the dashboard")?;
    let token = String::from_utf8(token.0)?;
    let address = case.service_address("shop-store").await?;
    let key = format!("X-ClickHouse-Key: {}", token.trim());
    let url = format!("https://{address}:8123/");
    wait::until("requests are joined", Duration::from_mins(1), async || {
        let sql = "SELECT count() FROM ja4_logs.http_logs WHERE match IN ('exact', 'asof')";
        let answer = case.nodes().run(
            "node2",
            &[
                "curl",
                "-sSk",
                "--fail-with-body",
                "--max-time",
                "10",
                "-H",
                &key,
                "--data-binary",
                sql,
                &url,
            ],
        )?;
        let n: u64 = answer.trim().parse()?;
        Ok((n >= 300).then_some(n))
    })
    .await
}

async fn a_detector_says_what_it_found(case: &Case) -> anyhow::Result<()> {
    wait::until(
        "a detector's result is in the status",
        Duration::from_mins(3),
        async || {
            let status = case
                .api::<Ja4Pipeline>()
                .get("shop")
                .await?
                .status
                .unwrap_or_default();
            let found = status
                .detectors
                .into_iter()
                .find(|detector| detector.clients.is_some_and(|n| n > 0));
            Ok(found.and_then(|detector| detector.state))
        },
    )
    .await
    .map(|state| note(&format!("the detector is {state}")))
}

async fn the_dashboard_shows_a_flagged_client(case: &Case) -> anyhow::Result<()> {
    let pods = case
        .pods("ja4platform.io/pipeline=shop,app.kubernetes.io/component=dashboard")
        .await?;
    let pod = pods.first().context("there is a dashboard")?;
    let link = case
        .exec(
            &pod.name_any(),
            "dashboard",
            &[
                "/usr/bin/ja4-dashboard",
                "login-link",
                "--config",
                "/etc/ja4/config/dashboard.yaml",
            ],
        )
        .await?;
    let token = link
        .trim()
        .rsplit(['#', '='])
        .next()
        .context("the link has a token")?
        .to_owned();
    let inside = case.nodes().process(pod, "dashboard")?;
    let base = "http://127.0.0.1:8000";
    let jar = case.nodes().state().join(format!("{}-cookies", case.namespace));
    let jar = jar.to_str().context("the path is UTF-8")?;
    let body = json!({"token": token}).to_string();
    let origin = format!("Origin: {base}");
    inside.run_in_network(&[
        "curl",
        "-sS",
        "--fail-with-body",
        "-c",
        jar,
        "-H",
        "Content-Type: application/json",
        "-H",
        &origin,
        "-d",
        &body,
        &format!("{base}/api/v1/auth/link"),
    ])?;
    wait::until(
        "the dashboard shows a flagged client",
        Duration::from_mins(3),
        async || {
            let answer = inside.run_in_network(&[
                "curl",
                "-sS",
                "--fail-with-body",
                "-b",
                jar,
                &format!("{base}/api/v1/clients?limit=100"),
            ])?;
            let page: Value = serde_json::from_str(&answer)?;
            let is_flagged = page.to_string().contains("\"verdict\":\"flagged\"")
                || page.to_string().contains("\"verdict\":\"alert\"");
            Ok(is_flagged.then_some(()))
        },
    )
    .await
}

async fn metrics_answer(case: &Case) -> anyhow::Result<()> {
    let mut n = 0;
    for pod in case.pods("app.kubernetes.io/part-of=ja4-platform").await? {
        let address = pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.clone())
            .unwrap_or_default();
        for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
            for port in container
                .ports
                .iter()
                .flatten()
                .filter(|port| port.name.as_deref() == Some("metrics"))
            {
                let url = format!("http://{address}:{}/metrics", port.container_port);
                let text = case
                    .nodes()
                    .run("node1", &["curl", "-sS", "--fail", "--max-time", "10", &url])?;
                ensure!(
                    text.lines()
                        .any(|line| !line.starts_with('#') && !line.is_empty()),
                    "{url} has no metrics"
                );
                n += 1;
            }
        }
    }
    // Store, correlator, dashboard, and a forwarder on each node.
    ensure!(n >= 5, "{n} metrics endpoints");
    Ok(())
}

/// A pipeline at rest costs the API server nothing: no object of it is written.
async fn at_rest_nothing_is_written(case: &Case) -> anyhow::Result<()> {
    let before = requests(case).await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let after = requests(case).await?;
    ensure!(
        before.0 == after.0,
        "objects were applied at rest: {} and then {}",
        before.0,
        after.0
    );
    // A cycle of the detector each minute is news in the status.
    ensure!(
        after.1 - before.1 <= 3,
        "the status was written {} times in 20 s",
        after.1 - before.1
    );
    Ok(())
}

/// Requests of the leader so far: applied objects, and written statuses.
async fn requests(case: &Case) -> anyhow::Result<(u64, u64)> {
    let (mut applied, mut status) = (0, 0);
    for pod in case.pods("app.kubernetes.io/name=ja4-platform").await? {
        let address = pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.clone())
            .context("a ready pod has an address")?;
        let text = case.nodes().run(
            "node1",
            &[
                "curl",
                "-sS",
                "--fail",
                "--max-time",
                "10",
                &format!("http://{address}:8080/metrics"),
            ],
        )?;
        for line in text
            .lines()
            .filter(|line| line.starts_with("ja4_operator_api_requests_total"))
        {
            let n: u64 = line.rsplit(' ').next().unwrap_or("0").parse()?;
            if line.contains("\"apply\"") || line.contains("\"delete\"") {
                applied += n;
            } else if line.contains("\"status\"") {
                status += n;
            }
        }
    }
    Ok((applied, status))
}

/// Every kind of child is deleted or changed by a person, and comes back.
async fn children_are_repaired(case: &Case) -> anyhow::Result<()> {
    deleted_and_back::<ConfigMap>(case, "shop-correlator").await?;
    deleted_and_back::<ConfigMap>(case, "shop-trust").await?;
    deleted_and_back::<Service>(case, "shop-correlator").await?;
    deleted_and_back::<NetworkPolicy>(case, "shop-store").await?;
    deleted_and_back::<CronJob>(case, "shop-det-main").await?;
    deleted_and_back::<Secret>(case, "shop-forward-tls").await?;
    changed_and_back::<Deployment>(
        case,
        "shop-dashboard",
        json!({"spec": {"replicas": 3}}),
        "/spec/replicas",
        &json!(1),
    )
    .await?;
    changed_and_back::<DaemonSet>(
        case,
        "shop-sensor",
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}}}),
        "/spec/updateStrategy/rollingUpdate/maxUnavailable",
        &json!(1),
    )
    .await?;
    changed_and_back::<StatefulSet>(
        case,
        "shop-store",
        json!({"spec": {"replicas": 0}}),
        "/spec/replicas",
        &json!(1),
    )
    .await?;
    case.pipeline_ready("shop", READY_WITHIN).await
}

async fn deleted_and_back<K>(case: &Case, name: &str) -> anyhow::Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = case.api();
    let before = api
        .get(name)
        .await
        .with_context(|| format!("{name} is there"))?
        .uid();
    api.delete(name, &DeleteParams::default()).await?;
    wait::until(
        &format!("{} {name} is back", K::kind(&())),
        REPAIRED_WITHIN,
        async || {
            let found = api.get_opt(name).await?;
            Ok(found.filter(|found| found.uid() != before).map(drop))
        },
    )
    .await
}

async fn changed_and_back<K>(
    case: &Case,
    name: &str,
    change: Value,
    pointer: &str,
    wanted: &Value,
) -> anyhow::Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + serde::Serialize
        + std::fmt::Debug,
{
    let api: Api<K> = case.api();
    api.patch(
        name,
        &PatchParams {
            field_manager: Some("somebody".to_owned()),
            ..PatchParams::default()
        },
        &Patch::Merge(&change),
    )
    .await?;
    wait::until(
        &format!("{} {name} is put back", K::kind(&())),
        REPAIRED_WITHIN,
        async || {
            let found = serde_json::to_value(api.get(name).await?)?;
            Ok((found.pointer(pointer) == Some(wanted)).then_some(()))
        },
    )
    .await
}

async fn suspended_and_resumed(case: &Case) -> anyhow::Result<()> {
    let suspend = async |value: bool| -> anyhow::Result<()> {
        let patch = json!({"spec": {"suspend": value}});
        case.api::<Ja4Pipeline>()
            .patch("shop", &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    };
    suspend(true).await?;
    case.condition("shop", "Suspended", "True", "Suspended", SAID_WITHIN)
        .await?;
    wait::until("only the store is left", Duration::from_mins(1), async || {
        let pods = case.pods("ja4platform.io/pipeline=shop").await?;
        let others = pods.iter().filter(|pod| {
            let component = pod
                .labels()
                .get("app.kubernetes.io/component")
                .map(String::as_str);
            let has_ended = matches!(
                pod.status.as_ref().and_then(|status| status.phase.as_deref()),
                Some("Succeeded" | "Failed")
            );
            component != Some("store") && !has_ended
        });
        Ok((others.count() == 0).then_some(()))
    })
    .await?;
    suspend(false).await?;
    case.pipeline_ready("shop", READY_WITHIN).await
}

async fn deleted_nothing_is_left(case: &Case) -> anyhow::Result<()> {
    case.api::<Ja4Pipeline>()
        .delete("shop", &DeleteParams::default())
        .await?;
    gone(case, "shop", Duration::from_mins(1)).await?;
    let selector = ListParams::default().labels("ja4platform.io/pipeline=shop");
    wait::until("every child is gone", Duration::from_secs(30), async || {
        let n = case.api::<ConfigMap>().list(&selector).await?.items.len()
            + case.api::<Secret>().list(&selector).await?.items.len()
            + case.api::<Service>().list(&selector).await?.items.len()
            + case.api::<Job>().list(&selector).await?.items.len()
            + case.api::<Deployment>().list(&selector).await?.items.len()
            + case
                .api::<PersistentVolumeClaim>()
                .list(&selector)
                .await?
                .items
                .len()
            + case.api::<Pod>().list(&selector).await?.items.len();
        Ok((n == 0).then_some(()))
    })
    .await
}
