//! The process's configuration: the file as written, and the settings that are checked.
//!
//! `docs/samples/clickhouse.yaml` shows every key. Flags override the file; secrets are in neither (see
//! `credentials`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ja4_common::config::ProcessConfig;
use ja4_common::units::{Bytes, Span};
use serde::{Deserialize, Serialize};

use crate::access::{Pattern, Rules};
use crate::credentials::Class;
use crate::engine_config::EngineLimits;

/// The configuration file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Log, admin address, ledger file.
    pub process: ProcessConfig,
    /// Directory of the store: data, tokens, generated engine configuration. Default `/var/lib/ja4/clickhouse`.
    pub data: PathBuf,
    /// Folder of the four tokens, which are only read; default `DATA/tokens`, where those that are missing are made.
    pub tokens: Option<PathBuf>,
    /// Address of the HTTP interface, default `127.0.0.1:8123`; port 0 takes a free one, which `DATA/listen` names.
    /// Only loopback unless `tls` is set.
    pub listen: SocketAddr,
    /// The engine, `libchdb.so`; default: the environment's `CHDB_LIB`, else where `scripts/fetch-libchdb` puts it.
    pub library: Option<PathBuf>,
    /// Certificate and key; without it clients are on this machine only.
    pub tls: Option<TlsConfig>,
    /// What the engine may use.
    pub engine: EngineConfig,
    /// Limits of the HTTP interface.
    pub http: HttpConfig,
    /// What each token may read and insert.
    pub access: BTreeMap<ClassName, RulesConfig>,
    /// How often dictionaries are reloaded, default `5m`: the engine does not do it by itself.
    pub dictionary_reload: Span,
    /// Inserts are refused while the file system of `data` has less free space, default `256MiB`: full, the engine
    /// cannot even merge.
    pub disk_free_min: Bytes,
}

/// Files of the certificate chain and the private key, both PEM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// What the engine may use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Memory of the whole engine, default `1GiB`; statements beyond it fail with error 241.
    pub memory_max: Bytes,
    /// Memory of one statement, default `500MiB`.
    pub statement_memory_max: Bytes,
    /// Threads of one statement, default 0: one a core.
    pub statement_threads: u32,
    /// How long a statement may run, default `5m`; clients may ask for up to a day.
    pub statement_time_max: Span,
    /// Threads for merges, default 2.
    pub background_threads: u32,
    /// Cache of marks, default `64MiB`. Raising the caches makes cold queries rarer.
    pub mark_cache: Bytes,
    /// Cache of primary indexes, default `64MiB`.
    pub primary_index_cache: Bytes,
    /// Cache of the marks of skipping indexes, default `16MiB`.
    pub index_mark_cache: Bytes,
}

/// Limits of the HTTP interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Connections at once, default 12288; one more is answered 503 and closed. Each takes a file descriptor; the
    /// process raises its soft limit and says when the hard limit is too low.
    pub connections_max: usize,
    /// Statements that run at once, default 32; each class of client gets at most three quarters of them.
    pub statements_max: usize,
    /// How long a statement waits for its turn, default `30s`; then 503.
    pub queue_timeout: Span,
    /// How long a connection may stay without a request, or take for a request's head, default `60s`.
    pub idle_timeout: Span,
    /// How long the next piece of a body may take, default `30s`.
    pub read_timeout: Span,
    /// How long a client may take nothing of an answer that waits for it, default `60s`; then its connection is
    /// dropped without the end of the answer, and its statement cancelled.
    pub write_timeout: Span,
    /// Longest SQL text, default `1MiB`.
    pub query_max: Bytes,
    /// Longest data of one insert, default `1GiB`.
    pub insert_max: Bytes,
    /// Longest answer in a format that must be made whole (JSON and the like), default `64MiB`, with at most one
    /// row for 64 bytes of it; beyond it error 396. Streamed formats (`JSONEachRow`, `RowBinary`, Native, TSV, CSV) have
    /// no such limit. Raising it takes memory that no limit of a statement counts, up to twice the answer.
    pub result_max: Bytes,
    /// How long running statements get at a stop, default `10s`.
    pub drain_timeout: Span,
}

