//! An object that should be, its stage, its hash, and whether a live one is as it should be.

use operator_api::labels;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::validate::ValidPipeline;

/// When an object is applied. A stage waits until the one before is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What nothing waits for: accounts, policies, monitors.
    Base,
    /// The embedded store.
    Store,
    /// Its tables.
    Schema,
    /// Correlator and dashboard.
    Correlator,
    /// What runs on nodes.
    Sensors,
    /// What runs by schedule.
    Detectors,
}

impl Stage {
    /// Every stage, in their order.
    pub const ALL: [Self; 6] = [
        Self::Base,
        Self::Store,
        Self::Schema,
        Self::Correlator,
        Self::Sensors,
        Self::Detectors,
    ];
}

/// An object as it is sent to the API server.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// When it is applied.
    pub stage: Stage,
    /// The object, with the annotation [`labels::APPLIED_HASH`].
    pub object: Value,
    /// False for what outlives the pipeline: it has no owner.
    pub owned: bool,
}

impl Desired {
    /// Its kind.
    ///
    /// # Panics
    /// Never: every builder sets it.
    pub fn kind(&self) -> &str {
        self.object["kind"].as_str().expect("every builder sets a kind")
    }

    /// Its group and version.
    ///
    /// # Panics
    /// Never: every builder sets it.
    pub fn api_version(&self) -> &str {
        self.object["apiVersion"]
            .as_str()
            .expect("every builder sets an apiVersion")
    }

    /// Its name.
    ///
    /// # Panics
    /// Never: every builder sets it.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"]
            .as_str()
            .expect("every builder sets a name")
    }

    /// Its hash.
    ///
    /// # Panics
    /// Never: every builder sets it.
    pub fn hash(&self) -> &str {
        self.object["metadata"]["annotations"][labels::APPLIED_HASH]
            .as_str()
            .expect("finish sets the hash")
    }
}

/// Kind, name and place of an object, before [`finish`].
pub(crate) struct Head<'a> {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
    pub(crate) component: &'static str,
}

/// Completes an object: name, labels, owner, hash.
pub(crate) fn finish(
    pipeline: &ValidPipeline,
    stage: Stage,
    head: &Head<'_>,
    body: Value,
    owned: bool,
) -> Desired {
    let mut object = body;
    object["apiVersion"] = json!(head.api_version);
    object["kind"] = json!(head.kind);
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(head.name);
    metadata["namespace"] = json!(pipeline.namespace);
    let mut all = pipeline.labels(head.component);
    if let Some(more) = metadata["labels"].as_object() {
        all.extend(
            more.iter()
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())),
        );
    }
    metadata["labels"] = json!(all);
    if owned {
        metadata["ownerReferences"] = pipeline.owner();
    }
    let hash = hash(&object);
    object["metadata"]["annotations"][labels::APPLIED_HASH] = json!(hash);
    Desired { stage, object, owned }
}

/// Hash of an object's bytes: 16 hexadecimal digits. Keys are sorted, so the same object has the same.
pub fn hash(object: &Value) -> String {
    let digest = Sha256::digest(object.to_string().as_bytes());
    let first: [u8; 8] = std::array::from_fn(|i| digest[i]);
    format!("{:016x}", u64::from_be_bytes(first))
}

/// True if everything in `wanted` is in `live`, which may have more: defaults, status, what others manage.
///
/// In lists of objects the order does not matter, because the API server merges them by key.
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match live.get(key) {
                Some(live) => covers(live, wanted),
                // The server leaves out what is empty or false.
                None => is_empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            if wanted.iter().all(Value::is_object) {
                wanted
                    .iter()
                    .all(|wanted| live.iter().any(|live| covers(live, wanted)))
            } else {
                live == wanted
            }
        }
        (live, wanted) => live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_object_may_have_more() {
        let wanted = json!({"spec": {"ports": [{"port": 1}], "replicas": 1, "flag": false}});
        let live = json!({"spec": {"ports": [{"port": 2}, {"port": 1, "protocol": "TCP"}], "replicas": 1}, "status": {}});
        assert!(covers(&live, &wanted));
    }

    #[test]
    fn a_changed_or_missing_field_is_found() {
        let wanted = json!({"spec": {"replicas": 1, "args": ["a", "b"]}});
        assert!(!covers(
            &json!({"spec": {"replicas": 2, "args": ["a", "b"]}}),
            &wanted
        ));
        assert!(!covers(&json!({"spec": {"args": ["a", "b"]}}), &wanted));
        assert!(!covers(
            &json!({"spec": {"replicas": 1, "args": ["b", "a"]}}),
            &wanted
        ));
    }
}
