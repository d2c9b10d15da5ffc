//! Checks a resource as the API server would, without one: unknown fields, defaults, schema, rules.
//!
//! The schema is read from the definition itself, so there is one set of rules. Only the keywords that occur in it are
//! understood, and a test fails when another one appears. Pure.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use kube::core::cel::{Validator, apply_defaults};
use serde_json::Value;

use crate::pipeline::Ja4Pipeline;
use crate::{GROUP, KIND, VERSION, crd};

/// The keywords that [`walk`] understands or that ask nothing of a value.
#[cfg(test)]
const KEYWORDS: [&str; 24] = [
    "additionalProperties",
    "default",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

static SCHEMA: LazyLock<Value> = LazyLock::new(crd::schema);

/// One thing that is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Fault {
    /// Where, such as `spec.sensor.interfaces[1]`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Checks a resource that is to be created. Gives it with its defaults.
///
/// # Errors
/// All faults of one step: unknown fields before values, values before rules.
pub fn check(resource: &Value) -> Result<Ja4Pipeline, Vec<Fault>> {
    check_step(resource, None)
}

/// Checks a resource that is to replace another of the same name.
///
/// # Errors
/// As [`check`]; also what may not change.
pub fn check_update(resource: &Value, old: &Value) -> Result<Ja4Pipeline, Vec<Fault>> {
    let old = defaulted(old);
    check_step(resource, Some(&old))
}

fn check_step(resource: &Value, old: Option<&Value>) -> Result<Ja4Pipeline, Vec<Fault>> {
    let mut faults = Vec::new();
    head(resource, &mut faults);
    unknown(&SCHEMA, resource, "", &mut faults);
    ended(&mut faults)?;
    let whole = defaulted(resource);
    walk(&SCHEMA, &whole, "", &mut faults);
    ended(&mut faults)?;
    if let Err(broken) = Validator::new().validate(&SCHEMA, &whole, old) {
        faults.extend(broken.into_vec().into_iter().map(|error| Fault {
            path: error.field_path.trim_start_matches('.').to_owned(),
            message: error.message,
        }));
    }
    ended(&mut faults)?;
    serde_json::from_value(whole).map_err(|error| {
        vec![Fault {
            path: "spec".to_owned(),
            message: error.to_string(),
        }]
    })
}

fn ended(faults: &mut Vec<Fault>) -> Result<(), Vec<Fault>> {
    if faults.is_empty() {
        return Ok(());
    }
    let mut found = std::mem::take(faults);
    found.sort();
    found.dedup();
    Err(found)
}

/// What every object of Kubernetes has.
fn head(resource: &Value, faults: &mut Vec<Fault>) {
    let mut expect = |path: &str, found: &Value, wanted: &str| {
        if found != wanted {
            faults.push(Fault {
                path: path.to_owned(),
                message: format!("{} instead of {wanted}", shown(found)),
            });
        }
    };
    expect(
        "apiVersion",
        &resource["apiVersion"],
        &format!("{GROUP}/{VERSION}"),
    );
    expect("kind", &resource["kind"], KIND);
    if resource["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        faults.push(Fault {
            path: "metadata.name".to_owned(),
            message: "a resource needs a name".to_owned(),
        });
    }
}

/// With what the schema says where nothing is said: as the API server keeps it.
fn defaulted(resource: &Value) -> Value {
    let mut pruned = resource.clone();
    without_nulls(&SCHEMA, &mut pruned);
    apply_defaults(&SCHEMA, &pruned)
}

/// A `null` is nothing where there is a default, and wrong elsewhere.
fn without_nulls(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let of = |name: &String| {
                let known = &schema["properties"][name];
                if known.is_null() {
                    &schema["additionalProperties"]
                } else {
                    known
                }
            };
            fields.retain(|name, field| !field.is_null() || of(name)["default"].is_null());
            for (name, field) in fields.iter_mut() {
                without_nulls(of(name), field);
            }
        }
        Value::Array(items) => {
            for item in items {
                without_nulls(&schema["items"], item);
            }
        }
        _ => {}
    }
}