/// A class of client with rules; the migrator has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassName {
    /// The correlator.
    Writer,
    /// The detector.
    Detector,
    /// The dashboard.
    Dashboard,
}

/// Patterns of `database.table`; `*` stands for any run of characters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// What may be read.
    pub read: Vec<String>,
    /// What may be inserted into.
    pub insert: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let rules = |read: &[&str], insert: &[&str]| RulesConfig {
            read: read.iter().map(|&p| p.to_owned()).collect(),
            insert: insert.iter().map(|&p| p.to_owned()).collect(),
        };
        let everything = ["ja4_logs.*", "ja4_processing.*"];
        Self {
            process: ProcessConfig::default(),
            data: PathBuf::from("/var/lib/ja4/clickhouse"),
            tokens: None,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8123),
            library: None,
            tls: None,
            engine: EngineConfig::default(),
            http: HttpConfig::default(),
            access: BTreeMap::from([
                (
                    ClassName::Writer,
                    rules(&["ja4_logs.*", "ja4_processing.schema_*"], &["ja4_logs.*"]),
                ),
                (ClassName::Detector, rules(&everything, &["ja4_processing.*"])),
                (
                    ClassName::Dashboard,
                    rules(&everything, &["ja4_processing.soc_*"]),
                ),
            ]),
            dictionary_reload: Span::seconds(300),
            disk_free_min: Bytes::mib(256),
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            memory_max: Bytes::mib(1024),
            statement_memory_max: Bytes::mib(500),
            statement_threads: 0,
            statement_time_max: Span::seconds(300),
            background_threads: 2,
            mark_cache: Bytes::mib(64),
            primary_index_cache: Bytes::mib(64),
            index_mark_cache: Bytes::mib(16),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 12_288,
            statements_max: 32,
            queue_timeout: Span::seconds(30),
            idle_timeout: Span::seconds(60),
            read_timeout: Span::seconds(30),
            write_timeout: Span::seconds(60),
            query_max: Bytes::mib(1),
            insert_max: Bytes::mib(1024),
            result_max: Bytes::mib(64),
            drain_timeout: Span::seconds(10),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The address can be reached from outside and tokens would travel in the clear.
    #[error("listen is {0}, which others can reach: set tls, or listen on 127.0.0.1")]
    NotLoopback(SocketAddr),
    /// A pattern cannot be read.
    #[error("access.{class}: {reason}")]
    Pattern {
        /// Whose rules.
        class: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A number is outside of what works.
    #[error("{key} is {value}; it must be {range}")]
    Range {
        /// Name of the key.
        key: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        range: &'static str,
    },
    /// No library is named and no cache directory is known.
    #[error("neither HOME nor XDG_CACHE_HOME is set: set library, --lib or CHDB_LIB to libchdb.so")]
    NoLibrary,
}

/// What the process reads from its environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `CHDB_LIB`.
    pub chdb_lib: Option<PathBuf>,
    /// `XDG_CACHE_HOME`.
    pub xdg_cache_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

/// Limits of the HTTP interface, checked.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// See [`HttpConfig`].
    pub connections_max: usize,
    /// See [`HttpConfig`].
    pub statements_max: usize,
    /// See [`HttpConfig`].
    pub queue_timeout: Duration,
    /// See [`HttpConfig`].
    pub idle_timeout: Duration,
    /// See [`HttpConfig`].
    pub read_timeout: Duration,
    /// See [`HttpConfig`].
    pub write_timeout: Duration,
    /// See [`HttpConfig`].
    pub query_max_bytes: usize,
    /// See [`HttpConfig`].
    pub insert_max_bytes: u64,
    /// See [`HttpConfig`].
    pub result_max_bytes: u64,
    /// See [`HttpConfig`].
    pub drain_timeout: Duration,
}

