//! Loads a process's YAML configuration; an unknown key is an error that names the nearest known one.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::admin::AdminListen;
use crate::logging::LogConfig;

/// Longest configuration file, bytes: the largest sample has a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The section that every process has under the key `process`.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// How to log.
    pub log: LogConfig,
    /// Where health, metrics and the ledger are served: `127.0.0.1:9101`, `unix:/run/x.sock`, or
    /// nothing for not at all.
    pub admin: Option<AdminListen>,
    /// Where the ledger is written each second and at the end; nothing for not at all.
    pub ledger_file: Option<PathBuf>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is absurdly long.
    #[error("configuration {path:?} has {length} bytes, at most {MAX_CONFIG_BYTES} are read")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
    },
    /// A key is not known.
    #[error("configuration {path:?}: unknown key {key:?}{place}{hint}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// ` (line L, column C)` or nothing.
        place: String,
        /// The nearest known key, or all of them.
        hint: String,
    },
    /// Not YAML, or a value of the wrong type.
    #[error("configuration {path:?}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
}

/// Reads and checks the configuration in `path`.
///
/// # Errors
/// The file cannot be read, is not YAML, has an unknown key or a value of the wrong type.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(read)?.len();
    if length > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLong {
            path: path.to_owned(),
            length,
        });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    parse(&text, path)
}

/// Checks the configuration in `text`; `path` is what errors name.
///
/// # Errors
/// As [`load`].
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    // An empty file stands for all defaults.
    let only_comments = text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let text = if only_comments { "{}" } else { text };
    serde_saphyr::from_str(text).map_err(|error| explain(&error, path))
}

/// The configuration as YAML, for `--print-config`. Secrets are never part of a configuration.
///
/// # Errors
/// If a value has no YAML form.
pub fn print<T: Serialize>(config: &T) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(config)
}

fn explain(error: &serde_saphyr::Error, path: &Path) -> ConfigError {
    let path = path.to_owned();
    if let serde_saphyr::Error::SerdeUnknownField { field, expected, .. } = error.without_snippet() {
        let place = error
            .location()
            .map(|at| format!(" (line {}, column {})", at.line(), at.column()));
        return ConfigError::UnknownKey {
            path,
            key: field.clone(),
            place: place.unwrap_or_default(),
            hint: hint(field, expected),
        };
    }
    let rendered = error.without_snippet().to_string();
    let message = rendered
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    ConfigError::Invalid { path, message }
}

fn hint(key: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        // Below this two keys share hardly more than a letter; then the list helps more.
        Some((likeness, candidate)) if likeness > 0.7 => format!(", did you mean {candidate:?}?"),
        Some(_) => format!(", known here: {}", known.join(", ")),
        None => ", no key is known here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Serialize, Default, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        interface: Vec<String>,
        nested: Nested,
    }

    #[derive(Debug, Deserialize, Serialize, Default, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Nested {
        buffer_bytes: u32,
    }

    #[track_caller]
    fn refusal(text: &str) -> String {
        parse::<Sample>(text, Path::new("x.yaml"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn nothing_and_comments_are_all_defaults() {
        assert_eq!(parse::<Sample>("", Path::new("x")).unwrap(), Sample::default());
        assert_eq!(
            parse::<Sample>("# a\n\n", Path::new("x")).unwrap(),
            Sample::default()
        );
    }

    #[test]
    fn unknown_keys_name_the_place_and_the_nearest_key() {
        let top = refusal("interfaces: [lo]\n");
        assert!(top.contains("unknown key \"interfaces\""), "{top}");
        assert!(top.contains("did you mean \"interface\"?"), "{top}");
        assert!(top.contains("line 1"), "{top}");
        let nested = refusal("nested:\n  bufer_bytes: 1\n");
        assert!(nested.contains("did you mean \"buffer_bytes\"?"), "{nested}");
        assert!(nested.contains("line 2"), "{nested}");
        let far = refusal("zzz: 1\n");
        assert!(far.contains("known here: interface, nested"), "{far}");
    }

    #[test]
    fn wrong_types_and_broken_yaml_are_one_line() {
        for text in [
            "nested:\n  buffer_bytes: many\n",
            "interface: [lo\n",
            "{",
            "a: b: c",
        ] {
            let refusal = refusal(text);
            assert_eq!(refusal.lines().count(), 1, "{refusal}");
            assert!(refusal.contains("x.yaml"), "{refusal}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let sample = Sample {
            interface: vec!["lo".into()],
            nested: Nested { buffer_bytes: 3 },
        };
        assert_eq!(
            parse::<Sample>(&print(&sample).unwrap(), Path::new("x")).unwrap(),
            sample
        );
    }
}
