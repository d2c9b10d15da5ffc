//! Which of the system's HTTP clients are here, and where.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A program that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// curl with OpenSSL.
    Curl,
    /// `openssl s_client`.
    Openssl,
    /// wget with `GnuTLS`.
    Wget,
    /// `gnutls-cli`.
    Gnutls,
    /// Node.js.
    Node,
    /// Python with its `ssl`.
    Python,
    /// The browser of the people.
    Chromium,
}

impl Program {
    const ALL: [Self; 7] = [
        Self::Curl,
        Self::Openssl,
        Self::Wget,
        Self::Gnutls,
        Self::Node,
        Self::Python,
        Self::Chromium,
    ];

    /// Its file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Openssl => "openssl",
            Self::Wget => "wget",
            Self::Gnutls => "gnutls-cli",
            Self::Node => "node",
            Self::Python => "python3",
            Self::Chromium => "chromium",
        }
    }

    const fn debian_package(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Openssl => "openssl",
            Self::Wget => "wget",
            Self::Gnutls => "gnutls-bin",
            Self::Node => "nodejs",
            Self::Python => "python3",
            Self::Chromium => "chromium",
        }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Programs {
    paths: BTreeMap<Program, PathBuf>,
    /// Ends a program with us, even if we are killed.
    setpriv: Option<PathBuf>,
}

impl Programs {
    /// Looks in the system's folders first: a shim in `PATH` costs a shell for each start.
    pub fn find() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = ["/usr/bin", "/usr/local/bin", "/bin"]
            .iter()
            .map(PathBuf::from)
            .chain(std::env::split_paths(&path))
            .collect();
        let find = |name: &str| {
            folders
                .iter()
                .map(|folder| folder.join(name))
                .find(|path| path.is_file())
        };
        let mut paths = BTreeMap::new();
        for program in Program::ALL {
            if let Some(path) = find(program.name()) {
                paths.insert(program, path);
            } else {
                tracing::warn!(
                    "{} is not here, its clients do not run: apt-get install {}",
                    program.name(),
                    program.debian_package()
                );
            }
        }
        Self {
            paths,
            setpriv: find("setpriv"),
        }
    }

    /// True if it can be started.
    pub fn has(&self, program: Program) -> bool {
        self.paths.contains_key(&program)
    }

    /// A command that ends with this process.
    pub(crate) fn command(&self, program: Program) -> Option<tokio::process::Command> {
        let path = self.paths.get(&program)?;
        Some(self.start_with(&[path.as_os_str()]))
    }

    /// As [`Programs::command`], started by a line of shell in which `$0` is the program and `$@` its arguments.
    pub(crate) fn shell_command(&self, program: Program, line: &str) -> Option<tokio::process::Command> {
        let path = self.paths.get(&program)?;
        let parts = ["/bin/sh", "-c", line].map(OsStr::new);
        Some(self.start_with(&[parts.as_slice(), &[path.as_os_str()]].concat()))
    }

    fn start_with(&self, parts: &[&OsStr]) -> tokio::process::Command {
        let setpriv = self.setpriv.as_deref().map(Path::as_os_str);
        let prefix: Vec<&OsStr> = setpriv
            .into_iter()
            .chain(["--pdeathsig", "KILL", "--"].map(OsStr::new))
            .collect();
        let parts: Vec<&OsStr> = match setpriv {
            Some(_) => prefix.into_iter().chain(parts.iter().copied()).collect(),
            None => parts.to_vec(),
        };
        let mut command = tokio::process::Command::new(parts[0]);
        command.args(&parts[1..]).kill_on_drop(true).process_group(0);
        command
    }
}
