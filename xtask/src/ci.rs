//! The stages that a change must pass, in order, each with its name, result and time.
//!
//! A failing stage does not stop the next ones, so that one run tells everything; only the tests need the build.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::{cargo, charts, e2e, test_run, tidy, web};

/// What to run of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these stages, in their usual order.
    #[arg(long, value_delimiter = ',', value_name = "STAGE")]
    only: Vec<Stage>,
    /// Only the tests of these packages.
    #[arg(long, value_delimiter = ',', value_name = "PACKAGE")]
    package: Vec<String>,
}

/// Quick ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stage {
    /// `cargo fmt --check`
    Fmt,
    /// `cargo xtask tidy`
    Tidy,
    /// the dashboard's pages: types, lints, unit tests, build, budget of bytes
    Web,
    /// `cargo clippy` with warnings as errors
    Lint,
    /// `cargo doc` with warnings as errors
    Doc,
    /// every binary and test
    Build,
    /// the embedded engine, fetched once and checked
    Engine,
    /// unit, property, integration and documentation tests, package by package
    Test,
    /// a part of the tests on a real cluster
    E2e,
    /// generated files of the operator as the types say, charts, alerts
    Charts,
    /// licences, banned crates and sources of the dependencies
    Deny,
}

const STAGES: [Stage; 11] = [
    Stage::Fmt,
    Stage::Tidy,
    Stage::Web,
    Stage::Lint,
    Stage::Doc,
    Stage::Build,
    Stage::Engine,
    Stage::Test,
    Stage::E2e,
    Stage::Charts,
    Stage::Deny,
];

/// What `E2e` runs of the tests on a cluster: its images, the operator's whole way, the sensor's rights,
/// every path of a client's packets, and the rules of the resource. `cargo xtask e2e` runs all.
const E2E_PART: [&str; 5] = ["cluster", "operator", "paths", "sensor", "validate"];

/// How a stage ended.
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
    Tests(test_run::Counts),
}

/// Runs the stages; whether all passed. What goes wrong inside a stage is that stage's failure.
pub(crate) fn run(root: &Path, options: &Options) -> bool {
    let mut lines = Vec::new();
    let (mut n_passed, mut n_failed) = (0, 0);
    let mut built = true;
    for stage in STAGES {
        if !options.only.is_empty() && !options.only.contains(&stage) {
            continue;
        }
        let name = format!("{stage:?}").to_lowercase();
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = if stage == Stage::Test && !built {
            Outcome::Skipped("the build failed".to_owned())
        } else {
            run_stage(root, stage, options).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
        };
        let result = match outcome {
            Outcome::Passed => {
                n_passed += 1;
                "ok".to_owned()
            }
            Outcome::Failed(why) => {
                n_failed += 1;
                built &= stage != Stage::Build;
                format!("FAILED: {why}")
            }
            Outcome::Skipped(why) => format!("skipped: {why}"),
            Outcome::Tests(counts) => {
                n_passed += counts.n_passed;
                n_failed += counts.n_failed;
                counts.describe()
            }
        };
        let line = format!("{name:<8} {:>8}  {result}", seconds(start.elapsed()));
        println!("{line}");
        lines.push(line);
    }
    println!("\n== summary\n{}\n", lines.join("\n"));
    println!("{n_passed} passed, {n_failed} failed");
    n_failed == 0
}

fn run_stage(root: &Path, stage: Stage, options: &Options) -> anyhow::Result<Outcome> {
    match stage {
        Stage::Fmt => cargo::cargo(root, &["fmt", "--all", "--check"])?,
        Stage::Tidy => {
            let findings = tidy::findings(root)?;
            if !report_findings(&findings) {
                bail!("{} findings", findings.len());
            }
        }
        Stage::Web => web::check(root)?,
        Stage::Lint => {
            cargo::cargo(
                root,
                &[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--locked",
                    "--",
                    "-D",
                    "warnings",
                ],
            )?;
        }
        Stage::Doc => cargo::check(
            cargo::command(root)
                .args([
                    "doc",
                    "--workspace",
                    "--no-deps",
                    "--locked",
                    "--document-private-items",
                ])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )?,
        Stage::Build => {
            cargo::cargo(root, &["build", "--workspace", "--locked"])?;
            cargo::cargo(root, &["test", "--workspace", "--locked", "--no-run"])?;
        }
        Stage::Engine => cargo::fetch_engine(root)?,
        Stage::Test => return test_run::run(root, &options.package).map(Outcome::Tests),
        Stage::E2e => {
            return Ok(match e2e::run(root, &e2e::Options::part(&E2E_PART))? {
                e2e::Outcome::Ran(counts) => Outcome::Tests(counts),
                e2e::Outcome::Skipped(why) => Outcome::Skipped(why),
            });
        }
        Stage::Charts => return charts::check(root),
        Stage::Deny => {
            // Compiling cargo-deny takes minutes, and its advisories need a database from the network:
            // it is used where it is installed, and for what it can tell from the lock file alone.
            let installed = Command::new("cargo-deny").arg("--version").output();
            if !installed.is_ok_and(|out| out.status.success()) {
                return Ok(Outcome::Skipped(
                    "cargo-deny is not installed (cargo install --locked cargo-deny)".to_owned(),
                ));
            }
            cargo::cargo(
                root,
                &["deny", "--offline", "check", "licenses", "bans", "sources"],
            )?;
        }
    }
    Ok(Outcome::Passed)
}

/// Prints the findings; whether there were none.
pub(crate) fn report_findings(findings: &[String]) -> bool {
    for finding in findings {
        println!("tidy: {finding}");
    }
    findings.is_empty()
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}
