//! The sensor on a node: it sees real handshakes with one right and nothing else, in both ways to give it that right.
//!
//! What a container may do is read from outside, in the node's `/proc`: a manifest only says what was asked for.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ja4_e2e::{Case, ContainerProcess, Need, wait};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};

const NET_RAW: u64 = 1 << 13;

/// How the sensor gets the right to capture.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    /// Root without any right but `NET_RAW`, and no way to more.
    Root,
    /// Another user; the program's file capability gives `NET_RAW`, which Kubernetes allows only where rights may rise.
    FileCapability,
}

impl Profile {
    fn image(self) -> &'static str {
        match self {
            Self::Root => "ja4-sensor",
            Self::FileCapability => "ja4-sensor-filecap",
        }
    }

    fn user(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::FileCapability => 65532,
        }
    }

    /// Each its own: both share their node's loopback.
    fn port(self) -> u16 {
        match self {
            Self::Root => 19103,
            Self::FileCapability => 19104,
        }
    }
}

#[test]
fn as_root_it_has_net_raw_and_nothing_else() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test("as_root_it_has_net_raw_and_nothing_else", need, async |case| {
        captures_with_one_right(&case, Profile::Root).await
    });
}

#[test]
fn by_a_file_capability_it_has_net_raw_and_nothing_else() {
    let need = Need::nodes(2).with_node_access();
    ja4_e2e::test(
        "by_a_file_capability_it_has_net_raw_and_nothing_else",
        need,
        async |case| captures_with_one_right(&case, Profile::FileCapability).await,
    );
}

async fn captures_with_one_right(case: &Case, profile: Profile) -> anyhow::Result<()> {
    case.apply::<ConfigMap>(config_map(profile)).await?;
    case.apply::<Pod>(sensor_pod(case, profile)?).await?;
    let pod = case.pod_ready("sensor").await?;
    let process = case.nodes().process(&pod, "sensor")?;

    let status = process.status()?;
    ensure!(status.uid == [profile.user(); 4], "{status:?}");
    ensure!(status.cap_eff == NET_RAW, "{status:?}");
    ensure!(status.cap_bnd == NET_RAW, "{status:?}");
    // In the second way the sensor itself rules out more once its interfaces are open.
    ensure!(status.no_new_privs, "{status:?}");
    ensure!(status.seccomp == 2, "{status:?}");
    root_is_read_only(&process)?;
    has_no_token(&process)?;

    // A real handshake on the node's wire: the other node asks this one's kubelet.
    let hellos_before = hellos(&process, profile)?;
    let kubelet = "https://10.77.0.11:10250/healthz";
    case.nodes().run(
        "node2",
        &["curl", "-sk", "--max-time", "10", "-o", "/dev/null", kubelet],
    )?;
    wait::until(
        "the sensor reports the handshake",
        Duration::from_secs(30),
        async || Ok((hellos(&process, profile)? > hellos_before).then_some(())),
    )
    .await
}

fn config_map(profile: Profile) -> Value {
    let config = json!({
        "process": {"admin": format!("127.0.0.1:{}", profile.port())},
        "capture": {"interfaces": ["eth0"]},
        "output": {"socket": "/tmp/network.socket"},
    });
    // JSON is YAML.
    json!({"metadata": {"name": "sensor"}, "data": {"sensor.yaml": config.to_string()}})
}

fn sensor_pod(case: &Case, profile: Profile) -> anyhow::Result<Value> {
    Ok(json!({
        "metadata": {"name": "sensor"},
        "spec": {
            "nodeName": "node1",
            "hostNetwork": true,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": "sensor",
                "image": case.image(profile.image())?,
                "imagePullPolicy": "Never",
                "args": ["run", "--config", "/etc/ja4/sensor.yaml"],
                "volumeMounts": [{"name": "config", "mountPath": "/etc/ja4", "readOnly": true}],
                "resources": {"limits": {"memory": "256Mi"}},
                "securityContext": {
                    "runAsUser": profile.user(),
                    "allowPrivilegeEscalation": profile == Profile::FileCapability,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]},
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                // Liveness, not readiness: without a correlator the sensor says that nobody listens.
                "startupProbe": {
                    "httpGet": {"host": "127.0.0.1", "port": profile.port(), "path": "/healthz"},
                    "periodSeconds": 1,
                    "failureThreshold": 60,
                },
            }],
            "volumes": [{"name": "config", "configMap": {"name": "sensor"}}],
        },
    }))
}

fn root_is_read_only(process: &ContainerProcess) -> anyhow::Result<()> {
    let mounts = process.proc_file("mountinfo")?;
    // Fields: id, parent, device, root, mount point, options.
    let root = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(4) == Some(&"/"))
        .context("a container has a root")?;
    let options = root.get(5).context("a mount has options")?;
    ensure!(
        options.split(',').any(|option| option == "ro"),
        "the root is mounted {options}"
    );
    Ok(())
}

fn has_no_token(process: &ContainerProcess) -> anyhow::Result<()> {
    let mounts = process.proc_file("mountinfo")?;
    ensure!(
        !mounts.contains("serviceaccount"),
        "a token is mounted:\n{mounts}"
    );
    Ok(())
}

/// Hellos that the sensor has reported.
fn hellos(process: &ContainerProcess, profile: Profile) -> anyhow::Result<u64> {
    let url = format!("http://127.0.0.1:{}/metrics", profile.port());
    let metrics = process.run_in_network(&["curl", "-sf", "--max-time", "10", &url])?;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("sensor_hellos_total "));
    line.context("the sensor has no sensor_hellos_total")?
        .trim()
        .parse()
        .context("sensor_hellos_total is no number")
}