/// Everything that was checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of the store.
    pub data: PathBuf,
    /// See [`Config`].
    pub tokens: Option<PathBuf>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// `libchdb.so`.
    pub library: PathBuf,
    /// Certificate and key.
    pub tls: Option<TlsConfig>,
    /// What the engine may use.
    pub engine: EngineLimits,
    /// Limits of the HTTP interface.
    pub http: HttpSettings,
    /// Rules by class; the migrator has none.
    pub rules: BTreeMap<Class, Rules>,
    /// See [`Config`].
    pub dictionary_reload: Duration,
    /// See [`Config`].
    pub disk_free_min_bytes: u64,
}

/// Package version below `libchdb/` in the cache; the same as in `scripts/fetch-libchdb`.
const LIBRARY_PACKAGE: &str = "26.7.3-stable.1";

fn default_library(environment: &Environment) -> Option<PathBuf> {
    if let Some(library) = &environment.chdb_lib {
        return Some(library.clone());
    }
    let cache = environment
        .xdg_cache_home
        .clone()
        .or_else(|| environment.home.as_ref().map(|home| home.join(".cache")))?;
    Some(
        cache
            .join("ja4-platform/libchdb")
            .join(LIBRARY_PACKAGE)
            .join("libchdb.so"),
    )
}

