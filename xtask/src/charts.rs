//! What is checked of the operator outside of Rust: generated files, charts, alerts.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::ci::Outcome;
use crate::{cargo, e2e};

/// Checks all of it; what lacks a program is said and left out.
///
/// # Errors
/// When a check fails, with its words above.
pub(crate) fn check(root: &Path) -> anyhow::Result<Outcome> {
    cargo::cargo(
        root,
        &[
            "run",
            "--quiet",
            "--locked",
            "-p",
            "operator-api",
            "--bin",
            "crdgen",
            "--",
            "--check",
        ],
    )?;
    let mut skipped = Vec::new();
    let helm = find("helm").or_else(|| e2e::kit_program(root, "helm"));
    match helm {
        Some(helm) => run(root, "charts/test.sh", &[("HELM", &helm)])?,
        None => skipped.push("charts: helm is missing (cargo xtask e2e builds a kit that has it)"),
    }
    if find("promtool").is_some() {
        run(root, "operator/monitoring/test.sh", &[])?;
    } else {
        skipped.push("alerts: promtool is missing (apt-get install --no-install-recommends prometheus)");
    }
    Ok(if skipped.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Skipped(skipped.join("; "))
    })
}

fn run(root: &Path, script: &str, environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut command = Command::new(root.join(script));
    command.current_dir(root).envs(environment.iter().copied());
    cargo::check(&mut command).with_context(|| script.to_owned())
}

/// A program of the path.
fn find(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
}
