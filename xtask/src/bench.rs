//! `make bench`: runs the bench command of every component and prints its figures beside the machine and the floor of each.
//!
//! Components measure themselves and print one JSON line; what is here is their list, the floors and the frame.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::cargo;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only benches whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Cargo profile of what is measured; packages ship `release`.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// One command that prints figures.
struct Bench {
    name: &'static str,
    /// What the figures must reach on the reference machine (two cores), and where the bar comes from.
    floor: &'static str,
    /// The command: a binary or an example of the workspace and its arguments, relative to the checkout.
    command: &'static [&'static str],
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "sensor: packets offline",
        floor: "1 000 000 packets per CPU second; 48 MB anonymous memory",
        command: &[
            "ja4-sensor",
            "bench",
            "--mix",
            "testdata/demo",
            "--repetitions",
            "400",
        ],
    },
    Bench {
        name: "correlator: JSON events",
        floor: "200 000 events per CPU second in a replay; beside it decoding alone and the join alone",
        command: &["ja4-correlator", "bench"],
    },
    Bench {
        name: "correlator: join alone",
        floor: "500 000 events per CPU second at 1 000 000 live connections; 400 bytes a connection beside its payload",
        command: &["examples/engine_bench"],
    },
    Bench {
        name: "transport: emit to receiver",
        floor: "of 800 bytes, per CPU second on each side: 300 000 events on SEQPACKET, 600 000 on STREAM; beside it bare sends and receives",
        command: &["examples/transport_bench"],
    },
    Bench {
        name: "store: inserts and queries",
        floor: "10 000 000 requests: 90 000 rows per CPU second through all views, 95 bytes each; the rows without views and every bar beside it",
        command: &["schema-bench"],
    },
];

/// Runs the benches; `Ok(false)` when one could not be run.
///
/// # Errors
/// When the binaries cannot be built or the engine cannot be fetched.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<bool> {
    cargo::cargo(
        root,
        &[
            "build",
            "--workspace",
            "--bins",
            "--examples",
            "--locked",
            "--profile",
            &options.profile,
        ],
    )?;
    cargo::fetch_engine(root)?;
    let folder = if options.profile == "dev" {
        "debug"
    } else {
        &options.profile
    };
    let programs = cargo::target_dir(root)?.join(folder);
    println!("{}", describe_machine(root)?);
    println!("profile    {}", options.profile);
    let mut all_ran = true;
    for bench in BENCHES {
        if options
            .only
            .as_deref()
            .is_some_and(|part| !bench.name.contains(part))
        {
            continue;
        }
        println!("\n== {}\n   floor: {}", bench.name, bench.floor);
        let [program, args @ ..] = bench.command else {
            continue;
        };
        let result = cargo::check(Command::new(programs.join(program)).args(args).current_dir(root));
        if let Err(error) = result {
            println!("   not measured: {error:#}");
            all_ran = false;
        }
    }
    Ok(all_ran)
}

/// Processor, cores, memory, kernel, compiler and commit: figures mean little without them.
fn describe_machine(root: &Path) -> anyhow::Result<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("could not read /proc/cpuinfo")?;
    let model = field(&cpuinfo, "model name").unwrap_or("unknown processor");
    let n_cores = std::thread::available_parallelism().context("could not count the cores")?;
    let meminfo = std::fs::read_to_string("/proc/meminfo").context("could not read /proc/meminfo")?;
    let memory = field(&meminfo, "MemTotal").unwrap_or("unknown");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("could not read the kernel's release")?;
    let rustc = line_of(Command::new("rustc").arg("--version"))?;
    let commit = line_of(
        Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .current_dir(root),
    )?;
    Ok(format!(
        "machine    {model}, {n_cores} cores, memory {memory}, Linux {}\ncompiler   {rustc}\ncommit     {commit}",
        kernel.trim()
    ))
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

fn line_of(command: &mut Command) -> anyhow::Result<String> {
    let out = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files_are_found_by_their_whole_name() {
        let text = "model\t\t: 85\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Second\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!(field(text, "gone"), None);
    }
}
