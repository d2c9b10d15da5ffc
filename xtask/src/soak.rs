//! `make soak`: every fuzz target for an hour under a coverage-guided engine, then the pipeline under load for long.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::cargo;

/// How long to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Time for each fuzz target, in the form cargo-bolero takes (`90s`, `1h`).
    #[arg(long, default_value = "1h")]
    fuzz_time: String,
    /// How long the pipeline runs under load, in the form `ja4 up --for` takes; `0s` leaves it out.
    #[arg(long, default_value = "1h")]
    pipeline_time: String,
    /// Clients of the demo that run at the same time.
    #[arg(long, default_value_t = 40)]
    bots: u32,
    /// Only fuzz targets whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

/// A test under `tests/fuzz_*.rs` with one `bolero::check!()`.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    package: String,
    /// The name of the integration test that holds it.
    file: String,
    /// The test function.
    name: String,
}

/// Runs all of it; `Ok(false)` when a target found a failing input or the pipeline's ledger did not balance.
///
/// # Errors
/// When the coverage-guided engine is not installed or the pipeline cannot be built.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<bool> {
    let mut targets = targets(root)?;
    targets.retain(|target| {
        options
            .only
            .as_deref()
            .is_none_or(|part| target.name.contains(part))
    });
    let mut failing = Vec::new();
    if !targets.is_empty() {
        require_bolero()?;
    }
    for target in &targets {
        println!(
            "== fuzz {}: {} ({})",
            target.package, target.name, options.fuzz_time
        );
        // libFuzzer's instrumentation needs the nightly compiler; the corpus stays beside the target.
        let result = cargo::check(
            Command::new("cargo")
                .current_dir(root)
                .args([
                    "+nightly",
                    "bolero",
                    "test",
                    "--engine",
                    "libfuzzer",
                    "--rustc-bootstrap",
                ])
                .args(["--package", &target.package])
                .args(["-T", &options.fuzz_time, "--sanitizer", "NONE", &target.name]),
        );
        if let Err(error) = result {
            println!("FAILED: {error:#}");
            failing.push(target.name.clone());
        }
    }
    if options.pipeline_time != "0s" {
        println!("== pipeline under load ({})", options.pipeline_time);
        if let Err(error) = pipeline(root, options) {
            println!("FAILED: {error:#}");
            failing.push("pipeline".to_owned());
        }
    }
    println!(
        "soak: {} fuzz targets, failing: {}",
        targets.len(),
        list(&failing)
    );
    Ok(failing.is_empty())
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn require_bolero() -> anyhow::Result<()> {
    let out = Command::new("cargo")
        .args(["bolero", "--version"])
        .output()
        .context("could not start cargo")?;
    if !out.status.success() {
        bail!("cargo-bolero is not installed; type: cargo install --locked cargo-bolero");
    }
    Ok(())
}

/// The demo under load, whose exit status says whether every equation of the ledger balanced.
fn pipeline(root: &Path, options: &Options) -> anyhow::Result<()> {
    cargo::cargo(root, &["build", "--workspace", "--bins", "--locked"])?;
    cargo::fetch_engine(root)?;
    let target = cargo::target_dir(root)?;
    let data = target.join("soak-data");
    let summary = target.join("soak-summary.json");
    cargo::check(
        Command::new(target.join("debug/ja4"))
            .args(["up", "--demo", "--demo-bots", &options.bots.to_string()])
            .args(["--for", &options.pipeline_time])
            .arg("--data")
            .arg(&data)
            .arg("--summary")
            .arg(&summary),
    )?;
    println!("the ledger is in {}", summary.display());
    Ok(())
}

/// Every fuzz target of the workspace, found by its file name.
fn targets(root: &Path) -> anyhow::Result<Vec<Target>> {
    let metadata = cargo::metadata(root)?;
    let mut targets = Vec::new();
    for package in metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?
    {
        for target in package["targets"]
            .as_array()
            .context("a package lists no targets")?
        {
            let file = target["name"].as_str().unwrap_or_default();
            if target["kind"][0] != "test" || !file.starts_with("fuzz_") {
                continue;
            }
            let path = PathBuf::from(target["src_path"].as_str().context("a target has no source")?);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("could not read {}", path.display()))?;
            let package = package["name"].as_str().unwrap_or_default();
            targets.extend(test_names(&text).map(|name| Target {
                package: package.to_owned(),
                file: file.to_owned(),
                name: name.to_owned(),
            }));
        }
    }
    Ok(targets)
}

/// The functions of a fuzz file that are tests and hold a `check!`.
fn test_names(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[test]").skip(1).filter_map(|item| {
        let (head, body) = item.split_once('{')?;
        let name = head.trim().strip_prefix("fn ")?.split('(').next()?;
        body.contains("check!").then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_targets_are_the_tests_that_check() {
        let text = "//! x\n#[test]\nfn parses_anything() {\n bolero::check!().for_each(|b: &[u8]| {});\n}\n\
                    #[test]\nfn plain() { assert!(true); }\n";
        assert_eq!(test_names(text).collect::<Vec<_>>(), ["parses_anything"]);
    }
}
