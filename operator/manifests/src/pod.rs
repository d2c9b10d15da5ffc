//! What all pods have in common: who they run as, what they may take, where they run, how they are watched.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LocalObjectReference;
use operator_api::{Component, Placing, Resources, Volume, labels};
use serde_json::{Map, Value, json};

use crate::validate::ValidPipeline;

/// The user of every program but the sensor.
pub(crate) const USER: i64 = 65532;

/// A pod template's parts that differ.
pub(crate) struct Pod<'a> {
    pub(crate) component: Component,
    /// Labels beside those of the component.
    pub(crate) more_labels: BTreeMap<String, String>,
    /// Hash of what its programs read at their start.
    pub(crate) config_hash: String,
    pub(crate) placing: Option<&'a Placing>,
    /// Tolerations that come before those of the spec.
    pub(crate) tolerations: Vec<Value>,
    /// `spec` of the pod: containers, volumes and what is special.
    pub(crate) spec: Value,
}

/// The template of a pod.
pub(crate) fn template(pipeline: &ValidPipeline, pod: Pod<'_>) -> Value {
    let mut all_labels = pipeline.labels(pod.component.as_str());
    all_labels.extend(pod.more_labels);
    let mut annotations = BTreeMap::from([(labels::CONFIG_HASH.to_owned(), pod.config_hash)]);
    let overrides = pipeline.spec.overrides.iter().flatten();
    for over in overrides.filter(|over| over.component == pod.component) {
        all_labels.extend(over.pod_labels.iter().flat_map(operator_api::Labels::to_map));
        annotations.extend(
            over.pod_annotations
                .iter()
                .flat_map(operator_api::Annotations::to_map),
        );
    }
    let mut spec = pod.spec;
    // No program talks to the API server.
    spec["automountServiceAccountToken"] = json!(false);
    // Or the addresses of all Services would be in the environment of each container.
    spec["enableServiceLinks"] = json!(false);
    if spec["securityContext"].is_null() {
        spec["securityContext"] = json!({
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            // A large volume is not walked again at each start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        });
    }
    let mut tolerations = pod.tolerations;
    if let Some(placing) = pod.placing {
        if let Some(selector) = &placing.node_selector {
            set(&mut spec, "nodeSelector", json!(selector.to_map()));
        }
        tolerations.extend(
            placing
                .tolerations
                .iter()
                .flatten()
                .map(|toleration| json!(toleration)),
        );
        if let Some(class) = &placing.priority_class_name {
            spec["priorityClassName"] = json!(class);
        }
    }
    set(&mut spec, "tolerations", json!(tolerations));
    let pull_secrets: Vec<LocalObjectReference> = pipeline.pull_secrets();
    set(&mut spec, "imagePullSecrets", json!(pull_secrets));
    json!({"metadata": {"labels": all_labels, "annotations": annotations}, "spec": spec})
}

/// Sets a field unless it is empty: the API server drops empty lists and maps, and would seem to differ for ever.
pub(crate) fn set(object: &mut Value, field: &str, value: Value) {
    let is_empty = match &value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        other => other.is_null(),
    };
    if !is_empty {
        object[field] = value;
    }
}

/// The security context of a container that needs no right at all.
pub(crate) fn no_rights() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// Processor and memory: what the spec says, over what a component usually needs.
pub(crate) fn resources(spec: Option<&Resources>, cpu: &str, memory: &str, memory_limit: &str) -> Value {
    let mut requests = BTreeMap::from([("cpu", cpu.to_owned()), ("memory", memory.to_owned())]);
    let mut limits = BTreeMap::from([("memory", memory_limit.to_owned())]);
    let asked = spec.and_then(|spec| spec.requests.as_ref());
    let most = spec.and_then(|spec| spec.limits.as_ref());
    for (amounts, into) in [(asked, &mut requests), (most, &mut limits)] {
        let Some(amounts) = amounts else { continue };
        if let Some(cpu) = &amounts.cpu {
            into.insert("cpu", canonical(cpu.as_str()));
        }
        if let Some(memory) = &amounts.memory {
            into.insert("memory", canonical(memory.as_str()));
        }
    }
    // A limit below what is usually asked for lowers that too.
    if let Some(limit) = most.and_then(|most| most.memory.as_ref())
        && asked.and_then(|asked| asked.memory.as_ref()).is_none()
        && bytes(limit.as_str()) < bytes(&requests["memory"])
    {
        requests.insert("memory", canonical(limit.as_str()));
    }
    if let Some(request) = asked.and_then(|asked| asked.memory.as_ref())
        && most.and_then(|most| most.memory.as_ref()).is_none()
        && bytes(request.as_str()) > bytes(&limits["memory"])
    {
        limits.insert("memory", canonical(request.as_str()));
    }
    if let Some(limit) = limits.get("cpu").cloned()
        && asked.and_then(|asked| asked.cpu.as_ref()).is_none()
        && millis(&limit) < millis(&requests["cpu"])
    {
        requests.insert("cpu", limit);
    }
    json!({"requests": requests, "limits": limits})
}

/// A quantity as the API server writes it: `1000m` is `1`, `1024Mi` is `1Gi`, so that what is sent and what is kept are equal.
pub(crate) fn canonical(quantity: &str) -> String {
    let digits = quantity.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let suffix = &quantity[digits.len()..];
    let Ok(mut number) = digits.parse::<u128>() else {
        return quantity.to_owned();
    };
    let (steps, factor): (&[&str], u128) = if suffix.ends_with('i') {
        (&["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], 1024)
    } else {
        (&["m", "", "k", "M", "G", "T", "P", "E"], 1000)
    };
    let mut at = steps.iter().position(|step| *step == suffix).unwrap_or(0);
    while at + 1 < steps.len() && number > 0 && number.is_multiple_of(factor) {
        number /= factor;
        at += 1;
    }
    format!("{number}{}", steps[at])
}

/// Bytes of a size.
pub(crate) fn bytes(size: &str) -> u128 {
    let digits = size.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u128 = digits.parse().unwrap_or(0);
    let factor = match &size[digits.len()..] {
        "k" => 1000,
        "M" => 1000_u128.pow(2),
        "G" => 1000_u128.pow(3),
        "T" => 1000_u128.pow(4),
        "Ki" => 1024,
        "Mi" => 1024_u128.pow(2),
        "Gi" => 1024_u128.pow(3),
        "Ti" => 1024_u128.pow(4),
        _ => 1,
    };
    number.saturating_mul(factor)
}

fn millis(cpu: &str) -> u128 {
    cpu.strip_suffix('m').map_or_else(
        || bytes(cpu).saturating_mul(1000),
        |millis| millis.parse().unwrap_or(0),
    )
}

/// Probes of a program with an admin endpoint: it may take a minute to start, is restarted when it hangs.
pub(crate) fn probes(container: &mut Value, port: u16, host: Option<&str>, ready: &str, start_seconds: u32) {
    let get = |path: &str| {
        let mut get = json!({"port": port, "path": path});
        if let Some(host) = host {
            get["host"] = json!(host);
        }
        get
    };
    container["startupProbe"] =
        json!({"httpGet": get(ready), "periodSeconds": 1, "failureThreshold": start_seconds});
    container["readinessProbe"] = json!({"httpGet": get(ready), "periodSeconds": 2});
    container["livenessProbe"] =
        json!({"httpGet": get("/healthz"), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6});
}

/// A claim of a volume that outlasts its pod.
pub(crate) fn claim(volume: &Volume) -> Value {
    let mut claim = json!({"spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": canonical(volume.size.as_str())}},
    }});
    if let Some(class) = &volume.storage_class_name {
        claim["spec"]["storageClassName"] = json!(class);
    }
    claim
}

