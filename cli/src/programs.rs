//! Finds the other binaries: beside this one first, so that a build never starts an installed older one, then on `PATH`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Where to look.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    folders: Vec<PathBuf>,
}

impl Programs {
    /// The folder of this binary, then those of `PATH`.
    ///
    /// # Errors
    /// When the kernel does not say where this binary is.
    pub(crate) fn from_environment(path: Option<&OsStr>) -> anyhow::Result<Self> {
        let ja4 = std::env::current_exe().context("could not find this binary")?;
        let beside = ja4.parent().map(Path::to_owned);
        Ok(Self {
            folders: beside
                .into_iter()
                .chain(path.into_iter().flat_map(std::env::split_paths))
                .collect(),
        })
    }

    /// The full path of a binary.
    ///
    /// # Errors
    /// When no folder has it.
    pub(crate) fn find(&self, name: &str) -> anyhow::Result<PathBuf> {
        let found = self
            .folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| is_executable(path));
        match found {
            Some(path) => Ok(path),
            None => bail!(
                "{name} is neither beside ja4 nor on PATH; build it with `make build` or install its package"
            ),
        }
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_earlier_in_the_list_wins_and_plain_files_do_not_count() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let folders = ["a", "b", "c"].map(|name| dir.path().join(name));
        for (folder, mode) in folders.iter().zip([0o644, 0o755, 0o755]) {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("tool"), "x").unwrap();
            std::fs::set_permissions(folder.join("tool"), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let programs = Programs {
            folders: folders.to_vec(),
        };
        assert_eq!(programs.find("tool").unwrap(), folders[1].join("tool"));
        let error = programs.find("gone").unwrap_err().to_string();
        assert!(
            error.starts_with("gone is neither beside ja4 nor on PATH"),
            "{error}"
        );
    }
}
