//! The page of all fields, conditions and reasons, from the schema.

use std::fmt::Write as _;

use serde_json::Value;

use crate::conditions::reasons;
use crate::crd;

/// The page `docs/ja4pipeline.md`.
pub fn page() -> String {
    let schema = crd::schema();
    let mut text = String::from(
        "# Ja4Pipeline, field by field\n\nWritten by `cargo run -p operator-api --bin crdgen -- --write` from `operator/api`. \
         [operator.md](operator.md) says how the parts work together.\n\n## Spec\n\n| field | type | default | what |\n|---|---|---|---|\n",
    );
    rows(&schema["properties"]["spec"], "", &Value::Null, &mut text);
    text.push_str("\n## Rules\n\nThe API server and `ja4-operator validate` refuse what breaks one of these.\n\n| where | rule |\n|---|---|\n");
    rules(&schema, "", &mut text);
    text.push_str("\n## Status\n\n| field | type | default | what |\n|---|---|---|---|\n");
    rows(&schema["properties"]["status"], "", &Value::Null, &mut text);
    text.push_str("\n## Reasons\n\n| reason | means |\n|---|---|\n");
    for (reason, means) in reasons::ALL {
        line(&mut text, format_args!("| `{reason}` | {} |", means.trim()));
    }
    text
}

/// A String takes everything.
fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").unwrap_or(());
}

/// The fields of an object, and of what is in them.
fn rows(schema: &Value, path: &str, defaults: &Value, text: &mut String) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let below = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let default = if field["default"].is_null() {
            &defaults[name]
        } else {
            &field["default"]
        };
        // An object's default is shown at its fields.
        let shown = if default.is_null() || default.is_object() || default.to_string().len() > 60 {
            String::new()
        } else {
            format!(
                "`{}`",
                default
                    .as_str()
                    .map_or_else(|| default.to_string(), ToOwned::to_owned)
            )
        };
        let what = field["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " ");
        line(
            text,
            format_args!("| `{below}` | {} | {shown} | {what} |", kind(field)),
        );
        rows(field, &below, default, text);
        if field["items"]["properties"].is_object() {
            rows(&field["items"], &format!("{below}[]"), &Value::Null, text);
        }
    }
}

/// Type and bounds in a few words.
fn kind(field: &Value) -> String {
    if let Some(words) = field["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return words.join(", ");
    }
    let number = |name: &str| field[name].as_f64();
    match field["type"].as_str().unwrap_or_default() {
        "array" => format!("list, at most {}", field["maxItems"]),
        "object" if field["additionalProperties"].is_object() => {
            format!("map, at most {}", field["maxProperties"])
        }
        "integer" if number("minimum").is_some() && number("maximum").is_some() => {
            format!(
                "{} to {}",
                number("minimum").unwrap_or_default(),
                number("maximum").unwrap_or_default()
            )
        }
        "string" if field["maxLength"].is_u64() => format!("text, at most {}", field["maxLength"]),
        "string" => "text".to_owned(),
        other => other.to_owned(),
    }
}

fn rules(schema: &Value, path: &str, text: &mut String) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let place = if path.is_empty() { "the resource" } else { path };
        line(
            text,
            format_args!("| `{place}` | {} |", rule["message"].as_str().unwrap_or_default()),
        );
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let below = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        rules(field, &below, text);
    }
    if schema["items"].is_object() {
        rules(&schema["items"], &format!("{path}[]"), text);
    }
}
