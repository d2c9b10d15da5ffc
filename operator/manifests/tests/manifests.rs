//! The objects of the samples, reviewed as snapshots; and what holds of every object of any pipeline.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::collections::BTreeSet;

use operator_api::{Ja4Pipeline, labels};
use operator_manifests::{Apis, Desired, Facts, Observed, Stage, covers, desired, hash, validate};
use serde_json::{Value, json};

fn facts() -> Facts {
    Facts {
        operator_version: "0.1.0".to_owned(),
        registry: "registry.example".to_owned(),
        runbook_base: String::new(),
        apis: Apis {
            monitoring: true,
            gateway: true,
        },
        ports: Vec::new(),
    }
}

fn pipeline(text: &str) -> Ja4Pipeline {
    let document: Value = serde_saphyr::from_str(text).unwrap();
    let mut pipeline = operator_api::check(&document).unwrap();
    pipeline.metadata.uid = Some("00000000-0000-0000-0000-000000000001".to_owned());
    pipeline
        .metadata
        .namespace
        .get_or_insert_with(|| "default".to_owned());
    pipeline
}

fn objects(pipeline: &Ja4Pipeline) -> Vec<Desired> {
    let valid = validate(pipeline, &facts()).unwrap();
    desired(&valid, &Observed::default())
}

fn samples() -> Vec<(String, Ja4Pipeline)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/samples/pipelines");
    let mut samples: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, pipeline(&std::fs::read_to_string(&path).unwrap()))
        })
        .collect();
    samples.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(samples.len() >= 5);
    samples
}

#[test]
fn samples_are_built_as_reviewed() {
    for (name, sample) in samples() {
        let objects: Vec<Value> = objects(&sample).into_iter().map(|object| object.object).collect();
        let text: Vec<String> = objects
            .iter()
            // The rules are a file of their own, with tests of its own.
            .map(|object| {
                let mut object = object.clone();
                if object["kind"] == "PrometheusRule" {
                    object["spec"] = json!("(operator/monitoring/pipeline-rules.yaml)");
                }
                serde_saphyr::to_string(&object).unwrap()
            })
            .collect();
        insta::assert_snapshot!(name, text.join("---\n"));
    }
}

#[test]
fn the_same_pipeline_gives_the_same_bytes() {
    for (_, sample) in samples() {
        assert_eq!(objects(&sample), objects(&sample));
    }
}

#[test]
fn every_object_has_owner_labels_hash_and_a_name_that_fits() {
    for (sample_name, sample) in samples() {
        let mut seen = BTreeSet::new();
        for object in objects(&sample) {
            let name = object.name().to_owned();
            assert!(
                seen.insert((object.kind().to_owned(), name.clone())),
                "{name} is there twice"
            );
            let limit = if object.kind() == "CronJob" { 52 } else { 63 };
            assert!(name.len() <= limit, "{name}");
            let metadata = &object.object["metadata"];
            assert_eq!(
                metadata["labels"][labels::PIPELINE],
                sample.metadata.name.clone().unwrap(),
                "{sample_name} {name}"
            );
            assert_eq!(metadata["ownerReferences"].is_array(), object.owned, "{name}");
            let mut bare = object.object.clone();
            bare["metadata"]["annotations"]
                .as_object_mut()
                .unwrap()
                .remove(labels::APPLIED_HASH);
            if bare["metadata"]["annotations"].as_object().unwrap().is_empty() {
                bare["metadata"].as_object_mut().unwrap().remove("annotations");
            }
            assert_eq!(hash(&bare), object.hash(), "{name}");
        }
    }
}

/// The API server drops what is empty, and would seem to differ for ever.
#[test]
fn nothing_empty_is_sent() {
    fn look(value: &Value, path: &str) {
        match value {
            Value::Object(fields) => {
                assert!(
                    !fields.is_empty() || path.ends_with("emptyDir"),
                    "{path} is empty"
                );
                for (key, field) in fields {
                    look(field, &format!("{path}.{key}"));
                }
            }
            Value::Array(items) => {
                assert!(!items.is_empty() || path.ends_with("sources"), "{path} is empty");
                for item in items {
                    look(item, &format!("{path}[]"));
                }
            }
            Value::Null => panic!("{path} is null"),
            _ => {}
        }
    }
    for (_, sample) in samples() {
        for object in objects(&sample) {
            look(&object.object, object.kind());
        }
    }
}

