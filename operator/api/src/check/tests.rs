//! What is refused, and in which words.

use serde_json::{Value, json};

use super::*;

fn minimal() -> Value {
    json!({
        "apiVersion": "ja4platform.io/v1alpha1", "kind": "Ja4Pipeline",
        "metadata": {"name": "shop", "namespace": "edge"},
        "spec": {"store": {"embedded": {}}},
    })
}

/// The minimal resource with one field more; the first fault as text.
#[track_caller]
fn refuses(pointer: &str, value: Value, expected: &str) {
    let mut resource = minimal();
    put(&mut resource, pointer, value);
    let faults = check(&resource).expect_err("it should be refused");
    let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{faults:?}");
}

fn put(resource: &mut Value, pointer: &str, value: Value) {
    let mut at = resource;
    for part in pointer.split('.') {
        at = &mut at[part];
    }
    *at = value;
}

#[test]
fn the_smallest_resource_has_all_defaults() {
    let pipeline = check(&minimal()).unwrap();
    let spec = pipeline.spec;
    assert_eq!(spec.detectors.len(), 1);
    assert_eq!(spec.detectors[0].schedule.as_str(), "*/5 * * * *");
    assert_eq!(spec.sensor.interfaces[0].as_str(), "auto");
    assert_eq!(spec.store.embedded.unwrap().volume.size.as_str(), "20Gi");
    assert!(spec.dashboard.enabled && spec.network_policy.enabled);
}

#[test]
fn only_known_keywords_are_in_the_schema() {
    fn look(schema: &Value, unknown: &mut BTreeSet<String>) {
        for (keyword, inner) in schema.as_object().into_iter().flatten() {
            if !KEYWORDS.contains(&keyword.as_str()) {
                unknown.insert(keyword.clone());
            }
            match keyword.as_str() {
                "properties" => inner
                    .as_object()
                    .into_iter()
                    .flatten()
                    .for_each(|(_, inner)| look(inner, unknown)),
                "items" | "additionalProperties" => look(inner, unknown),
                _ => {}
            }
        }
    }
    let mut unknown = BTreeSet::new();
    look(&SCHEMA, &mut unknown);
    assert_eq!(unknown, BTreeSet::new());
}

#[test]
fn rejects_unknown_fields() {
    refuses(
        "spec.sensor",
        json!({"interface": ["eth0"]}),
        "spec.sensor.interface: unknown field; there are",
    );
}

#[test]
fn rejects_a_long_name() {
    refuses("metadata.name", json!("a".repeat(31)), "at most 30 characters");
}

#[test]
fn rejects_two_stores_and_none() {
    refuses("spec.store", json!({}), "exactly one of embedded");
}

#[test]
fn rejects_requests_over_limits() {
    refuses(
        "spec.correlator",
        json!({"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}),
        "requests.memory is more than limits.memory",
    );
}

#[test]
fn rejects_values_of_another_form() {
    refuses(
        "spec.sensor",
        json!({"buffer": "much"}),
        "spec.sensor.buffer: \"much\" has not the form of",
    );
    refuses("spec.sensor", json!({"metricsPort": 80}), "80 is less than 1024");
    refuses("spec.sensor", json!({"profile": "Root"}), "\"Root\" is none of");
    refuses(
        "spec.sensor",
        json!({"ownNetworks": ["10.0.0.0/99"]}),
        "one is no network",
    );
    refuses(
        "spec.sensor",
        json!({"interfaces": ["auto", "eth0"]}),
        "either auto or the interfaces",
    );
    refuses("spec.sensor", json!({"interfaces": ["eth0", "eth0"]}), "twice");
}

#[test]
fn rejects_ingest_without_a_central_correlator() {
    let mut resource = minimal();
    resource["spec"]["correlator"] = json!({"placement": "Node"});
    resource["spec"]["sources"] =
        json!({"ingest": [{"name": "web", "token": {"name": "web", "key": "token"}}]});
    let faults = check(&resource).unwrap_err();
    assert_eq!(faults[0].path, "spec.sources.ingest");
}

#[test]
fn rejects_a_smaller_volume_and_another_kind_of_store() {
    let mut new = minimal();
    new["spec"]["store"]["embedded"] = json!({"volume": {"size": "10Gi"}});
    let faults = check_update(&new, &minimal()).unwrap_err();
    assert!(faults[0].message.contains("cannot shrink"), "{faults:?}");
}
