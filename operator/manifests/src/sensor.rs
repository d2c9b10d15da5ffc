//! What runs on each node: the sensor, and beside it what takes its events.

use operator_api::{Component, SensorProfile};
use serde_json::json;

use crate::config::{self, Client};
use crate::correlator::redaction_volume;
use crate::names;
use crate::object::{Desired, Head, Stage, finish};
use crate::pod::{self, Pod, USER};
use crate::schema::store_access;
use crate::validate::ValidPipeline;

/// Label that no node has: a sensor that is suspended is on no node.
const NOWHERE: &str = "ja4platform.io/suspended";

/// The sensor's user.
pub(crate) fn uid(pipeline: &ValidPipeline) -> i64 {
    match pipeline.spec.sensor.profile {
        SensorProfile::NetRaw => 0,
        SensorProfile::FileCap => USER,
    }
}

/// Its objects.
pub(crate) fn objects(pipeline: &ValidPipeline) -> Vec<Desired> {
    let spec = &pipeline.spec.sensor;
    let name = pipeline.name_of(Component::Sensor);
    let head = |api_version, kind| Head {
        api_version,
        kind,
        name: &name,
        component: Component::Sensor.as_str(),
    };
    let on_node = if pipeline.joins_on_nodes() {
        "correlator.yaml"
    } else {
        "forward.yaml"
    };
    let (data, config_hash) = pod::data([
        ("sensor.yaml", config::sensor(pipeline)),
        (on_node, config::node(pipeline)),
    ]);
    let pull = pipeline.spec.images.pull_policy.as_str();

    let folders = json!({
        "name": "folders",
        "image": pipeline.image("ja4-cli", ""),
        "imagePullPolicy": pull,
        // The kubelet makes folders of the node for root alone.
        "args": ["prepare-folder", format!("--owner={USER}:{USER}"), "--mode=0750", "/var/run/ja4", "/var/lib/ja4"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "runAsUser": 0,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]},
        },
        "volumeMounts": [pod::writes("sockets", "/var/run/ja4"), pod::writes("spool", "/var/lib/ja4")],
    });

    let (variant, context) = match spec.profile {
        SensorProfile::NetRaw => (
            "",
            json!({
                "runAsUser": 0,
                "runAsGroup": USER,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]},
            }),
        ),
        SensorProfile::FileCap => (
            "-filecap",
            json!({
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                // A file capability counts only where a program may gain rights.
                "allowPrivilegeEscalation": true,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]},
            }),
        ),
    };
    let probe = |more: &[&str]| {
        let mut command = vec![
            "/usr/bin/ja4-sensor",
            "probe",
            "--config=/etc/ja4/config/sensor.yaml",
        ];
        command.extend(more);
        json!({"command": command})
    };
    let sensor = json!({
        "name": "sensor",
        "image": pipeline.image("ja4-sensor", variant),
        "imagePullPolicy": pull,
        "args": ["run", "--config", "/etc/ja4/config/sensor.yaml"],
        "resources": pod::resources(spec.resources.as_ref(), "50m", "64Mi", "512Mi"),
        "securityContext": context,
        "startupProbe": {"exec": probe(&["--path=/healthz"]), "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {"exec": probe(&[]), "periodSeconds": 5},
        "volumeMounts": [
            pod::reads("config", config::CONFIG),
            pod::writes("sockets", "/var/run/ja4"),
            pod::writes("sensor-admin", "/run/admin"),
        ],
    });

    let mut volumes = vec![
        pod::config_volume("config", &name, &[]),
        redaction_volume(pipeline),
        json!({"name": "sockets", "hostPath": {
            "path": names::sockets_folder(&pipeline.namespace, &pipeline.name), "type": "DirectoryOrCreate",
        }}),
        json!({"name": "spool", "hostPath": {
            "path": names::spool_folder(&pipeline.namespace, &pipeline.name), "type": "DirectoryOrCreate",
        }}),
        json!({"name": "sensor-admin", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
    ];
    let mut mounts = vec![
        pod::reads("config", config::CONFIG),
        pod::reads("redaction", config::REDACTION),
        pod::writes("sockets", "/var/run/ja4"),
        pod::writes("spool", "/var/lib/ja4"),
        pod::writes("sensor-admin", "/run/admin"),
    ];
    if pipeline.joins_on_nodes() {
        let (more_volumes, more_mounts) = store_access(pipeline, Client::Writer);
        volumes.extend(more_volumes);
        mounts.extend(more_mounts);
    } else {
        volumes.push(pod::secret_volume(
            "tls",
            &names::secret(&pipeline.name, "forward-tls"),
            &[],
        ));
        mounts.push(pod::reads("tls", config::TLS));
    }
    let memory = if pipeline.joins_on_nodes() { "1Gi" } else { "512Mi" };
    let mut forward = json!({
        "name": on_node.trim_end_matches(".yaml"),
        "image": pipeline.image("ja4-correlator", ""),
        "imagePullPolicy": pull,
        "args": ["run", "--config", format!("{}/{on_node}", config::CONFIG)],
        // Declared, so that the scheduler sees who else has it on a node.
        "ports": [{"name": "metrics", "containerPort": spec.metrics_port, "hostPort": spec.metrics_port, "protocol": "TCP"}],
        "resources": pod::resources(spec.forward_resources.as_ref(), "50m", "64Mi", memory),
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    });
    pod::probes(&mut forward, spec.metrics_port, Some("127.0.0.1"), "/healthz", 60);

    let mut template = pod::template(
        pipeline,
        Pod {
            component: Component::Sensor,
            more_labels: [].into(),
            config_hash,
            placing: spec.placing.as_ref(),
            tolerations: Vec::new(),
            spec: json!({
                "hostNetwork": true,
                // The host's resolver does not know the cluster's services.
                "dnsPolicy": "ClusterFirstWithHostNet",
                "terminationGracePeriodSeconds": 30,
                "securityContext": {
                    // The sensor is root without the right to pass over permissions: it reaches the sockets by their group.
                    "fsGroup": USER,
                    "supplementalGroups": [USER],
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "initContainers": [folders],
                "containers": [sensor, forward],
                "volumes": volumes,
            }),
        },
    );
    if pipeline.spec.suspend || spec.suspend {
        template["spec"]["nodeSelector"] = json!({NOWHERE: "true"});
    }
    vec![
        finish(
            pipeline,
            Stage::Sensors,
            &head("v1", "ConfigMap"),
            json!({"data": data}),
            true,
        ),
        finish(
            pipeline,
            Stage::Sensors,
            &head("apps/v1", "DaemonSet"),
            json!({"spec": {
                "revisionHistoryLimit": 3,
                // One that is not ready holds the others back.
                "minReadySeconds": 5,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": pipeline.spec.rollout.max_unavailable}},
                "selector": {"matchLabels": pipeline.selector(Component::Sensor)},
                "template": template,
            }}),
            true,
        ),
    ]
}
