//! Runs cargo and reads what it knows of the workspace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::web;

/// A `cargo` command in the workspace; the one that runs xtask, so that a chosen toolchain is kept.
pub(crate) fn command(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // Cargo tells a program that it runs which package that is. Handed on, builds of C code are done again (ring looks at
    // it), and all above them.
    for (name, _) in std::env::vars_os() {
        let is_of_package = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if is_of_package {
            command.env_remove(name);
        }
    }
    // The same value for every run of cargo: a different one would build the dashboard again. Without it the pages are
    // those of dashboard/web/dist, or the page that says how to build them.
    if let Ok(dist) = web::dist(root)
        && dist.join(web::INDEX).is_file()
    {
        command.env("JA4_WEB_DIST", dist);
    }
    command
}

/// Runs cargo with its output on ours.
///
/// # Errors
/// When cargo could not be started or ended with another status than 0.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> anyhow::Result<()> {
    check(command(root).args(args))
}

/// Runs a command with its output on ours.
///
/// # Errors
/// When it could not be started or ended with another status than 0.
pub(crate) fn check(command: &mut Command) -> anyhow::Result<()> {
    // Without the environment, which nobody would type.
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = words
        .map(std::ffi::OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    let status = command
        .status()
        .with_context(|| format!("could not start {shown}"))?;
    if status.success() {
        return Ok(());
    }
    bail!("{shown} ended with {status}")
}

/// What a cargo command prints.
///
/// # Errors
/// When cargo could not be started, ended with another status than 0, or printed no UTF-8.
pub(crate) fn output(root: &Path, args: &[&str]) -> anyhow::Result<String> {
    let out = command(root)
        .args(args)
        .stderr(Stdio::inherit())
        .output()
        .context("could not start cargo")?;
    if !out.status.success() {
        bail!("cargo {} ended with {}", args.join(" "), out.status);
    }
    String::from_utf8(out.stdout).context("cargo printed bytes that are not UTF-8")
}

/// `cargo metadata` of the workspace's own packages.
///
/// # Errors
/// When cargo fails or prints no JSON.
pub(crate) fn metadata(root: &Path) -> anyhow::Result<Value> {
    let text = output(root, &["metadata", "--format-version", "1", "--no-deps"])?;
    serde_json::from_str(&text).context("cargo metadata printed no JSON")
}

/// Where cargo puts what it builds.
///
/// # Errors
/// As [`metadata`].
pub(crate) fn target_dir(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = metadata(root)?;
    let dir = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(dir))
}

/// Fetches the embedded engine when it is not in its cache yet.
///
/// # Errors
/// When the script fails; its own line says what to do.
pub(crate) fn fetch_engine(root: &Path) -> anyhow::Result<()> {
    check(Command::new(root.join("scripts/fetch-libchdb")).current_dir(root))
}