impl Config {
    /// Checks what the file says.
    ///
    /// # Errors
    /// [`SettingsError`] names the key and the remedy.
    pub fn check(&self, environment: &Environment) -> Result<Settings, SettingsError> {
        if !self.listen.ip().is_loopback() && self.tls.is_none() {
            return Err(SettingsError::NotLoopback(self.listen));
        }
        let range = |key, value, valid: bool, range| {
            if valid {
                Ok(())
            } else {
                Err(SettingsError::Range { key, value, range })
            }
        };
        let EngineConfig {
            memory_max,
            statement_memory_max,
            background_threads,
            ..
        } = self.engine;
        range(
            "engine.memory_max",
            memory_max.0,
            memory_max.0 >= 256 << 20,
            "at least 256MiB: the engine alone takes 200",
        )?;
        range(
            "engine.statement_memory_max",
            statement_memory_max.0,
            (1 << 20..=memory_max.0).contains(&statement_memory_max.0),
            "between 1MiB and engine.memory_max",
        )?;
        range(
            "engine.background_threads",
            background_threads.into(),
            (1..=64).contains(&background_threads),
            "between 1 and 64",
        )?;
        let statements = self.http.statements_max;
        range(
            "http.statements_max",
            statements as u64,
            (2..=256).contains(&statements),
            "between 2 and 256",
        )?;
        let connections = self.http.connections_max;
        range(
            "http.connections_max",
            connections as u64,
            connections > 0,
            "at least 1",
        )?;
        let query_max = self.http.query_max.0;
        range(
            "http.query_max",
            query_max,
            (1 << 10..=64 << 20).contains(&query_max),
            "between 1KiB and 64MiB",
        )?;
        let mut rules = BTreeMap::new();
        for (name, config) in &self.access {
            let class = match name {
                ClassName::Writer => Class::Writer,
                ClassName::Detector => Class::Detector,
                ClassName::Dashboard => Class::Dashboard,
            };
            let parse = |list: &[String]| -> Result<Vec<Pattern>, SettingsError> {
                list.iter()
                    .map(|text| {
                        text.parse().map_err(|reason| SettingsError::Pattern {
                            class: class.name(),
                            reason,
                        })
                    })
                    .collect()
            };
            rules.insert(
                class,
                Rules {
                    read: parse(&config.read)?,
                    insert: parse(&config.insert)?,
                },
            );
        }
        let library = self
            .library
            .clone()
            .or_else(|| default_library(environment))
            .ok_or(SettingsError::NoLibrary)?;
        Ok(Settings {
            data: self.data.clone(),
            tokens: self.tokens.clone(),
            listen: self.listen,
            library,
            tls: self.tls.clone(),
            engine: EngineLimits {
                memory_max_bytes: memory_max.0,
                query_memory_max_bytes: statement_memory_max.0,
                query_threads: self.engine.statement_threads,
                query_time_max_s: self.engine.statement_time_max.0.as_secs().max(1),
                background_threads,
                mark_cache_bytes: self.engine.mark_cache.0,
                primary_index_cache_bytes: self.engine.primary_index_cache.0,
                index_mark_cache_bytes: self.engine.index_mark_cache.0,
            },
            http: HttpSettings {
                connections_max: connections,
                statements_max: statements,
                queue_timeout: self.http.queue_timeout.0,
                idle_timeout: self.http.idle_timeout.0,
                read_timeout: self.http.read_timeout.0,
                write_timeout: self.http.write_timeout.0,
                query_max_bytes: self.http.query_max.as_usize(),
                insert_max_bytes: self.http.insert_max.0,
                result_max_bytes: self.http.result_max.0,
                drain_timeout: self.http.drain_timeout.0,
            },
            rules,
            dictionary_reload: self.dictionary_reload.0,
            disk_free_min_bytes: self.disk_free_min.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn environment() -> Environment {
        Environment {
            home: Some(PathBuf::from("/home/x")),
            ..Environment::default()
        }
    }

    #[test]
    fn documentation_names_the_default_of_connections() {
        let source = include_str!("config.rs");
        let connections = format!("default {}; one more", HttpConfig::default().connections_max);
        assert!(source.contains(&connections));
    }

    #[test]
    fn sample_is_the_defaults() {
        let path = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/samples/clickhouse.yaml"
        ));
        let sample: Config = ja4_common::config::load(path).unwrap();
        let print = |config: &Config| ja4_common::config::print(config).unwrap();
        assert_eq!(print(&sample), print(&Config::default()));
    }

    #[test]
    fn library_is_found_in_the_cache_or_the_environment() {
        let settings = Config::default().check(&environment()).unwrap();
        assert_eq!(
            settings.library,
            Path::new("/home/x/.cache/ja4-platform/libchdb/26.7.3-stable.1/libchdb.so")
        );
        let environment = Environment {
            chdb_lib: Some(PathBuf::from("/l.so")),
            ..Environment::default()
        };
        assert_eq!(
            Config::default().check(&environment).unwrap().library,
            Path::new("/l.so")
        );
        assert!(matches!(
            Config::default().check(&Environment::default()),
            Err(SettingsError::NoLibrary)
        ));
    }

    #[test]
    fn address_that_others_reach_needs_tls() {
        let mut config = Config {
            listen: "0.0.0.0:8123".parse().unwrap(),
            ..Config::default()
        };
        assert!(
            config
                .check(&environment())
                .unwrap_err()
                .to_string()
                .contains("set tls")
        );
        config.tls = Some(TlsConfig {
            certificate: "c".into(),
            key: "k".into(),
        });
        assert!(config.check(&environment()).is_ok());
    }

    #[test]
    fn nonsense_is_refused_with_its_key() {
        let refused = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check(&environment()).unwrap_err().to_string()
        };
        assert!(refused(&|c| c.engine.memory_max = Bytes::mib(1)).contains("engine.memory_max"));
        assert!(
            refused(&|c| c.engine.statement_memory_max = Bytes::mib(9999)).contains("statement_memory_max")
        );
        assert!(refused(&|c| c.http.statements_max = 0).contains("http.statements_max"));
        let pattern = RulesConfig {
            read: vec!["logs".to_owned()],
            insert: vec![],
        };
        assert!(
            refused(&|c| drop(c.access.insert(ClassName::Writer, pattern.clone()))).contains("access.writer")
        );
    }
}
