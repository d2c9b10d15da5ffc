//! `ja4-sensor`: captures packets and reports each TLS ClientHello with its fingerprints.

mod capture;
mod commands;
mod convert;
mod networks;
mod pipeline;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use commands::{bench, fingerprint};

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
}

/// Done, failed while running, wrong use.
const FAILED: u8 = 1;
const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match Cli::parse().command {
        Command::Fingerprint(args) => {
            let mut warn = |line: &str| say(line);
            match fingerprint::run(&args, &mut stdout, &mut warn) {
                Ok(()) => ExitCode::SUCCESS,
                // Whoever reads the lines has seen enough.
                Err(fingerprint::FingerprintError::Write(error))
                    if error.kind() == std::io::ErrorKind::BrokenPipe =>
                {
                    ExitCode::SUCCESS
                }
                Err(error @ fingerprint::FingerprintError::Unreadable { .. }) => {
                    if args.n_files() > 1 {
                        say(&error.to_string());
                    }
                    ExitCode::from(WRONG_USE)
                }
                Err(error) => fail(&error.into()),
            }
        }
        Command::Bench(args) => match bench::run(&args, &mut stdout) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    say(&format!("{error:#}"));
    let is_wrong_use = error.downcast_ref::<capture::offline::OpenError>().is_some();
    ExitCode::from(if is_wrong_use { WRONG_USE } else { FAILED })
}

/// One line for the person at the terminal; nobody can be told if that fails.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "ja4-sensor: {line}"));
}
