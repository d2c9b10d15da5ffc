//! `ja4-correlator`: joins HTTP requests with the TLS connections that they came on, and writes the rows.

mod batch;
mod bench;
mod clients;
mod clock;
mod config;
mod convert;
mod core;
mod derive;
mod forward;
mod intern;
mod ledger;
mod metrics;
mod outbox;
mod payload;
mod record;
mod redact;
mod replay;
mod report;
mod run;
mod settlement;
mod sinks;
mod totals;
mod writer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ja4_common::exit::{self, Failure};

use crate::config::{CorrelatorConfig, Mode};
use crate::run::Recording;

/// Joins HTTP requests with the TLS connections that they came on.
#[derive(Debug, Parser)]
#[command(name = "ja4-correlator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Live: sockets in, rows into ClickHouse, a file or stdout.
    Run {
        /// Configuration file (YAML); see docs/samples/correlator.yaml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print the configuration with all defaults and end.
        #[arg(long)]
        print_config: bool,
    },
    /// Live as `run`, and every event with its arrival into two files, for replaying an incident; secrets are replaced.
    Record {
        /// Configuration file (YAML), as for run.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where events of sensors go; must not be there.
        #[arg(long, value_name = "FILE")]
        tls: PathBuf,
        /// Where events of HTTP sources go; must not be there.
        #[arg(long, value_name = "FILE")]
        http: PathBuf,
    },
    /// JSON events a CPU second through decoding, join and rows, beside the floors, as one JSON line.
    Bench {
        /// Events of the load, made in memory: 700 bytes each.
        #[arg(long, default_value_t = 350_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        events: u64,
        /// Times that everything is measured; the best counts, as noise only ever slows down.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
        loops: u32,
    },
    /// Deterministic: events from files, joined records as JSON lines on stdout, counters on stderr.
    Replay {
        /// Events of sensors, one JSON object a line.
        #[arg(long, value_name = "FILE")]
        tls: PathBuf,
        /// Events of HTTP sources, one JSON object a line.
        #[arg(long, value_name = "FILE")]
        http: PathBuf,
        /// Configuration file; only the sections join and redaction are used.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    exit::report("ja4-correlator", dispatch(&Cli::parse().command))
}

fn dispatch(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Run { config, print_config } => {
            let config = load(config)?;
            if *print_config {
                print(&config)
            } else if config.mode == Mode::Forward {
                forward::run(&config)
            } else {
                run::run(&config, None)
            }
        }
        Command::Record { config, tls, http } => {
            let config = load(config)?;
            if config.mode == Mode::Forward {
                return Err(Failure::wrong_use(
                    "record needs mode: join: a forwarder joins nothing that could be replayed",
                ));
            }
            run::run(&config, Some(Recording { tls, http }))
        }
        Command::Bench { events, loops } => bench::run(*events, *loops, &mut std::io::stdout().lock()),
        Command::Replay { tls, http, config } => {
            let config = config.as_deref().map(load).transpose()?.unwrap_or_default();
            replay::replay(tls, http, &config)
        }
    }
}

fn load(path: &Path) -> Result<CorrelatorConfig, Failure> {
    ja4_common::config::load(path).map_err(Failure::wrong_use)
}

#[expect(clippy::print_stdout, reason = "it is asked for")]
fn print(config: &CorrelatorConfig) -> Result<(), Failure> {
    print!("{}", ja4_common::config::print(config).map_err(Failure::failed)?);
    Ok(())
}
