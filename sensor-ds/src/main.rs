//! `ja4-sensor`: captures packets and reports each TLS ClientHello with its fingerprints.

mod capture;
mod commands;
mod config;
mod convert;
mod metrics;
mod pipeline;
mod rights;

use std::process::ExitCode;

use clap::Parser;
use ja4_common::exit::{self, Failure};

use capture::offline::OpenError;
use commands::fingerprint::FingerprintError;
use commands::{bench, fingerprint, probe, run};

/// Captures packets and reports each TLS ClientHello with its JA4 and JA3 fingerprints.
#[derive(Debug, Parser)]
#[command(name = "ja4-sensor", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print one line for each ClientHello of capture files.
    Fingerprint(fingerprint::Args),
    /// Measure how many packets a CPU second reads from a capture file.
    Bench(bench::Args),
    /// Capture on interfaces, or read a file, and send events to the receiver's socket.
    Run(run::Args),
    /// Ask the running sensor's admin endpoint; status 0 if it answers 200. For probes of a container.
    Probe(probe::Args),
}

fn main() -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let result = match Cli::parse().command {
        Command::Fingerprint(args) => {
            fingerprint::run(&args, &mut stdout, &mut warn).or_else(tolerate_closed_pipe)
        }
        Command::Bench(args) => bench::run(&args, &mut stdout).map_err(|error| {
            if error.is::<OpenError>() {
                Failure::wrong_use(error)
            } else {
                Failure::failed(error)
            }
        }),
        Command::Run(args) => run::run(&args, &mut stdout),
        Command::Probe(args) => probe::run(&args),
    };
    exit::report("ja4-sensor", result)
}

/// Whoever reads the lines may have seen enough (`| head`).
fn tolerate_closed_pipe(error: FingerprintError) -> Result<(), Failure> {
    match error {
        FingerprintError::Write(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        error @ FingerprintError::Write(_) => Err(Failure::failed(error)),
        error @ (FingerprintError::Unreadable { .. } | FingerprintError::Open(_)) => {
            Err(Failure::wrong_use(error))
        }
    }
}

/// One line for the person at the terminal, while lines for programs go to standard output.
#[expect(clippy::print_stderr, reason = "a command's warnings belong on stderr")]
fn warn(line: &str) {
    eprintln!("ja4-sensor: {line}");
}
