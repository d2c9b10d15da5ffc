//! `cargo xtask e2e`: a real cluster up, the tests of `ja4-e2e` on it, the cluster down, and nothing of it left.
//!
//! ```text
//! kit (once) ─▶ images ─▶ Rust ─▶ cluster up ─▶ tests, one program after another ─▶ down ─▶ traces
//! ```
//!
//! With `KUBECONFIG` set and `E2E_STATE` not, the tests run on that cluster and nothing is started or stopped.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::test_run::Counts;
use crate::{cargo, images, test_run};

/// The package of the tests.
pub(crate) const PACKAGE: &str = "ja4-e2e";

/// How long what was stopped may take to be gone. Containers end a moment after their node.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// How `build.sh` ends when this machine lacks something or it cannot be fetched.
const UNAVAILABLE: i32 = 69;

/// What to run and on what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Only these test programs (files of e2e/tests/, without .rs).
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 2)]
    nodes: usize,
    /// Leave the cluster up, and say how to reach it.
    #[arg(long)]
    keep: bool,
    /// Take image archives from this folder and make none.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Make images of the built programs in this folder and build none.
    #[arg(long, value_name = "DIR", conflicts_with = "images")]
    programs: Option<PathBuf>,
    /// Use a cluster of kind (needs kind and a container engine), made and removed here.
    #[arg(long)]
    kind: bool,
}

impl Options {
    /// These test programs, as a stage of a check runs them.
    pub(crate) fn part(only: &[&str]) -> Self {
        Self {
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            nodes: 2,
            keep: false,
            images: None,
            programs: None,
            kind: false,
        }
    }
}

/// How it went.
pub(crate) enum Outcome {
    Ran(Counts),
    /// It cannot run here, and why.
    Skipped(String),
}

