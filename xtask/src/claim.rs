//! Makes cargo build anew what another clone has built into the folder that both share.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;

use crate::{cargo, tidy};

/// Who built last: the folder of its workspace.
const OWNER: &str = "workspace-root";

/// Marks every source file as new when another clone built last. Cargo compares times of files only: it would take a
/// program of the other clone for ours, with the other's folder in its `env!("CARGO_MANIFEST_DIR")`.
///
/// # Errors
/// When the sources or the folder cannot be read or written.
pub(crate) fn target(root: &Path) -> anyhow::Result<()> {
    let dir = cargo::target_dir(root)?;
    let owner = dir.join(OWNER);
    let ours = root.display().to_string();
    match std::fs::read_to_string(&owner) {
        Ok(last) if last == ours => return Ok(()),
        Ok(_) => renew(root)?,
        // Nobody has built here, or somebody before there was this file.
        Err(_) if dir.join("debug").exists() => renew(root)?,
        Err(_) => {}
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    std::fs::write(&owner, ours).with_context(|| format!("could not write {}", owner.display()))
}

fn renew(root: &Path) -> anyhow::Result<()> {
    let now = SystemTime::now();
    for path in tidy::tracked_files(root)? {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let file = root.join(&path);
            File::options()
                .write(true)
                .open(&file)
                .and_then(|opened| opened.set_modified(now))
                .with_context(|| format!("could not touch {}", file.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sources_are_marked_as_new_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for name in ["a.rs", "b.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
            let file = File::options().write(true).open(dir.path().join(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        let init = std::process::Command::new("git")
            .arg("init")
            .arg("-q")
            .current_dir(dir.path())
            .status();
        assert!(init.unwrap().success());
        renew(dir.path()).unwrap();
        let modified = |name: &str| {
            std::fs::metadata(dir.path().join(name))
                .unwrap()
                .modified()
                .unwrap()
        };
        assert!(modified("a.rs") > long_ago);
        assert_eq!(modified("b.txt"), long_ago);
    }
}
