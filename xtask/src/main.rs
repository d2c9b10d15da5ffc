//! `cargo xtask`: what a `make` target would need a script for — the stages of a check, the tidy rules, images, tests on a
//! cluster, benches, soaks.
//!
//! Each subcommand is one module. Read [`ci`] first: it names every stage that a change must pass.
#![expect(
    clippy::print_stdout,
    reason = "a build tool talks to the person who typed it"
)]

mod bench;
mod cargo;
mod charts;
mod ci;
mod claim;
mod e2e;
mod images;
mod soak;
mod test_run;
mod tidy;
mod web;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's build tool.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every stage that a change must pass, each with its time; closes with `N passed, N failed`.
    Ci(ci::Options),
    /// The rules of the style guide that no compiler checks.
    Tidy,
    /// Build the pages and every binary, and fetch the embedded engine.
    Build,
    /// Build, then start the whole pipeline with the demo; what follows goes to `ja4 up`.
    Run {
        /// Arguments for `ja4 up` in place of `--demo`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Write one image archive for each component, for containerd, Docker, Podman and kind.
    Images(images::Options),
    /// Run the tests on a real cluster that is started for them and leaves nothing behind.
    E2e(e2e::Options),
    /// Print the figures of every component beside the machine and the floor of each.
    Bench(bench::Options),
    /// Fuzz every parser for an hour and run the pipeline under load for long.
    Soak(soak::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)` when the command ran and found something wrong, which it has already said.
fn run(cli: Cli) -> anyhow::Result<bool> {
    let root = workspace_root();
    claim::target(&root)?;
    match cli.command {
        Command::Ci(options) => Ok(ci::run(&root, &options)),
        Command::Tidy => Ok(ci::report_findings(&tidy::findings(&root)?)),
        Command::Build => build(&root).map(|()| true),
        Command::Run { args } => {
            build(&root)?;
            start(&root, &args)
        }
        Command::Images(options) => images::run(&root, &options).map(|_| true),
        Command::E2e(options) => match e2e::run(&root, &options)? {
            e2e::Outcome::Ran(counts) => {
                println!("{}", counts.describe());
                Ok(counts.n_failed == 0)
            }
            e2e::Outcome::Skipped(why) => {
                println!("skipped: {why}");
                Ok(true)
            }
        },
        Command::Bench(options) => bench::run(&root, &options),
        Command::Soak(options) => soak::run(&root, &options),
    }
}

fn build(root: &Path) -> anyhow::Result<()> {
    web::build(root)?;
    cargo::cargo(root, &["build", "--workspace", "--bins"])?;
    cargo::fetch_engine(root)
}

/// Becomes `ja4 up`, so that ctrl-C and the exit status are its own.
fn start(root: &Path, args: &[String]) -> anyhow::Result<bool> {
    use std::os::unix::process::CommandExt as _;
    let ja4 = cargo::target_dir(root)?.join("debug").join("ja4");
    let mut command = std::process::Command::new(&ja4);
    command.arg("up");
    if args.is_empty() {
        command.arg("--demo");
    } else {
        command.args(args);
    }
    Err(anyhow::Error::new(command.exec()).context(format!("could not start {}", ja4.display())))
}

/// The folder of the root `Cargo.toml`. Cargo names it when it runs us: clones that share a build folder share this
/// binary too, and the one it was built in may be another.
fn workspace_root() -> PathBuf {
    let mut root = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    root.pop();
    root
}
