//! The `CustomResourceDefinition`, from the types of this crate.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use crate::pipeline::Ja4Pipeline;

/// The definition as it is installed.
///
/// Two things differ from what the types alone say. The status has a default, `observedGeneration: -1`: a resource without one would
/// count as done for whoever waits for it. And nothing is nullable: the API server then takes a `null` for nothing.
///
/// # Panics
/// Never: the types are known, and a test makes it.
pub fn crd() -> CustomResourceDefinition {
    let mut definition = serde_json::to_value(Ja4Pipeline::crd()).expect("a definition is JSON");
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    strip(schema, "nullable");
    // Formats of Rust's integers, which Kubernetes does not know; their bounds are there.
    strip(schema, "format");
    let status = &mut schema["properties"]["status"];
    strip(status, "default");
    status["default"] = json!({"observedGeneration": -1});
    schema["required"] = json!(["spec"]);
    definition["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "ja4-platform"});
    serde_json::from_value(definition).expect("it was a definition before")
}

/// Its schema, as JSON.
pub(crate) fn schema() -> Value {
    let definition = serde_json::to_value(crd()).expect("a definition is JSON");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Removes a keyword from a schema and all schemas in it; a property of that name stays.
fn strip(schema: &mut Value, keyword: &str) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove(keyword);
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for property in properties.values_mut() {
            strip(property, keyword);
        }
    }
    for part in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(part) {
            strip(inner, keyword);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest definition that client-side apply can carry in its annotation, with room to grow: `kubectl apply` without
    /// `--server-side` fails from 262 144 bytes on.
    const MAX_BYTES: usize = 200 * 1024;

    #[test]
    fn the_definition_is_small_enough_for_an_annotation() {
        let bytes = serde_json::to_string(&crd()).unwrap().len();
        assert!(bytes < MAX_BYTES, "{bytes} bytes");
    }

    /// What the API server needs to bound a rule's cost, and we to bound what a person can send.
    #[test]
    fn everything_that_a_person_writes_is_bounded() {
        fn look(schema: &Value, path: &str, unbounded: &mut Vec<String>) {
            let bounds: &[&str] = match schema["type"].as_str() {
                Some("string") if schema["enum"].is_null() => &["maxLength"],
                Some("array") => &["maxItems"],
                Some("object") if schema["additionalProperties"].is_object() => &["maxProperties"],
                Some("integer" | "number") => &["minimum", "maximum"],
                _ => &[],
            };
            for bound in bounds {
                if schema[bound].is_null() {
                    unbounded.push(format!("{path}: no {bound}"));
                }
            }
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                look(property, &format!("{path}.{name}"), unbounded);
            }
            for part in ["items", "additionalProperties"] {
                if schema[part].is_object() {
                    look(&schema[part], &format!("{path}[]"), unbounded);
                }
            }
        }
        let mut unbounded = Vec::new();
        look(&schema()["properties"]["spec"], "spec", &mut unbounded);
        assert_eq!(unbounded, Vec::<String>::new());
    }

    #[test]
    fn every_field_is_explained() {
        fn look(schema: &Value, path: &str, silent: &mut Vec<String>) {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                if property["description"].is_null() {
                    silent.push(path.clone());
                }
                look(property, &path, silent);
            }
            if schema["items"].is_object() {
                look(&schema["items"], &format!("{path}[]"), silent);
            }
        }
        let mut silent = Vec::new();
        look(&schema()["properties"]["spec"], "spec", &mut silent);
        look(&schema()["properties"]["status"], "status", &mut silent);
        assert_eq!(silent, Vec::<String>::new());
    }
}
