//! Runs the test executables that cargo built, quick packages first, and counts what they report.
//!
//! The executables are run one after the other and not through `cargo test -p`, which would build the
//! dependencies again with the features that one package alone asks for.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{cargo, e2e};

/// Packages in the order of their tests: pure and quick ones first, whole paths last. Others go between.
const FIRST: &[&str] = &[
    "ja4-model",
    "xtask",
    "sensor-wire",
    "sensor-flow",
    "correlator-engine",
    "detector-forest",
    "ja4-identity",
    "ja4-reasons",
    "ja4-emit",
    "ja4-spool",
    "ja4-common",
    "ja4-transport",
];
const LAST: &[&str] = &[
    "sensor-ds",
    "ja4-schema",
    "embedded-clickhouse",
    "demo",
    "correlator",
    "detector",
    "dashboard",
    "cli",
    "operator",
];

/// No test executable may take longer. The longest here (hundreds of kill -9 of the store) takes a few
/// minutes on two cores; the limit is what a hung one may cost of a run.
const EXECUTABLE_LIMIT: Duration = Duration::from_mins(20);

/// Tests by result.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) n_passed: u64,
    pub(crate) n_failed: u64,
    n_ignored: u64,
    /// Executables with a failure or without a result.
    failing: Vec<String>,
}

impl Counts {
    /// One line for the summary.
    pub(crate) fn describe(&self) -> String {
        let counts = format!(
            "{} passed, {} failed, {} ignored",
            self.n_passed, self.n_failed, self.n_ignored
        );
        if self.failing.is_empty() {
            format!("ok: {counts}")
        } else {
            format!("FAILED: {counts}; failing: {}", self.failing.join(", "))
        }
    }

    /// Adds what a line of libtest's output says, if it is a result line.
    fn read_line(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix("test result: ") else {
            return false;
        };
        let count = |word: &str| {
            rest.split(['.', ';'])
                .filter_map(|part| part.trim().strip_suffix(word))
                .find_map(|n| n.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        self.n_passed += count("passed");
        self.n_failed += count("failed");
        self.n_ignored += count("ignored");
        true
    }

    fn add(&mut self, other: Self) {
        self.n_passed += other.n_passed;
        self.n_failed += other.n_failed;
        self.n_ignored += other.n_ignored;
        self.failing.extend(other.failing);
    }
}

/// One executable of `cargo test --no-run`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TestBinary {
    package: String,
    /// Unit tests come before the files under `tests/`.
    is_integration: bool,
    target: String,
    executable: PathBuf,
    manifest_dir: PathBuf,
}

/// Runs every test, or those of the named packages, then the documentation's examples.
///
/// # Errors
/// When the executables cannot be listed or started.
pub(crate) fn run(root: &Path, packages: &[String]) -> anyhow::Result<Counts> {
    let mut binaries = list(root, &[])?;
    binaries.retain(|binary| {
        if packages.is_empty() {
            // These need a cluster, which `cargo xtask e2e` has.
            !(binary.package == e2e::PACKAGE && binary.is_integration)
        } else {
            packages.contains(&binary.package)
        }
    });
    binaries.sort_by_key(|binary| {
        (
            rank(&binary.package),
            binary.package.clone(),
            binary.is_integration,
            binary.target.clone(),
        )
    });
    let mut total = Counts::default();
    let mut times = Vec::new();
    for binary in &binaries {
        let label = format!("{}/{}", binary.package, binary.target);
        println!("     Running {label}");
        let start = Instant::now();
        let mut command = Command::new(&binary.executable);
        // What cargo itself would set for it and the tests here may read.
        command
            .current_dir(&binary.manifest_dir)
            .env("CARGO_MANIFEST_DIR", &binary.manifest_dir)
            .env("CARGO_PKG_NAME", &binary.package);
        total.add(run_one(&label, &mut command)?);
        times.push((start.elapsed(), label));
    }
    println!("     Running documentation examples");
    let mut doc = cargo::command(root);
    doc.args(["test", "--locked", "--doc", "--quiet"]);
    if packages.is_empty() {
        doc.arg("--workspace");
    }
    for package in packages {
        doc.args(["--package", package]);
    }
    if packages.is_empty() || binaries.iter().any(|binary| has_library(&binary.manifest_dir)) {
        total.add(run_one("doc", &mut doc)?);
    }
    times.sort_by(|a, b| b.cmp(a));
    println!("slowest:");
    for (elapsed, label) in times.iter().take(8) {
        println!("  {:>7.1} s  {label}", elapsed.as_secs_f64());
    }
    Ok(total)
}

fn has_library(manifest_dir: &Path) -> bool {
    manifest_dir.join("src/lib.rs").exists()
}

fn rank(package: &str) -> usize {
    let place = |list: &[&str]| list.iter().position(|&name| name == package);
    match (place(FIRST), place(LAST)) {
        (Some(idx), _) => idx,
        (None, Some(idx)) => FIRST.len() + 1 + idx,
        (None, None) => FIRST.len(),
    }
}

/// Builds the integration tests of one package and nothing that they do not need.
///
/// # Errors
/// When cargo fails.
pub(crate) fn build_package(root: &Path, package: &str) -> anyhow::Result<()> {
    integration_tests(root, package).map(drop)
}

/// Runs the integration tests of one package, all or those named, one executable after the other, with more variables.
///
/// # Errors
/// When the executables cannot be listed or started, or one that was named is not there.
pub(crate) fn run_package(
    root: &Path,
    package: &str,
    only: &[String],
    variables: &[(&str, &Path)],
) -> anyhow::Result<Counts> {
    let binaries = integration_tests(root, package)?;
    if let Some(unknown) = only
        .iter()
        .find(|name| !binaries.iter().any(|b| b.target == **name))
    {
        let known: Vec<&str> = binaries.iter().map(|binary| binary.target.as_str()).collect();
        bail!("{package} has no tests {unknown}; it has {}", known.join(", "));
    }
    let mut total = Counts::default();
    for binary in binaries {
        if !only.is_empty() && !only.contains(&binary.target) {
            continue;
        }
        println!("     Running {package}/{}", binary.target);
        let mut command = Command::new(&binary.executable);
        command
            .current_dir(&binary.manifest_dir)
            .env("CARGO_MANIFEST_DIR", &binary.manifest_dir)
            .env("CARGO_TARGET_DIR", cargo::target_dir(root)?)
            .envs(variables.iter().copied());
        total.add(run_one(&binary.target, &mut command)?);
    }
    Ok(total)
}

fn integration_tests(root: &Path, package: &str) -> anyhow::Result<Vec<TestBinary>> {
    let metadata = cargo::metadata(root)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages
        .filter(|found| found["name"] == package)
        .flat_map(|found| found["targets"].as_array().into_iter().flatten())
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str());
    // Tests of the same name in other packages would be built as well: these have names of their own.
    let arguments: Vec<&str> = targets.flat_map(|name| ["--test", name]).collect();
    if arguments.is_empty() {
        bail!("{package} has no integration tests");
    }
    let mut binaries = list(root, &arguments)?;
    binaries.retain(|binary| binary.package == package);
    binaries.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(binaries)
}

