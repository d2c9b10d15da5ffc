//! `ja4-demo`: the site, its clients, and the replay of recorded requests.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use demo::clients::{Clients, ClientsConfig};
use demo::origin::Origin;
use demo::origin::config::OriginConfig;
use demo::process::{Process, host_name, prepare, raise_descriptor_limit};
use demo::record::RecordConfig;
use demo::replay::{Replay, ReplayConfig};
use ja4_common::config;
use ja4_common::exit::{self, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A real HTTPS site, real clients for it, and the replay of recorded requests.
#[derive(Debug, Parser)]
#[command(name = "ja4-demo", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve the site and report its requests.
    Origin(Args),
    /// Visit the site with clients of several TLS stacks.
    Clients(ClientsArgs),
    /// Send recorded requests again.
    Replay(Args),
    /// Make the recorded "yesterday" of the demo from real clients (tcpdump, the right to capture).
    Record(Args),
}

#[derive(Debug, clap::Args)]
struct Args {
    /// Configuration (YAML); all defaults without.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Print the configuration and end.
    #[arg(long)]
    print_config: bool,
}

#[derive(Debug, clap::Args)]
struct ClientsArgs {
    #[command(flatten)]
    common: Args,
    /// Bots, instead of the configuration's.
    #[arg(long)]
    demo_bots: Option<u32>,
    /// Seed, instead of the configuration's.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Origin(args) => with_config(&args, |_: &mut OriginConfig| {}, run_origin),
        Command::Clients(args) => {
            let apply = |config: &mut ClientsConfig| {
                config.bots = args.demo_bots.or(config.bots);
                config.seed = args.seed.or(config.seed);
            };
            with_config(&args.common, apply, run_clients)
        }
        Command::Record(args) => with_config(&args, |_: &mut RecordConfig| {}, run_record),
        Command::Replay(args) => with_config(&args, |_: &mut ReplayConfig| {}, run_replay),
    };
    exit::report("ja4-demo", result)
}

#[expect(clippy::print_stdout, reason = "--print-config is for standard output")]
fn with_config<T: DeserializeOwned + Serialize + Default>(
    args: &Args,
    apply: impl FnOnce(&mut T),
    run: impl FnOnce(T) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let mut loaded = match &args.config {
        Some(path) => config::load(path).map_err(Failure::wrong_use)?,
        None => T::default(),
    };
    apply(&mut loaded);
    if args.print_config {
        print!("{}", config::print(&loaded).map_err(Failure::failed)?);
        return Ok(());
    }
    run(loaded).map_err(Failure::failed)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")
}

fn run_origin(config: OriginConfig) -> anyhow::Result<()> {
    let shutdown = prepare(&config.process)?;
    raise_descriptor_limit();
    let node = config.node.clone().unwrap_or_else(host_name);
    let process_config = config.process.clone();
    runtime()?.block_on(async {
        let origin = Origin::bind(config, node, shutdown.clone())?;
        let shared = origin.shared();
        let process = Process::start(&process_config, shutdown, &["site"], move || shared.ledger())?;
        process.admin.set_ready("site");
        tracing::info!("serving https://{}", origin.address()?);
        process.run(origin.run()).await
    })
}

fn run_clients(config: ClientsConfig) -> anyhow::Result<()> {
    let shutdown = prepare(&config.process)?;
    let process_config = config.process.clone();
    runtime()?.block_on(async {
        let clients = Clients::new(config, shutdown.clone())?;
        let shared = clients.shared();
        let process = Process::start(&process_config, shutdown, &["clients"], move || shared.ledger())?;
        process.admin.set_ready("clients");
        process.run(clients.run()).await
    })
}

fn run_record(config: RecordConfig) -> anyhow::Result<()> {
    let shutdown = prepare(&config.process)?;
    raise_descriptor_limit();
    let ledger = runtime()?.block_on(demo::record::run(config, "recorded".to_owned(), shutdown))?;
    for stage in ledger.stages {
        tracing::info!("{}: {} of {} answered", stage.name, stage.passed, stage.received);
    }
    Ok(())
}

fn run_replay(config: ReplayConfig) -> anyhow::Result<()> {
    let shutdown = prepare(&config.process)?;
    let node = config.node.clone().unwrap_or_else(host_name);
    let process_config = config.process.clone();
    let replay = Replay::open(config, node)?;
    let shared = replay.shared();
    runtime()?.block_on(async {
        let process = Process::start(&process_config, shutdown.clone(), &["file"], move || {
            shared.ledger()
        })?;
        process.admin.set_ready("file");
        let mut result = Ok(());
        let work = async {
            let replaying = tokio::task::spawn_blocking(move || replay.run(&shutdown));
            result = replaying.await.unwrap_or_else(|error| Err(error.into()));
        };
        process.run(work).await?;
        result
    })
}