/// A Deployment of one pod that is replaced, never rolled: two of it would not know each other's state.
pub(crate) fn single(is_stopped: bool, selector: &BTreeMap<String, String>, template: &Value) -> Value {
    json!({"spec": {
        "replicas": i32::from(!is_stopped),
        "strategy": {"type": "Recreate"},
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": selector},
        "template": template,
    }})
}

/// A volume with keys of a Secret.
pub(crate) fn secret_volume(name: &str, secret: &str, items: &[(&str, &str)]) -> Value {
    let mut source = json!({"secretName": secret, "defaultMode": 0o440});
    let items: Vec<Value> = items
        .iter()
        .map(|(key, path)| json!({"key": key, "path": path}))
        .collect();
    set(&mut source, "items", json!(items));
    json!({"name": name, "secret": source})
}

/// A volume with keys of a `ConfigMap`.
pub(crate) fn config_volume(name: &str, config_map: &str, items: &[(&str, &str)]) -> Value {
    let mut source = json!({"name": config_map});
    let items: Vec<Value> = items
        .iter()
        .map(|(key, path)| json!({"key": key, "path": path}))
        .collect();
    set(&mut source, "items", json!(items));
    json!({"name": name, "configMap": source})
}

/// Where a volume is seen, read-only.
pub(crate) fn reads(name: &str, path: &str) -> Value {
    json!({"name": name, "mountPath": path, "readOnly": true})
}

/// Where a volume is seen.
pub(crate) fn writes(name: &str, path: &str) -> Value {
    json!({"name": name, "mountPath": path})
}

/// A `ConfigMap`'s data and its hash.
pub(crate) fn data<const N: usize>(files: [(&str, String); N]) -> (Value, String) {
    let files: Map<String, Value> = files
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Value::from(text)))
        .collect();
    let files = Value::Object(files);
    let hash = crate::object::hash(&files);
    (files, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_as_the_server_writes_them() {
        for (written, kept) in [
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1024Mi", "1Gi"),
            ("20Gi", "20Gi"),
            ("2000k", "2M"),
            ("64Mi", "64Mi"),
            ("1024", "1024"),
        ] {
            assert_eq!(canonical(written), kept, "{written}");
        }
    }

    #[test]
    fn a_low_limit_lowers_what_is_asked_for() {
        let spec: Resources =
            serde_json::from_value(json!({"limits": {"memory": "32Mi", "cpu": "20m"}})).unwrap();
        let found = resources(Some(&spec), "50m", "64Mi", "512Mi");
        assert_eq!(
            found,
            json!({"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "20m", "memory": "32Mi"}})
        );
    }
}