/// Pod security "restricted", as far as a template shows it; the sensor is the one exception.
#[test]
fn every_pod_but_the_sensors_is_restricted() {
    for (_, sample) in samples() {
        for object in objects(&sample) {
            let template = match object.kind() {
                "CronJob" => &object.object["spec"]["jobTemplate"]["spec"]["template"],
                "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => &object.object["spec"]["template"],
                _ => continue,
            };
            let spec = &template["spec"];
            assert_eq!(spec["automountServiceAccountToken"], false, "{}", object.name());
            assert_eq!(
                spec["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            let containers = spec["containers"].as_array().unwrap();
            for container in containers
                .iter()
                .chain(spec["initContainers"].as_array().into_iter().flatten())
            {
                let context = &container["securityContext"];
                assert_eq!(
                    context["capabilities"]["drop"],
                    json!(["ALL"]),
                    "{}",
                    object.name()
                );
                assert_eq!(context["readOnlyRootFilesystem"], true);
                assert!(container["resources"]["limits"]["memory"].is_string());
                if object.kind() != "DaemonSet" {
                    assert_eq!(context["allowPrivilegeEscalation"], false);
                    assert!(context["capabilities"]["add"].is_null());
                }
            }
            if object.kind() == "DaemonSet" {
                assert_eq!(object.stage, Stage::Sensors);
                let added: Vec<&Value> = containers
                    .iter()
                    .map(|container| &container["securityContext"]["capabilities"]["add"])
                    .collect();
                assert_eq!(added, [&json!(["NET_RAW"]), &Value::Null]);
            } else {
                assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{}", object.name());
                assert!(spec["hostNetwork"].is_null());
                let volumes = spec["volumes"].as_array().unwrap();
                assert!(volumes.iter().all(|volume| volume["hostPath"].is_null()));
            }
        }
    }
}

#[test]
fn an_object_covers_itself_and_a_changed_one_does_not() {
    let (_, sample) = samples().remove(0);
    for object in objects(&sample) {
        assert!(covers(&object.object, &object.object));
        let mut changed = object.object.clone();
        changed["metadata"]["labels"][labels::COMPONENT] = json!("other");
        assert!(!covers(&changed, &object.object));
    }
}

#[track_caller]
fn refuses(text: &str, change: impl FnOnce(&mut Facts), field: &str, words: &str) {
    let mut facts = facts();
    change(&mut facts);
    let invalid = validate(&pipeline(text), &facts).unwrap_err();
    assert_eq!(invalid.field, field);
    assert!(invalid.message.contains(words), "{invalid}");
}

fn with(more: &str) -> String {
    format!(
        "apiVersion: ja4platform.io/v1alpha1\nkind: Ja4Pipeline\nmetadata: {{name: shop, namespace: edge}}\nspec:\n  store: {{embedded: {{}}}}\n{more}"
    )
}

#[test]
fn rejects_a_schedule_that_never_comes() {
    let text = with("  detectors: [{name: main, schedule: '0 0 31 2 *'}]\n");
    refuses(&text, |_| {}, "spec.detectors[main].schedule", "never comes");
}

#[test]
fn rejects_a_port_of_an_older_pipeline() {
    let taken =
        |facts: &mut Facts| facts.ports = vec![("edge/old".to_owned(), 9102), ("edge/shop".to_owned(), 9102)];
    refuses(
        &with(""),
        taken,
        "spec.sensor.metricsPort",
        "take another, such as 9103",
    );
}

#[test]
fn rejects_releases_that_it_cannot_run() {
    refuses(
        &with("  version: 0.2.0\n"),
        |_| {},
        "spec.version",
        "upgrade the operator first",
    );
    refuses(
        &with("  version: 0.1.0\n"),
        |facts| facts.operator_version = "0.3.0".to_owned(),
        "spec.version",
        "one minor release at a time",
    );
}

#[test]
fn rejects_a_route_without_gateways() {
    let text = with("  dashboard: {httpRoute: {host: d.example, gateway: main}}\n");
    refuses(
        &text,
        |facts| facts.apis.gateway = false,
        "spec.dashboard.httpRoute",
        "no Gateway API",
    );
}
