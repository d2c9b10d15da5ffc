//! Sets up `tracing`: JSON or human lines on stderr, level from the configuration.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `human` or `json`; default `human`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,ja4_transport=debug`; default `info`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Human,
            level: "info".to_owned(),
        }
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// For collectors.
    Json,
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor a filter.
    #[error("log level {level:?} is not valid, use error, warn, info, debug or trace")]
    Level {
        /// As configured, or as `RUST_LOG` says.
        level: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A log was set up before.
    #[error("the log is set up already")]
    Twice,
}

/// Libraries that tell at `info` what only their own developers ask; a level of their own in the configuration comes first.
const QUIET: &str = "memory_serve=warn";

/// Starts logging for this process. `RUST_LOG`, if set, stands before the configured level.
///
/// # Errors
/// The level is not valid, or logging has started before.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let level = match std::env::var("RUST_LOG") {
        Ok(level) if !level.is_empty() => level,
        _ => config.level.clone(),
    };
    let filter =
        EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|source| LogError::Level { level, source })?;
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written is lost. Saying so on the same broken stderr would end the thread.
        .log_internal_errors(false)
        .with_target(false);
    match config.format {
        LogFormat::Human => base.with_ansi(false).try_init(),
        LogFormat::Json => base.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LogError::Twice)
}
