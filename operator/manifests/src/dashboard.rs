//! The dashboard: one pod, a Service, and what is in front of it.

use operator_api::Component;
use serde_json::json;

use crate::config::{self, Client};
use crate::object::{Desired, Head, Stage, finish};
use crate::pod::{self, Pod};
use crate::schema::store_access;
use crate::validate::ValidPipeline;

/// Its objects; none for a pipeline without pages.
pub(crate) fn objects(pipeline: &ValidPipeline) -> Vec<Desired> {
    let spec = &pipeline.spec.dashboard;
    if !spec.enabled {
        return Vec::new();
    }
    let name = pipeline.name_of(Component::Dashboard);
    let head = |api_version, kind| Head {
        api_version,
        kind,
        name: &name,
        component: Component::Dashboard.as_str(),
    };
    let (data, config_hash) = pod::data([("dashboard.yaml", config::dashboard(pipeline))]);
    let selector = pipeline.selector(Component::Dashboard);
    let (mut volumes, mut mounts) = store_access(pipeline, Client::Dashboard);
    volumes.extend([
        pod::config_volume("config", &name, &[]),
        json!({"name": "data", "emptyDir": {"sizeLimit": "16Mi"}}),
    ]);
    mounts.extend([
        pod::reads("config", config::CONFIG),
        pod::writes("data", "/var/lib/ja4"),
    ]);
    let port = config::admin_port(Component::Dashboard);
    let mut container = json!({
        "name": "dashboard",
        "image": pipeline.image("ja4-dashboard", ""),
        "imagePullPolicy": pipeline.spec.images.pull_policy.as_str(),
        "args": ["run", "--config", format!("{}/dashboard.yaml", config::CONFIG)],
        "ports": [
            {"name": "http", "containerPort": config::DASHBOARD_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": port, "protocol": "TCP"},
        ],
        "resources": pod::resources(spec.resources.as_ref(), "50m", "64Mi", "512Mi"),
        "securityContext": pod::no_rights(),
        "volumeMounts": mounts,
    });
    // Not the store: while it is away, the pages say so.
    pod::probes(&mut container, port, None, "/healthz", 60);
    let template = pod::template(
        pipeline,
        Pod {
            component: Component::Dashboard,
            more_labels: [].into(),
            config_hash,
            placing: spec.placing.as_ref(),
            tolerations: Vec::new(),
            spec: json!({"terminationGracePeriodSeconds": 10, "containers": [container], "volumes": volumes}),
        },
    );
    // Sessions live in its memory: there is one of it.
    let is_stopped = pipeline.spec.suspend || spec.suspend;
    let mut objects = vec![
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
            &head("apps/v1", "Deployment"),
            pod::single(is_stopped, &selector, &template),
            true,
        ),
    ];
    if config::public_url(pipeline).is_some() {
        objects.push(finish(
            pipeline,
            Stage::Correlator,
            &head("v1", "Service"),
            json!({"spec": {
                "selector": selector,
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
            }}),
            true,
        ));
    }
    if let Some(ingress) = &spec.ingress {
        let mut body = json!({"spec": {
            "rules": [{"host": ingress.host, "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"name": "http"}}},
            }]}}],
        }});
        let mut tls = json!({"hosts": [ingress.host]});
        if let Some(secret) = &ingress.tls_secret_name {
            tls["secretName"] = json!(secret);
        }
        body["spec"]["tls"] = json!([tls]);
        if let Some(class) = &ingress.class_name {
            body["spec"]["ingressClassName"] = json!(class);
        }
        if let Some(annotations) = &ingress.annotations {
            pod::set(&mut body["metadata"], "annotations", json!(annotations.to_map()));
        }
        objects.push(finish(
            pipeline,
            Stage::Correlator,
            &head("networking.k8s.io/v1", "Ingress"),
            body,
            true,
        ));
    }
    if let Some(route) = &spec.http_route {
        let mut parent = json!({"name": route.gateway});
        if let Some(namespace) = &route.gateway_namespace {
            parent["namespace"] = json!(namespace);
        }
        if let Some(section) = &route.section_name {
            parent["sectionName"] = json!(section);
        }
        let body = json!({"spec": {
            "parentRefs": [parent],
            "hostnames": [route.host],
            "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
        }});
        objects.push(finish(
            pipeline,
            Stage::Correlator,
            &head("gateway.networking.k8s.io/v1", "HTTPRoute"),
            body,
            true,
        ));
    }
    objects
}
