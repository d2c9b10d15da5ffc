//! `make soak`: every fuzz target for an hour under a coverage-guided engine, kill -9 by the hundred, load for long.

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
    /// How many processes each test of exactly-once kills; 0 leaves them out.
    #[arg(long, default_value_t = 500)]
    kills: u32,
    /// Clients of the demo that run at the same time.
    #[arg(long, default_value_t = 40)]
    bots: u32,
    /// Only fuzz targets whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

/// Tests that kill as many processes as `JA4_SOAK_KILLS` says: package, test executable, which of its tests.
const KILL_TESTS: [(&str, &str, &str); 5] = [
    ("ja4-transport", "exactly_once", ""),
    ("ja4-spool", "exactly_once", ""),
    ("embedded-clickhouse", "store", "exactly_once"),
    ("correlator", "exactly_once", ""),
    ("correlator", "hop_exactly_once", ""),
];

/// A test with one `bolero::check!()`: under `tests/fuzz_*.rs`, or beside the code of a program, which has no other place.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    package: String,
    /// The test function, with the path of its module.
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
        if let Err(error) = fuzz(root, target, &options.fuzz_time) {
            println!("FAILED: {error:#}");
            failing.push(target.name.clone());
        }
    }
    for (package, test, filter) in KILL_TESTS {
        if options.kills == 0 {
            break;
        }
        println!("== kill -9 ({} in {package})", options.kills);
        let result = cargo::check(
            Command::new("cargo")
                .current_dir(root)
                .env("JA4_SOAK_KILLS", options.kills.to_string())
                .args(["test", "--locked", "--package", package, "--test", test])
                .args(["--", "--nocapture", filter]),
        );
        if let Err(error) = result {
            println!("FAILED: {error:#}");
            failing.push(format!("{package}/{test}"));
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

/// Runs one target under libFuzzer; inputs that reach new code are kept for the next time.
fn fuzz(root: &Path, target: &Target, time: &str) -> anyhow::Result<()> {
    let folder = cargo::target_dir(root)?.join("fuzz");
    let inputs = |kind: &str| folder.join(kind).join(&target.package).join(&target.name);
    let (corpus, crashes) = (inputs("corpus"), inputs("crashes"));
    std::fs::create_dir_all(&corpus).with_context(|| format!("could not make {}", corpus.display()))?;
    let no_coverage = folder.join("no_coverage.o");
    cargo::check(
        Command::new("cc")
            .current_dir(root)
            .args(["-O1", "-fPIC", "-c", "xtask/src/no_coverage.c", "-o"])
            .arg(&no_coverage),
    )?;
    // Instrumentation is an unstable flag; the stable compiler takes it when told so.
    cargo::check(
        Command::new("cargo")
            .current_dir(root)
            .args(["bolero", "test", &target.name, "--package", &target.package])
            .args([
                "--engine",
                "libfuzzer",
                "--rustc-bootstrap",
                "--sanitizer",
                "NONE",
            ])
            .args(["--profile", "dev", "-T", time])
            .arg("--target-dir")
            .arg(&folder)
            .arg("--corpus-dir")
            .arg(&corpus)
            .arg("--crashes-dir")
            .arg(&crashes)
            .env("RUSTFLAGS", format!("-Clink-arg={}", no_coverage.display())),
    )
    .with_context(|| format!("what made it fail is in {}", crashes.display()))
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

/// Every fuzz target of the workspace, found by what its file holds.
fn targets(root: &Path) -> anyhow::Result<Vec<Target>> {
    let metadata = cargo::metadata(root)?;
    let mut targets = Vec::new();
    for package in metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?
    {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = Path::new(
            package["manifest_path"]
                .as_str()
                .context("a package has no place")?,
        );
        let folder = manifest.parent().context("a manifest lies in a folder")?;
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        for path in fuzz_files(&folder.join("tests"))? {
            let text = read(&path)?;
            targets.extend(test_names(&text).map(|test| Target {
                package: name.to_owned(),
                name: test.to_owned(),
            }));
        }
        let source = folder.join("src");
        for path in rust_files(&source)? {
            let text = read(&path)?;
            let module = module_of(path.strip_prefix(&source).context("found under src")?);
            targets.extend(test_names(&text).map(|test| Target {
                package: name.to_owned(),
                name: format!("{module}::tests::{test}"),
            }));
        }
    }
    Ok(targets)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}

/// `fuzz_*.rs` directly in a folder, which need not exist.
fn fuzz_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = rust_files(folder)?;
    files.retain(|path| {
        path.parent() == Some(folder)
            && path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("fuzz_"))
    });
    Ok(files)
}

/// Every source file below a folder, which need not exist, in order.
fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(error).with_context(|| format!("could not read {}", folder.display())),
    };
    for entry in entries {
        let path = entry
            .with_context(|| format!("could not read {}", folder.display()))?
            .path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The module that a file below `src` is, for example `capture::pcapng`.
fn module_of(path: &Path) -> String {
    let path = path.with_extension("");
    let mut parts: Vec<_> = path
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts.join("::")
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

    #[test]
    fn a_file_is_the_module_of_its_path() {
        assert_eq!(module_of(Path::new("capture/pcapng.rs")), "capture::pcapng");
        assert_eq!(module_of(Path::new("capture/mod.rs")), "capture");
    }

    #[test]
    fn fuzz_targets_of_tests_and_of_programs_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let found: Vec<String> = targets(&root)
            .unwrap()
            .into_iter()
            .map(|target| format!("{}/{}", target.package, target.name))
            .collect();
        for name in [
            "sensor-wire/fuzz_client_hello",
            "sensor-ds/capture::pcapng::tests::",
        ] {
            assert!(
                found.iter().any(|target| target.starts_with(name)),
                "{name}: {found:#?}"
            );
        }
        // Its own tests hold the words, and are no target.
        assert!(
            !found.iter().any(|target| target.starts_with("xtask/")),
            "{found:#?}"
        );
    }
}
