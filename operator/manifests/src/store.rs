//! The embedded store: one pod with a volume of its own.

use operator_api::{Component, DeletionPolicy};
use serde_json::json;

use crate::config;
use crate::names;
use crate::object::{Desired, Head, Stage, finish};
use crate::pod::{self, Pod};
use crate::validate::ValidPipeline;

/// Its objects; none for somebody's own ClickHouse.
pub(crate) fn objects(pipeline: &ValidPipeline) -> Vec<Desired> {
    let Some(store) = &pipeline.spec.store.embedded else {
        return Vec::new();
    };
    let name = pipeline.name_of(Component::Store);
    let head = |api_version, kind| Head {
        api_version,
        kind,
        name: &name,
        component: Component::Store.as_str(),
    };
    let (data, config_hash) = pod::data([("clickhouse.yaml", config::clickhouse(pipeline))]);
    let selector = pipeline.selector(Component::Store);

    let claim = pod::claim(&store.volume);

    let port = config::admin_port(Component::Store);
    let mut container = json!({
        "name": "store",
        "image": pipeline.image("ja4-clickhouse", ""),
        "imagePullPolicy": pipeline.spec.images.pull_policy.as_str(),
        "args": ["run", "--config", format!("{}/clickhouse.yaml", config::CONFIG)],
        "ports": [
            {"name": "https", "containerPort": config::STORE_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": port, "protocol": "TCP"},
        ],
        "resources": pod::resources(store.resources.as_ref(), "100m", "512Mi", "2Gi"),
        "securityContext": pod::no_rights(),
        "volumeMounts": [
            pod::writes("data", "/data"),
            pod::reads("config", config::CONFIG),
            pod::reads("tls", config::TLS),
            pod::reads("tokens", config::TOKENS),
            pod::writes("tmp", "/tmp"),
        ],
    });
    pod::probes(&mut container, port, None, "/readyz", 300);
    let template = pod::template(
        pipeline,
        Pod {
            component: Component::Store,
            more_labels: [].into(),
            config_hash,
            placing: store.placing.as_ref(),
            tolerations: Vec::new(),
            spec: json!({
                // Its last merges; what was acknowledged is safe without them.
                "terminationGracePeriodSeconds": 30,
                "containers": [container],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": name}},
                    pod::config_volume("config", &name, &[]),
                    pod::secret_volume("tls", &names::secret(&pipeline.name, "store-tls"), &[("tls.crt", "tls.crt"), ("tls.key", "tls.key")]),
                    pod::secret_volume("tokens", &names::secret(&pipeline.name, "store-tokens"), &[]),
                    {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
                ],
            }),
        },
    );
    let is_owned = store.deletion_policy == DeletionPolicy::Delete;
    vec![
        finish(
            pipeline,
            Stage::Store,
            &head("v1", "ConfigMap"),
            json!({"data": data}),
            true,
        ),
        finish(
            pipeline,
            Stage::Store,
            &head("v1", "Service"),
            json!({"spec": {
                "selector": selector,
                "ports": [{"name": "https", "port": config::STORE_PORT, "targetPort": "https", "protocol": "TCP"}],
            }}),
            true,
        ),
        finish(
            pipeline,
            Stage::Store,
            &head("v1", "PersistentVolumeClaim"),
            claim,
            is_owned,
        ),
        finish(
            pipeline,
            Stage::Store,
            &head("apps/v1", "StatefulSet"),
            json!({"spec": {
                "serviceName": name,
                "replicas": 1,
                "revisionHistoryLimit": 3,
                "selector": {"matchLabels": selector},
                "template": template,
            }}),
            true,
        ),
    ]
}