/// Fields that the schema does not know: kubectl refuses them, and the API server would drop them in silence.
fn unknown(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            for (name, field) in fields {
                let below = join(path, name);
                // What Kubernetes itself knows of every object.
                if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
                    continue;
                }
                if let Some(known) = properties.and_then(|known| known.get(name)) {
                    unknown(known, field, &below, faults);
                } else if schema["additionalProperties"].is_object() {
                    unknown(&schema["additionalProperties"], field, &below, faults);
                } else if schema["type"] == "object" {
                    let known: Vec<&str> = properties
                        .into_iter()
                        .flatten()
                        .map(|(name, _)| name.as_str())
                        .collect();
                    faults.push(Fault {
                        path: below,
                        message: format!("unknown field; there are {}", known.join(", ")),
                    });
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                unknown(&schema["items"], item, &format!("{path}[{i}]"), faults);
            }
        }
        _ => {}
    }
}

/// Values against the schema.
fn walk(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let mut fault = |message: String| {
        faults.push(Fault {
            path: path.to_owned(),
            message,
        });
    };
    if let Some(kind) = schema["type"].as_str()
        && !is_of(kind, value)
    {
        fault(format!("{} is no {kind}", shown(value)));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(shown).collect();
        fault(format!("{} is none of {}", shown(value), allowed.join(", ")));
        return;
    }
    match value {
        Value::String(text) => string(schema, text, &mut fault),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if schema["minimum"].as_f64().is_some_and(|least| number < least) {
                fault(format!("{} is less than {}", shown(value), schema["minimum"]));
            }
            if schema["maximum"].as_f64().is_some_and(|most| number > most) {
                fault(format!("{} is more than {}", shown(value), schema["maximum"]));
            }
        }
        Value::Array(items) => {
            length(schema, "Items", items.len(), "entries", &mut fault);
            unique(schema, items, &mut fault);
            for (i, item) in items.iter().enumerate() {
                walk(&schema["items"], item, &format!("{path}[{i}]"), faults);
            }
        }
        Value::Object(fields) => {
            length(schema, "Properties", fields.len(), "entries", &mut fault);
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap_or_default();
                if !fields.contains_key(name) {
                    faults.push(Fault {
                        path: join(path, name),
                        message: "it is required".to_owned(),
                    });
                }
            }
            for (name, field) in fields {
                let known = &schema["properties"][name];
                if known.is_object() {
                    walk(known, field, &join(path, name), faults);
                } else if schema["additionalProperties"].is_object() {
                    walk(&schema["additionalProperties"], field, &join(path, name), faults);
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn string(schema: &Value, text: &str, fault: &mut impl FnMut(String)) {
    length(schema, "Length", text.chars().count(), "characters", fault);
    if let Some(pattern) = schema["pattern"].as_str() {
        let matches = regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
        if !matches {
            let what = schema["description"].as_str().unwrap_or("a text of another form");
            let what = what
                .split_inclusive('.')
                .next()
                .unwrap_or(what)
                .trim_end_matches('.');
            fault(format!(
                "{} has not the form of: {what} ({pattern})",
                shown(&Value::from(text))
            ));
        }
    }
}

fn length(schema: &Value, what: &str, n: usize, unit: &str, fault: &mut impl FnMut(String)) {
    let bound = |side: &str| schema[format!("{side}{what}")].as_u64();
    if bound("min").is_some_and(|least| (n as u64) < least) {
        fault(format!("{n} {unit} are less than {}", bound("min").unwrap_or(0)));
    }
    if bound("max").is_some_and(|most| n as u64 > most) {
        fault(format!("{n} {unit} are more than {}", bound("max").unwrap_or(0)));
    }
}

fn unique(schema: &Value, items: &[Value], fault: &mut impl FnMut(String)) {
    let key = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Some(item.to_string()),
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
            let keys = keys.iter().filter_map(Value::as_str);
            Some(
                keys.map(|key| item[key].to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            )
        }
        _ => None,
    };
    let mut seen = BTreeSet::new();
    for item in items {
        if let Some(key) = key(item)
            && !seen.insert(key.clone())
        {
            fault(format!("{key} is there twice"));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// A value in a message: short, on one line.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 {
        return text;
    }
    text.chars().take(77).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests;
