//! What the Prometheus operator reads: where metrics are, and which alerts there are.

use std::sync::LazyLock;

use operator_api::{MonitoringMode, labels};
use serde_json::{Value, json};

use crate::object::{Desired, Head, Stage, finish};
use crate::pod::set;
use crate::validate::ValidPipeline;

/// Alerts of a pipeline, with `NAMESPACE` and `PIPELINE` to be filled in.
const RULES: &str = include_str!("../../monitoring/pipeline-rules.yaml");

static PARSED: LazyLock<Value> =
    LazyLock::new(|| serde_saphyr::from_str(RULES).expect("a test reads the rules"));

/// The objects; none where the cluster does not have these kinds.
pub(crate) fn objects(pipeline: &ValidPipeline) -> Vec<Desired> {
    let spec = &pipeline.spec.monitoring;
    if spec.mode == MonitoringMode::Disabled || !pipeline.apis.monitoring {
        return Vec::new();
    }
    let head = |kind| Head {
        api_version: "monitoring.coreos.com/v1",
        kind,
        name: &pipeline.name,
        component: "monitoring",
    };
    let metadata = || {
        let mut metadata = json!({});
        if let Some(labels) = &spec.labels {
            set(&mut metadata, "labels", json!(labels.to_map()));
        }
        metadata
    };
    let pods = json!({
        "metadata": metadata(),
        "spec": {
            "selector": {"matchLabels": {labels::PIPELINE: pipeline.name}},
            "podTargetLabels": [labels::PIPELINE, labels::COMPONENT],
            "podMetricsEndpoints": [{
                "port": "metrics",
                "path": "/metrics",
                "relabelings": [
                    {"sourceLabels": ["__meta_kubernetes_pod_label_ja4platform_io_pipeline"], "targetLabel": "pipeline", "action": "replace"},
                    {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node", "action": "replace"},
                ],
            }],
        },
    });
    let rules = json!({"metadata": metadata(), "spec": rules(pipeline)});
    vec![
        finish(pipeline, Stage::Base, &head("PodMonitor"), pods, true),
        finish(pipeline, Stage::Base, &head("PrometheusRule"), rules, true),
    ]
}

fn rules(pipeline: &ValidPipeline) -> Value {
    let mut rules = PARSED.clone();
    fill(&mut rules, pipeline);
    rules
}

/// Puts the pipeline's own names and the base of runbooks into every text.
fn fill(value: &mut Value, pipeline: &ValidPipeline) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let base = pipeline.runbook_base.trim_end_matches('/');
                match field.as_str() {
                    Some(path) if name == "runbook_url" && !base.is_empty() => {
                        *field = json!(format!("{base}/{path}"));
                    }
                    _ => fill(field, pipeline),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, pipeline)),
        Value::String(text) => {
            *text = text
                .replace("NAMESPACE", &pipeline.namespace)
                .replace("PIPELINE", &pipeline.name);
        }
        _ => {}
    }
}
