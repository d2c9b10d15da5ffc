//! The correlator of all nodes. It is replaced, never rolled: two of them would split joins.

use operator_api::Component;
use serde_json::{Value, json};

use crate::config::{self, Client};
use crate::names;
use crate::object::{Desired, Head, Stage, finish};
use crate::pod::{self, Pod};
use crate::schema::store_access;
use crate::validate::ValidPipeline;

/// Its objects; none where each node joins for itself.
pub(crate) fn objects(pipeline: &ValidPipeline) -> Vec<Desired> {
    if !pipeline.has_correlator() {
        return Vec::new();
    }
    let spec = &pipeline.spec.correlator;
    let name = pipeline.name_of(Component::Correlator);
    let head = |api_version, kind| Head {
        api_version,
        kind,
        name: &name,
        component: Component::Correlator.as_str(),
    };
    let (data, config_hash) = pod::data([("correlator.yaml", config::correlator(pipeline))]);
    let selector = pipeline.selector(Component::Correlator);
    let ingest = pipeline.spec.sources.ingest.as_deref().unwrap_or_default();

    let claim = pod::claim(&spec.spool);

    let (mut volumes, mut mounts) = store_access(pipeline, Client::Writer);
    volumes.extend([
        json!({"name": "spool", "persistentVolumeClaim": {"claimName": name}}),
        pod::config_volume("config", &name, &[]),
        pod::secret_volume("tls", &names::secret(&pipeline.name, "correlator-tls"), &[]),
        redaction_volume(pipeline),
    ]);
    mounts.extend([
        pod::writes("spool", "/var/lib/ja4"),
        pod::reads("config", config::CONFIG),
        pod::reads("tls", config::TLS),
        pod::reads("redaction", config::REDACTION),
    ]);
    let port = config::admin_port(Component::Correlator);
    let mut ports = vec![
        json!({"name": "grpc", "containerPort": config::CORRELATOR_PORT, "protocol": "TCP"}),
        json!({"name": "metrics", "containerPort": port, "protocol": "TCP"}),
    ];
    let mut service_ports = vec![
        json!({"name": "grpc", "port": config::CORRELATOR_PORT, "targetPort": "grpc", "protocol": "TCP"}),
    ];
    if !ingest.is_empty() {
        volumes.push(pod::secret_volume(
            "ingest-tls",
            &names::secret(&pipeline.name, "ingest-tls"),
            &[],
        ));
        mounts.push(pod::reads("ingest-tls", "/etc/ja4/ingest-tls"));
        // One volume of all tokens, each from its own Secret.
        let sources: Vec<Value> = ingest
            .iter()
            .map(|source| {
                json!({"secret": {"name": source.token.name, "items": [{"key": source.token.key, "path": source.name}]}})
            })
            .collect();
        volumes.push(json!({"name": "ingest", "projected": {"defaultMode": 0o440, "sources": sources}}));
        mounts.push(pod::reads("ingest", "/etc/ja4/ingest"));
        ports.push(json!({"name": "ingest", "containerPort": config::INGEST_PORT, "protocol": "TCP"}));
        service_ports.push(
            json!({"name": "ingest", "port": config::INGEST_PORT, "targetPort": "ingest", "protocol": "TCP"}),
        );
    }
    let memory = pod::bytes(spec.connection_memory.as_str()) + pod::bytes(spec.pending_memory.as_str());
    // Connections, waiting requests, and as much as both for batches, queues and the allocator.
    let limit = format!("{}Mi", (memory / (1 << 20) * 3 / 2 + 128).max(256));
    let mut container = json!({
        "name": "correlator",
        "image": pipeline.image("ja4-correlator", ""),
        "imagePullPolicy": pipeline.spec.images.pull_policy.as_str(),
        "args": ["run", "--config", format!("{}/correlator.yaml", config::CONFIG)],
        "ports": ports,
        "resources": pod::resources(spec.resources.as_ref(), "100m", "128Mi", &pod::canonical(&limit)),
        "securityContext": pod::no_rights(),
        "volumeMounts": mounts,
    });
    // Not the store: while it is away, nodes must still reach this one, which spools.
    pod::probes(&mut container, port, None, "/healthz", 60);
    let gone = |taint: &str| json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30});
    let template = pod::template(
        pipeline,
        Pod {
            component: Component::Correlator,
            more_labels: [].into(),
            config_hash,
            placing: spec.placing.as_ref(),
            // A node that is gone is gone: the default of five minutes would fill the spools.
            tolerations: vec![
                gone("node.kubernetes.io/unreachable"),
                gone("node.kubernetes.io/not-ready"),
            ],
            spec: json!({"terminationGracePeriodSeconds": 30, "containers": [container], "volumes": volumes}),
        },
    );
    let is_stopped = pipeline.spec.suspend || spec.suspend;
    vec![
        finish(
            pipeline,
            Stage::Correlator,
            &head("v1", "ConfigMap"),
            json!({"data": data}),
            true,
        ),
        finish(
            pipeline,
            Stage::Correlator,
            &head("v1", "Service"),
            json!({"spec": {"selector": selector, "ports": service_ports}}),
            true,
        ),
        finish(
            pipeline,
            Stage::Correlator,
            &head("v1", "PersistentVolumeClaim"),
            claim,
            true,
        ),
        finish(
            pipeline,
            Stage::Correlator,
            &head("apps/v1", "Deployment"),
            pod::single(is_stopped, &selector, &template),
            true,
        ),
    ]
}

/// The key under which credentials are hashed: the spec's, or the one that the operator made.
pub(crate) fn redaction_volume(pipeline: &ValidPipeline) -> Value {
    match &pipeline.spec.privacy.redaction_key {
        Some(own) => pod::secret_volume("redaction", own.name.as_str(), &[(own.key.as_str(), "key")]),
        None => pod::secret_volume(
            "redaction",
            &names::secret(&pipeline.name, "redaction-key"),
            &[("key", "key")],
        ),
    }
}
