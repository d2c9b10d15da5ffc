//! The small types that specs are made of: each says once how long it may be and what it looks like.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, min $min:literal, max $max:literal, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(#[schemars(length(min = $min, max = $max), regex(pattern = $pattern))] pub String);

        impl $name {
            /// What it looks like.
            pub const PATTERN: &str = $pattern;

            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text!(
    /// An amount of memory, disk or processor as Kubernetes writes it, such as `256Mi`, `20Gi` or `500m`; more than nothing.
    Quantity, min 1, max 16, r"^[1-9][0-9]{0,11}(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
);
text!(
    /// A size in bytes, such as `64Mi` or `2Gi`; whole and more than nothing.
    Size, min 1, max 16, r"^[1-9][0-9]{0,11}(k|M|G|T|Ki|Mi|Gi|Ti)?$"
);
text!(
    /// Name of an object in the pipeline's namespace.
    ObjectName, min 1, max 253, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
);
text!(
    /// Key in a Secret or `ConfigMap`.
    DataKey, min 1, max 253, r"^[-._a-zA-Z0-9]*[-_a-zA-Z0-9]$"
);
text!(
    /// A network such as `10.0.0.0/8` or `fd00::/8`.
    Network, min 4, max 43, r"^[0-9a-fA-F:.]{2,39}/[0-9]{1,3}$"
);
text!(
    /// Name of a network interface, or `auto`: physical ones and those of pods.
    Interface, min 1, max 15, r"^[A-Za-z0-9][A-Za-z0-9._@-]*$"
);
text!(
    /// A name in DNS, such as `dashboard.example.org`.
    HostName, min 1, max 253, r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"
);
text!(
    /// Value of a label.
    LabelValue, min 0, max 63, r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
);
text!(
    /// A version of ja4-platform, such as `0.1.0`.
    Release, min 5, max 32, r"^(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})(-[0-9A-Za-z.]+)?$"
);
text!(
    /// Minute, hour, day of the month, month, day of the week: `*/5 * * * *`. Times are UTC.
    Schedule, min 9, max 80, r"^[0-9*/,-]+ [0-9*/,-]+ [0-9*/,-]+ [0-9*/,A-Za-z-]+ [0-9*/,A-Za-z-]+$"
);
text!(
    /// Name of a database in ClickHouse.
    Database, min 1, max 63, r"^[a-z][a-z0-9_]*$"
);

/// A key in a Secret of the pipeline's namespace. The operator hands its name to a pod and never reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: ObjectName,
    /// Key in it.
    pub key: DataKey,
}

/// A key in a `ConfigMap` of the pipeline's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// Name of the `ConfigMap`.
    pub name: ObjectName,
    /// Key in it.
    pub key: DataKey,
}

/// Processor and memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Processor, such as `500m` or `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory, such as `512Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
}

/// What a container asks for and what it may take at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.requests) || !has(self.limits) || !has(self.requests.cpu) || !has(self.limits.cpu) || quantity(self.requests.cpu).compareTo(quantity(self.limits.cpu)) <= 0"
    ).message("requests.cpu is more than limits.cpu: raise the limit or ask for less"),
    validation = Rule::new(
        "!has(self.requests) || !has(self.limits) || !has(self.requests.memory) || !has(self.limits.memory) || quantity(self.requests.memory).compareTo(quantity(self.limits.memory)) <= 0"
    ).message("requests.memory is more than limits.memory: raise the limit or ask for less"),
)]
pub struct Resources {
    /// What a node must have free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What it may take at most; without it as the operator sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// A taint that the pods may run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.operator != 'Exists' || !has(self.value)")
        .message("a toleration with operator Exists has no value: remove the value, or use Equal"),
    validation = Rule::new("self.operator == 'Exists' || has(self.key)")
        .message("a toleration with operator Equal needs a key"),
    validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')")
        .message("tolerationSeconds needs effect NoExecute"),
)]
pub struct Toleration {
    /// Key of the taint; none with `Exists` for every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 317),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
        )
    )]
    pub key: Option<String>,
    /// `Exists` for any value, `Equal` for one.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Value of the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<LabelValue>,
    /// Effect of the taint; without it every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long the pods stay on a node that got the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration is compared with a taint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// The taint's value does not matter.
    Exists,
    /// The taint has this value.
    #[default]
    Equal,
}

/// What a taint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

/// The rule for keys of labels and annotations.
const KEYS: &str = "self.all(key, key.size() <= 317 && key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";

macro_rules! keyed {
    ($(#[$doc:meta])* $name:ident, $value:ty, $description:literal, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub BTreeMap<String, $value>);

        // By hand, because the derive makes rules for structs with named fields only.
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "object",
                    "description": $description,
                    "maxProperties": 16,
                    "additionalProperties": $schema,
                    "x-kubernetes-validations": [{
                        "rule": KEYS,
                        "message": "a key is not allowed: letters, digits, - _ . and at most one prefix/, 63 characters after it",
                    }],
                })
            }
        }

        impl $name {
            /// As Kubernetes' objects hold them.
            pub fn to_map(&self) -> BTreeMap<String, String> {
                self.0.iter().map(|(key, value)| (key.clone(), value.to_string())).collect()
            }
        }
    };
}

keyed!(
    /// Labels: of nodes that are asked for, or of objects.
    Labels,
    LabelValue,
    "Names and values of labels.",
    json_schema!({"type": "string", "maxLength": 63, "pattern": LabelValue::PATTERN})
);
keyed!(
    /// Annotations of an object.
    Annotations,
    String,
    "Names and values of annotations.",
    json_schema!({"type": "string", "maxLength": 4096})
);
