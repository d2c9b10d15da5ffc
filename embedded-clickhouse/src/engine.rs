//! The engine of this process: boot on a data directory, sessions, and the order in which it ends.
//!
//! Every request gets a session of its own (0.1 ms): after a statement fails half way, the engine prepends what it
//! had written to the next result of the same connection. One more session, the anchor, stays open for the life of
//! the process, because closing the last one stops the engine.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::engine_config::{EngineLimits, config_xml, users_xml};
use crate::ffi::{Api, Connection, LoadError, Parameters};

/// Why the engine does not run.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The library cannot be used.
    #[error("{path}: {source}; run scripts/fetch-libchdb or set --lib")]
    Library {
        /// Path of the library.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// Files of the data directory cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine refused the directory; it says why on standard error only.
    #[error(
        "the engine did not start on {path}; its reason is in the lines above (another process in the directory, \
         no space, files of another user or version)"
    )]
    Refused {
        /// Data directory of the engine.
        path: PathBuf,
    },
}

/// The booted engine. Dropping it closes the anchor and with it the engine; every session must be closed before.
#[derive(Debug)]
pub struct Engine {
    api: Api,
    path_argument: CString,
    /// Held open; used for nothing.
    anchor: Mutex<Option<Connection>>,
    version: String,
}

/// Directory of the engine inside the store's data directory.
pub fn engine_directory(data: &Path) -> PathBuf {
    data.join("engine")
}

fn argument(name: &str, value: &Path) -> CString {
    let mut bytes = name.as_bytes().to_vec();
    bytes.extend_from_slice(value.as_os_str().as_bytes());
    CString::new(bytes).expect("a path has no NUL byte")
}

impl Engine {
    /// Loads the library, writes the configuration under `data/config` and boots on `data/engine`.
    ///
    /// # Errors
    /// [`BootError`] says what failed and what mends it.
    pub fn boot(library: &Path, data: &Path, limits: &EngineLimits) -> Result<Self, BootError> {
        let api = Api::load(library).map_err(|source| BootError::Library {
            path: library.to_owned(),
            source,
        })?;
        let config_directory = data.join("config");
        let config_file = config_directory.join("config.xml");
        let users_file = config_directory.join("users.xml");
        let path = engine_directory(data);
        // The engine makes every file name in the working directory a table of its database `default`.
        let working_directory = data.join("empty");
        for directory in [&config_directory, &path, &working_directory] {
            fs::create_dir_all(directory).map_err(|source| BootError::Write {
                path: directory.clone(),
                source,
            })?;
        }
        for (file, content) in [
            (&users_file, users_xml(limits)),
            (&config_file, config_xml(limits, &users_file)),
        ] {
            fs::write(file, content).map_err(|source| BootError::Write {
                path: file.clone(),
                source,
            })?;
        }
        std::env::set_current_dir(&working_directory).map_err(|source| BootError::Write {
            path: working_directory.clone(),
            source,
        })?;
        let path_argument = argument("--path=", &path);
        let arguments = [
            c"ja4-clickhouse".to_owned(),
            path_argument.clone(),
            argument("--config-file=", &config_file),
            c"--implicit_select=0".to_owned(),
        ];
        let refused = || BootError::Refused { path: path.clone() };
        let mut anchor = Connection::open(api, &arguments).ok_or_else(refused)?;
        let version = anchor
            .query(b"SELECT version()", "TSV", &Parameters::default())
            .map_err(|_| refused())?;
        let version = String::from_utf8_lossy(version.as_ref()).trim_end().to_owned();
        Ok(Self {
            api,
            path_argument,
            anchor: Mutex::new(Some(anchor)),
            version,
        })
    }

    /// The engine's own version, for example `26.7.2.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Opens a session whose statements carry `tag` in `system.processes`, with settings that the engine knows. None
    /// when the engine refuses, which it does not while it runs and the values are right.
    pub fn session(&self, tag: &str, settings: &[(&str, String)]) -> Option<Connection> {
        let tag: String = tag
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        let mut arguments = vec![
            c"ja4-clickhouse".to_owned(),
            self.path_argument.clone(),
            c"--implicit_select=0".to_owned(),
        ];
        for (name, value) in [("log_comment", tag)].iter().chain(settings) {
            arguments.push(CString::new(format!("--{name}={value}")).ok()?);
        }
        Connection::open(self.api, &arguments)
    }

    /// Closes the anchor; with every other session closed this stops the engine and frees the directory.
    pub fn close(&self) {
        let anchor = self
            .anchor
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        drop(anchor);
    }
}
