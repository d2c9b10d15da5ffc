//! The dashboard's pages: builds them once for each state of their sources, and runs what checks them.
//!
//! The built pages lie in the project's cache, in a folder named by the hash of all that they are made of, so that a fresh
//! clone takes those of an earlier one. Cargo learns the folder by `JA4_WEB_DIST`; `dashboard-ui` embeds it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::cargo;

/// Where the pages' sources are.
const WEB: &str = "dashboard/web";

/// What says that a folder of built pages is whole.
pub(crate) const INDEX: &str = "index.html";

/// Folder of the pages built from these sources; it may not be there yet.
///
/// # Errors
/// When git cannot list the sources, one of them cannot be read, or no cache folder is known.
pub(crate) fn dist(root: &Path) -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("web").join(&sources_hash(root)?[..16]))
}

/// Builds the pages when nobody has built them from these sources yet.
///
/// # Errors
/// When npm is missing or fails.
pub(crate) fn build(root: &Path) -> anyhow::Result<()> {
    let dist = dist(root)?;
    if dist.join(INDEX).is_file() {
        println!("web: {} is there", dist.display());
        return Ok(());
    }
    install(root)?;
    // Beside its place first: who is killed half way leaves no folder that looks whole.
    let name = dist.file_name().context("the cache folder has no name")?;
    let unfinished = dist.with_file_name(format!("{}.{}", name.to_string_lossy(), std::process::id()));
    cargo::check(npm(root).args(["run", "build"]).env("JA4_WEB_DIST", &unfinished))?;
    if !unfinished.join(INDEX).is_file() {
        bail!("npm run build left no {}", unfinished.join(INDEX).display());
    }
    if let Err(error) = std::fs::rename(&unfinished, &dist) {
        // Another build of the same sources was quicker: its pages are the same.
        std::fs::remove_dir_all(&unfinished).context("could not remove the second build of the pages")?;
        if !dist.join(INDEX).is_file() {
            return Err(error).context(format!("could not move the pages to {}", dist.display()));
        }
    }
    Ok(())
}

/// Types, lints, unit tests and the budget of bytes.
///
/// # Errors
/// When npm is missing or a check fails.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    install(root)?;
    for script in ["gen:check", "typecheck", "lint", "test"] {
        cargo::check(npm(root).args(["run", script]))?;
    }
    build(root)?;
    cargo::check(npm(root).args(["run", "size"]).env("JA4_WEB_DIST", dist(root)?))
}

/// The packages that the lock file names, once for each lock file.
///
/// # Errors
/// When npm is missing or cannot get them.
pub(crate) fn install(root: &Path) -> anyhow::Result<()> {
    let lock = std::fs::read(root.join(WEB).join("package-lock.json"))
        .context("could not read dashboard/web/package-lock.json")?;
    let wanted = hex(&Sha256::digest(&lock));
    let stamp = root.join(WEB).join("node_modules/.ja4-lock");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    cargo::check(npm(root).args([
        "ci",
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
        "--loglevel=error",
    ]))?;
    std::fs::write(&stamp, wanted).with_context(|| format!("could not write {}", stamp.display()))
}

fn npm(root: &Path) -> Command {
    let mut command = Command::new("npm");
    command.current_dir(root.join(WEB));
    command
}

/// SHA-256 of names and contents of the tracked and new files of the pages, in order of their names.
fn sources_hash(root: &Path) -> anyhow::Result<String> {
    let out = Command::new("git")
        .current_dir(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            WEB,
        ])
        .output()
        .context("could not start git")?;
    if !out.status.success() {
        bail!("git ls-files {WEB} ended with {}", out.status);
    }
    let mut names: Vec<&[u8]> = out
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    let mut hash = Sha256::new();
    for name in names {
        let name = std::str::from_utf8(name).context("a file of the pages has a name that is not UTF-8")?;
        // A file deleted but not yet committed is no source.
        let Ok(bytes) = std::fs::read(root.join(name)) else {
            continue;
        };
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    Ok(hex(&hash.finalize()))
}

fn cache() -> anyhow::Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    Ok(base
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("ja4-platform"))
}

/// Bytes as small hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}
