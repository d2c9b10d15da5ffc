//! Who may talk to whom: a policy for each component, by port.
//!
//! Not by pod: sensors come from the addresses of their nodes, which no selector of pods matches. For the sensors themselves no
//! policy holds, because they are on their nodes' network.

use operator_api::Component;
use serde_json::{Value, json};

use crate::config;
use crate::object::{Desired, Head, Stage, finish};
use crate::validate::ValidPipeline;

/// The policies.
pub(crate) fn objects(pipeline: &ValidPipeline) -> Vec<Desired> {
    if !pipeline.spec.network_policy.enabled {
        return Vec::new();
    }
    let spec = &pipeline.spec;
    let mut policies = Vec::new();
    if pipeline.is_embedded() {
        policies.push((
            Component::Store,
            vec![config::STORE_PORT, config::admin_port(Component::Store)],
        ));
    }
    if pipeline.has_correlator() {
        let mut ports = vec![config::CORRELATOR_PORT, config::admin_port(Component::Correlator)];
        if spec
            .sources
            .ingest
            .as_ref()
            .is_some_and(|sources| !sources.is_empty())
        {
            ports.push(config::INGEST_PORT);
        }
        policies.push((Component::Correlator, ports));
    }
    if spec.dashboard.enabled {
        let mut ports = vec![config::admin_port(Component::Dashboard)];
        if config::public_url(pipeline).is_some() {
            ports.push(config::DASHBOARD_PORT);
        }
        policies.push((Component::Dashboard, ports));
    }
    policies.push((Component::Schema, Vec::new()));
    if !pipeline.detectors.is_empty() {
        policies.push((Component::Detector, Vec::new()));
    }
    policies
        .into_iter()
        .map(|(component, ports)| policy(pipeline, component, &ports))
        .collect()
}

fn policy(pipeline: &ValidPipeline, component: Component, ports: &[u16]) -> Desired {
    let name = pipeline.name_of(component);
    let head = Head {
        api_version: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        name: &name,
        component: component.as_str(),
    };
    let mut spec = json!({
        "podSelector": {"matchLabels": pipeline.selector(component)},
        "policyTypes": ["Ingress"],
    });
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| json!({"port": port, "protocol": "TCP"}))
        .collect();
    // Without a rule nothing comes in.
    if !ports.is_empty() {
        spec["ingress"] = json!([{"ports": ports}]);
    }
    finish(pipeline, Stage::Base, &head, json!({"spec": spec}), true)
}