/// The parts of a run and what each took.
struct Times(Vec<(&'static str, Duration)>);

impl Times {
    fn of<T>(&mut self, part: &'static str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        println!("\n-- {part}");
        let start = Instant::now();
        let result = work();
        self.0.push((part, start.elapsed()));
        result.with_context(|| format!("failed in {part}"))
    }

    fn print(&self) {
        println!("\ntime by part:");
        for (part, elapsed) in &self.0 {
            println!("  {:>7.1} s  {part}", elapsed.as_secs_f64());
        }
    }
}

/// Runs the tests on the cluster that the options and the environment name.
///
/// # Errors
/// When a part before or after the tests fails; failing tests are in the counts.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<Outcome> {
    let mut times = Times(Vec::new());
    let result = choose(root, options, &mut times);
    times.print();
    result
}

fn choose(root: &Path, options: &Options, times: &mut Times) -> anyhow::Result<Outcome> {
    if options.kind {
        return on_kind(root, options, times);
    }
    if is_set("KUBECONFIG") && !is_set("E2E_STATE") {
        println!("on the cluster of KUBECONFIG; its nodes must have the images (cargo xtask images)");
        return tests(root, options, times, &[]).map(Outcome::Ran);
    }
    on_own(root, options, times)
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// A cluster of `e2e/cluster/`, up and down again.
fn on_own(root: &Path, options: &Options, times: &mut Times) -> anyhow::Result<Outcome> {
    if let Some(why) = missing(root)? {
        return Ok(Outcome::Skipped(why));
    }
    let own = Own::new(root, options)?;
    if let Some(why) = times.of("kit", || own.build())? {
        return Ok(Outcome::Skipped(why));
    }
    let images = archives(root, options, times)?;
    times.of("Rust", || test_run::build_package(root, PACKAGE).map(drop))?;
    let interfaces = interfaces()?;
    let _lock = (!options.keep)
        .then(|| own.take_down_when_this_ends())
        .transpose()?;
    let up = times.of("cluster up", || {
        cargo::check(own.script("up.sh").arg("node").stdout(Stdio::null()))?;
        let traces = own.traces(&[])?;
        // A look that sees nothing now would find nothing left later.
        if traces.is_empty() {
            bail!("the cluster is up and ctl.sh traces sees nothing of it");
        }
        Ok(network_namespaces(&traces))
    });
    let result = up.and_then(|namespaces| {
        let variables = [
            ("E2E_STATE", own.state.as_path()),
            ("E2E_IMAGES", images.as_path()),
        ];
        let counts = tests(root, options, times, &variables)?;
        // Those of pods came later.
        Ok((counts, &namespaces | &network_namespaces(&own.traces(&[])?)))
    });
    if options.keep {
        println!(
            "\nthe cluster stays; eval \"$(E2E_STATE={0} e2e/cluster/ctl.sh env)\"",
            own.state.display()
        );
        println!(
            "take it down with E2E_STATE={} e2e/cluster/down.sh --wipe",
            own.state.display()
        );
        return result.map(|(counts, _)| Outcome::Ran(counts));
    }
    times.of("down", || cargo::check(own.script("down.sh").arg("--wipe")))?;
    let (counts, namespaces) = result?;
    times.of("traces", || own.nothing_left(&namespaces, &interfaces))?;
    println!("nothing of the cluster is left on this machine");
    Ok(Outcome::Ran(counts))
}

/// Why no node can run here, if so.
fn missing(root: &Path) -> anyhow::Result<Option<String>> {
    let id = Command::new("id")
        .arg("-u")
        .output()
        .context("could not start id")?;
    if String::from_utf8_lossy(&id.stdout).trim() != "0" {
        return Ok(Some(
            "nodes need root (or set KUBECONFIG to a cluster that is there)".to_owned(),
        ));
    }
    let namespaces = Command::new("unshare")
        .args(["--mount", "--uts", "--pid", "--fork", "--net", "true"])
        .stderr(Stdio::null())
        .status();
    if !namespaces.is_ok_and(|status| status.success()) {
        return Ok(Some(
            "nodes need CAP_SYS_ADMIN and CAP_NET_ADMIN, and unshare (Debian: util-linux)".to_owned(),
        ));
    }
    let have = Command::new(root.join("e2e/cluster/build.sh"))
        .arg("--have")
        .stdout(Stdio::null())
        .status()
        .context("could not start e2e/cluster/build.sh")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let has_go = Command::new("go")
        .arg("version")
        .env("PATH", format!("{path}:/usr/local/go/bin"))
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    Ok((!have.success() && !has_go).then(|| "Go is missing, which builds the cluster once".to_owned()))
}

/// A program of the kit, if the kit is built.
pub(crate) fn kit_program(root: &Path, name: &str) -> Option<String> {
    let have = Command::new(root.join("e2e/cluster/build.sh"))
        .arg("--have")
        .output()
        .ok()?;
    let kit = String::from_utf8(have.stdout).ok()?;
    let program = Path::new(kit.trim()).join("bin").join(name);
    (have.status.success() && program.is_file()).then(|| program.display().to_string())
}

/// The scripts with the state folder of this run.
struct Own {
    scripts: PathBuf,
    state: PathBuf,
    n_nodes: usize,
}

impl Own {
    fn new(root: &Path, options: &Options) -> anyhow::Result<Self> {
        let state = match std::env::var_os("E2E_STATE").filter(|state| !state.is_empty()) {
            Some(state) => std::path::absolute(PathBuf::from(state))?,
            None => scratch()?.join(format!("run-{}", std::process::id())),
        };
        if state.join("run/tier").exists() {
            bail!(
                "a cluster is up in E2E_STATE={0}; take it down (E2E_STATE={0} e2e/cluster/down.sh --wipe) or name another folder",
                state.display()
            );
        }
        Ok(Self {
            scripts: root.join("e2e/cluster"),
            state,
            n_nodes: options.nodes,
        })
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.scripts.join(name));
        command
            .env("E2E_STATE", &self.state)
            .env("E2E_NODES", self.n_nodes.to_string());
        command
    }

    /// Builds what the cluster is made of, or says why that cannot be had.
    fn build(&self) -> anyhow::Result<Option<String>> {
        let mut script = self.script("build.sh");
        let status = script
            .stdout(Stdio::null())
            .status()
            .context("could not start e2e/cluster/build.sh")?;
        match status.code() {
            Some(0) => Ok(None),
            Some(UNAVAILABLE) => Ok(Some(
                "the cluster cannot be built here; build.sh has said why".to_owned(),
            )),
            _ => bail!("e2e/cluster/build.sh ended with {status}"),
        }
    }

    /// However this process ends, even by SIGKILL, its cluster goes: another waits for a lock that the kernel gives back
    /// when this one is gone, and then takes the cluster down. After an orderly end it finds nothing to do.
    fn take_down_when_this_ends(&self) -> anyhow::Result<File> {
        let path = self.state.with_extension("users");
        let folder = path.parent().context("the state folder is no root folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        let lock = File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
        lock.lock()
            .with_context(|| format!("could not lock {}", path.display()))?;
        // It removes the lock's file as well: `$0` is the script, `$1` the file.
        let mut waiting = Command::new("flock");
        waiting
            .arg(&path)
            .args(["sh", "-c", "\"$0\" --wipe; rm -f \"$1\""])
            .arg(self.scripts.join("down.sh"))
            .arg(&path)
            .env("E2E_STATE", &self.state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        waiting
            .spawn()
            .context("could not start flock (Debian: util-linux)")?;
        Ok(lock)
    }

    /// What is on this machine because of the state folder, and who holds these network namespaces.
    fn traces(&self, namespaces: &[&str]) -> anyhow::Result<Vec<String>> {
        let output = self
            .script("ctl.sh")
            .arg("traces")
            .args(namespaces)
            .stderr(Stdio::inherit())
            .output()
            .context("could not start e2e/cluster/ctl.sh")?;
        if !output.status.success() {
            bail!("ctl.sh traces ended with {}", output.status);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn nothing_left(&self, namespaces: &BTreeSet<String>, before: &BTreeSet<String>) -> anyhow::Result<()> {
        let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
        let end = Instant::now() + GONE_WITHIN;
        loop {
            let mut left = self.traces(&namespaces)?;
            left.extend(
                (&interfaces()? - before)
                    .iter()
                    .map(|name| format!("interface {name}")),
            );
            if self.state.exists() {
                left.push(format!("folder {}", self.state.display()));
            }
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("left on this machine:\n  {}", left.join("\n  "));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A folder for state and images that is this user's alone.
fn scratch() -> anyhow::Result<PathBuf> {
    let id = Command::new("id")
        .arg("-u")
        .output()
        .context("could not start id")?;
    let name = format!("ja4-e2e-{}", String::from_utf8_lossy(&id.stdout).trim());
    Ok(std::env::temp_dir().join(name))
}

/// The numbers in lines such as `netns 4026532270 of 1234`.
fn network_namespaces(traces: &[String]) -> BTreeSet<String> {
    let numbers = traces.iter().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "netns").then(|| words.next().map(str::to_owned))?
    });
    numbers.collect()
}

/// The network interfaces of the host.
fn interfaces() -> anyhow::Result<BTreeSet<String>> {
    let entries = std::fs::read_dir("/sys/class/net").context("could not list network interfaces")?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names
        .collect::<std::io::Result<_>>()
        .context("could not list network interfaces")
}

/// The image archives of this run.
fn archives(root: &Path, options: &Options, times: &mut Times) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &options.images {
        return Ok(std::path::absolute(folder)?);
    }
    let out = cargo::target_dir(root)?.join("e2e-images");
    times.of("images", || {
        images::run(root, &images::Options::for_tests(out, options.programs.clone()))
    })
}

fn tests(
    root: &Path,
    options: &Options,
    times: &mut Times,
    variables: &[(&str, &Path)],
) -> anyhow::Result<Counts> {
    times.of("tests", || {
        test_run::run_package(root, PACKAGE, &options.only, variables)
    })
}

/// The name of the cluster that `--kind` makes.
const KIND: &str = "ja4-e2e";

/// A cluster of kind: what a reader without root would type, typed.
fn on_kind(root: &Path, options: &Options, times: &mut Times) -> anyhow::Result<Outcome> {
    let installed = Command::new("kind").arg("version").output();
    if !installed.is_ok_and(|output| output.status.success()) {
        println!("with kind and a container engine this runs:");
        println!("  cargo xtask images --profile dev --out images");
        println!("  kind create cluster --name {KIND} --kubeconfig kind.yaml");
        println!("  for i in images/*.tar; do kind load image-archive --name {KIND} $i; done");
        println!("  KUBECONFIG=$PWD/kind.yaml cargo xtask e2e");
        println!("  kind delete cluster --name {KIND}");
        return Ok(Outcome::Skipped("kind is not installed".to_owned()));
    }
    let images = archives(root, options, times)?;
    let kubeconfig = cargo::target_dir(root)?.join("e2e-kind.yaml");
    let kind = |args: &[&str]| cargo::check(Command::new("kind").args(args).args(["--name", KIND]));
    let path = kubeconfig
        .to_str()
        .context("the target folder's path is not UTF-8")?;
    times.of("cluster up", || {
        kind(&["create", "cluster", "--kubeconfig", path])
    })?;
    let result = times
        .of("load images", || {
            for entry in
                std::fs::read_dir(&images).with_context(|| format!("could not list {}", images.display()))?
            {
                let archive = entry?.path();
                let archive = archive.to_str().context("an archive's path is not UTF-8")?;
                kind(&["load", "image-archive", archive])?;
            }
            Ok(())
        })
        .and_then(|()| tests(root, options, times, &[("KUBECONFIG", kubeconfig.as_path())]));
    if !options.keep {
        times.of("down", || kind(&["delete", "cluster"]))?;
    }
    result.map(Outcome::Ran)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_namespaces_are_read_from_traces() {
        let lines = ["process 12 etcd", "netns 4026532270 of 12", "mount /x in mnt:[1]"].map(str::to_owned);
        assert_eq!(
            network_namespaces(&lines),
            BTreeSet::from(["4026532270".to_owned()])
        );
    }
}