/// Builds the tests that the arguments choose, or all, and lists their executables.
fn list(root: &Path, arguments: &[&str]) -> anyhow::Result<Vec<TestBinary>> {
    let all = [
        "test",
        "--workspace",
        "--locked",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ];
    let text = cargo::output(root, &[&all, arguments].concat())?;
    let mut binaries = Vec::new();
    for line in text.lines() {
        let message: Value = serde_json::from_str(line).context("cargo printed a line that is no JSON")?;
        binaries.extend(test_binary(&message));
    }
    Ok(binaries)
}

fn test_binary(message: &Value) -> Option<TestBinary> {
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let executable = message["executable"].as_str().filter(|_| is_test)?;
    let manifest_dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    Some(TestBinary {
        package: package_name(message["package_id"].as_str()?),
        is_integration: message["target"]["kind"][0] == "test",
        target: message["target"]["name"].as_str()?.to_owned(),
        executable: PathBuf::from(executable),
        manifest_dir,
    })
}

/// The name in cargo's package id: `path+file:///…/lib/model#ja4-model@0.1.0`, or `…/cli#0.1.0` when the
/// folder has the package's name.
fn package_name(id: &str) -> String {
    let (path, fragment) = id.split_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}

/// Runs one executable, passes its lines on and counts them; kills it at the limit.
fn run_one(label: &str, command: &mut Command) -> anyhow::Result<Counts> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {label}"))?;
    let stdout = child.stdout.take().context("the pipe was asked for above")?;
    let (tx, rx) = mpsc::channel();
    // Not joined: a process that a killed test leaves behind may keep the pipe open.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if tx.send(line).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + EXECUTABLE_LIMIT;
    let mut counts = Counts::default();
    let mut has_result = false;
    let timed_out = loop {
        match rx.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                has_result |= counts.read_line(&line);
                println!("{line}");
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break false,
            Err(mpsc::RecvTimeoutError::Timeout) => break true,
        }
    };
    if timed_out {
        println!(
            "xtask: {label} took longer than {} s and was killed",
            EXECUTABLE_LIMIT.as_secs()
        );
        child.kill().with_context(|| format!("could not kill {label}"))?;
    }
    let status = child
        .wait()
        .with_context(|| format!("could not wait for {label}"))?;
    if counts.n_failed == 0 && (!status.success() || !has_result) {
        println!("xtask: {label} ended with {status} and reported no failing test");
        counts.n_failed = 1;
    }
    if counts.n_failed > 0 {
        counts.failing.push(label.to_owned());
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted_and_others_are_not() {
        let mut counts = Counts::default();
        assert!(!counts.read_line("test it_works ... ok"));
        assert!(counts.read_line(
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.10s"
        ));
        assert!(
            counts.read_line("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out")
        );
        assert_eq!((counts.n_passed, counts.n_failed, counts.n_ignored), (17, 3, 1));
    }

    #[test]
    fn an_executable_that_dies_without_a_result_counts_as_one_failure() {
        let counts = run_one("sh", Command::new("sh").args(["-c", "exit 7"])).unwrap();
        assert_eq!((counts.n_passed, counts.n_failed), (0, 1));
        assert_eq!(counts.failing, ["sh"]);
    }

    #[test]
    fn the_package_is_read_from_both_forms_of_cargos_id() {
        assert_eq!(
            package_name("path+file:///x/lib/model#ja4-model@0.1.0"),
            "ja4-model"
        );
        assert_eq!(package_name("path+file:///x/cli#0.1.0"), "cli");
    }

    #[test]
    fn pure_packages_come_first_and_whole_paths_last() {
        assert!(rank("ja4-model") < rank("something-new"));
        assert!(rank("something-new") < rank("cli"));
    }
}
