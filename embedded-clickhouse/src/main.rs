//! `ja4-clickhouse`: the embedded store as a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use embedded_clickhouse::config::{Config, Environment, Settings};
use embedded_clickhouse::run::{EXIT_RESTART, run};
use ja4_common::exit::{self, Failure};

/// ClickHouse for one machine: libchdb behind the ClickHouse HTTP interface.
#[derive(Debug, Parser)]
#[command(name = "ja4-clickhouse", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the store until SIGTERM. Exit code 75 means: start it again, it repairs itself.
    Run(RunArguments),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// YAML file; see docs/samples/clickhouse.yaml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the store [default: /var/lib/ja4/clickhouse]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the HTTP interface; port 0 takes a free one, which DIR/listen names [default: 127.0.0.1:8123]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// libchdb.so [default: $`CHDB_LIB`, else the cache of scripts/fetch-libchdb]
    #[arg(long, value_name = "FILE")]
    lib: Option<PathBuf>,
    /// Prints the configuration that would be used and ends
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    let Cli {
        command: Command::Run(arguments),
    } = Cli::parse();
    match start(&arguments) {
        Ok(code) => code,
        Err(failure) => exit::report("ja4-clickhouse", Err(failure)),
    }
}

fn start(arguments: &RunArguments) -> Result<ExitCode, Failure> {
    let config = configuration(arguments)?;
    if arguments.print_config {
        let text = ja4_common::config::print(&config).map_err(Failure::failed)?;
        print(&text);
        return Ok(ExitCode::SUCCESS);
    }
    let settings: Settings = config.check(&environment()).map_err(Failure::wrong_use)?;
    ja4_common::logging::init(&config.process.log).map_err(Failure::wrong_use)?;
    debug_assert_ne!(EXIT_RESTART, 0);
    run(&settings, config.process.admin.as_ref()).map_err(|error| Failure::Failed(error.into()))
}

fn configuration(arguments: &RunArguments) -> Result<Config, Failure> {
    let mut config = match &arguments.config {
        Some(path) => ja4_common::config::load(path).map_err(Failure::wrong_use)?,
        None => Config::default(),
    };
    if let Some(data) = &arguments.data {
        config.data.clone_from(data);
    }
    if let Some(listen) = arguments.listen {
        config.listen = listen;
    }
    if arguments.lib.is_some() {
        config.library.clone_from(&arguments.lib);
    }
    Ok(config)
}

fn environment() -> Environment {
    let path = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    Environment {
        chdb_lib: path("CHDB_LIB"),
        xdg_cache_home: path("XDG_CACHE_HOME"),
        home: path("HOME"),
    }
}

#[expect(clippy::print_stdout, reason = "the output of --print-config")]
fn print(text: &str) {
    print!("{text}");
}
