//! `ja4-detector`: scores clients and says why.

mod matrix;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use detector::config::DetectorConfig;
use detector::cycle::{self, CycleError, Memory, Report};
use detector::serve::{self, wall_clock};
use detector::tables::Tables;
use ja4_common::exit::{self, Failure};
use ja4_common::job::{self, DeadlineExceeded, Ending};
use ja4_schema::rows::detection::ActivationRow;

/// Time to record a failed cycle.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

/// Scores clients and says why: who is a bot, since when, by which evidence.
#[derive(Debug, Parser)]
#[command(name = "ja4-detector", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One cycle, then end; prints what it did as one JSON line.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// End of the windows, such as 2026-11-26T10:05:00Z; default: the newest that is due.
        #[arg(long, value_name = "TIME", value_parser = detector::time::parse)]
        at: Option<i64>,
        /// Longest time, such as 100s; the next run begins the cycle anew and writes nothing twice.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        deadline: Option<Duration>,
        /// File for the last word, one JSON object of at most 4000 bytes, such as /dev/termination-log.
        #[arg(long, value_name = "FILE")]
        termination_message: Option<PathBuf>,
    },
    /// A cycle each interval, and an HTTP endpoint.
    Serve {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Fits a forest on a matrix in a file and writes the scores, for comparison with other implementations.
    Forest(matrix::Args),
    /// Lists saved models, newest first.
    Models {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Makes another version of a model the active one.
    Rollback {
        #[command(flatten)]
        config: ConfigArgs,
        /// Name of the model, such as browser/1h.
        name: String,
        /// Version to go back to.
        version: u32,
        /// Why; kept with the activation.
        #[arg(long, default_value = "rolled back by hand")]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// Configuration file (YAML); see docs/samples/detector.yaml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the configuration with all defaults and end.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    exit::report("ja4-detector", dispatch(&Cli::parse().command))
}

fn dispatch(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Forest(args) => matrix::run(args).map_err(failed),
        Command::Run {
            config,
            at,
            deadline,
            termination_message,
        } => with_config(config, |config| {
            let ran = run(config, *at, *deadline);
            if let Some(path) = termination_message {
                // The work is done or not whether it can be said or not.
                if let Err(error) = ending(&ran).write(path) {
                    tracing::warn!("the last word cannot be written to {}: {error}", path.display());
                }
            }
            ran.and_then(|(to_s, report)| print(&summary(to_s, &report).to_string()))
        }),
        Command::Serve { config } => with_config(config, |config| serve::serve(config).map_err(failed)),
        Command::Models { config } => with_config(config, models),
        Command::Rollback {
            config,
            name,
            version,
            reason,
        } => with_config(config, |config| rollback(config, name, *version, reason)),
    }
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::failed(error)
}

fn with_config(
    args: &ConfigArgs,
    work: impl FnOnce(&DetectorConfig) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let config = load(&args.config)?;
    if args.print_config {
        return print(
            ja4_common::config::print(&config)
                .map_err(Failure::failed)?
                .trim_end(),
        );
    }
    ja4_common::logging::init(&config.process.log).map_err(Failure::wrong_use)?;
    work(&config)
}

fn load(path: &Path) -> Result<DetectorConfig, Failure> {
    let config: DetectorConfig = ja4_common::config::load(path).map_err(Failure::wrong_use)?;
    config
        .check()
        .map_err(|why| Failure::wrong_use(format!("configuration {}: {why}", path.display())))?;
    Ok(config)
}

#[expect(clippy::print_stdout, reason = "it is asked for")]
#[expect(clippy::unnecessary_wraps, reason = "the last step of commands that may fail")]
fn print(text: &str) -> Result<(), Failure> {
    println!("{text}");
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)
}

/// Why there was no cycle.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Cycle(#[from] CycleError),
    #[error("the cycle was given up")]
    Deadline(#[from] DeadlineExceeded),
}

fn run(
    config: &DetectorConfig,
    at: Option<i64>,
    deadline: Option<Duration>,
) -> Result<(i64, Report), Failure> {
    let (now_s, now_us) = wall_clock();
    let to_s = at.unwrap_or_else(|| cycle::due_end(now_s, config.interval.0, config.settle.0));
    let tables = Tables::new(&config.store).map_err(Failure::wrong_use)?;
    let mut memory = Memory::default();
    let report = runtime()?.block_on(async {
        let result = job::within(deadline, async {
            let report = cycle::run(config, &tables, &mut memory, to_s, now_us).await;
            report.map_err(RunError::from)
        })
        .await;
        if let Err(error) = &result {
            let why = exit::chain(error);
            let record = cycle::record_failure(&tables, to_s, now_us, &why);
            // The store may be the reason: the failure must not outlive the deadline by much.
            match tokio::time::timeout(RECORD_TIMEOUT, record).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("the failure cannot be recorded: {}", exit::chain(&error)),
                Err(_) => tracing::debug!("the failure cannot be recorded in time"),
            }
        }
        result
    });
    Ok((to_s, report.map_err(Failure::failed)?))
}

fn summary(to_s: i64, report: &Report) -> serde_json::Value {
    let row = &report.row;
    serde_json::json!({
        "window_end": detector::time::rfc3339(to_s), "was_done": report.was_done, "state": row.state,
        "model_states": row.model_states, "progress": row.progress, "entities": row.entities, "scored": row.scored,
        "flagged": row.flagged, "alerts": row.alerts, "suppressed": row.suppressed,
        "suppressed_by_label": row.suppressed_by_label, "budget_used": row.budget_used, "thresholds": row.thresholds,
        "duration_ms": row.duration_ms, "cpu_ms": row.cpu_ms, "events": report.events,
    })
}

fn ending(ran: &Result<(i64, Report), Failure>) -> Ending {
    const PROGRAM: &str = "ja4-detector run";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    match ran {
        Ok((to_s, report)) => Ending::done(PROGRAM, VERSION, summary(*to_s, report)),
        Err(Failure::WrongUse(error)) => {
            Ending::failed(PROGRAM, VERSION, error.as_ref(), "WrongConfiguration")
        }
        Err(Failure::Failed(error)) => Ending::failed(PROGRAM, VERSION, error.as_ref(), job::FAILED),
    }
}

fn models(config: &DetectorConfig) -> Result<(), Failure> {
    let tables = Tables::new(&config.store).map_err(Failure::wrong_use)?;
    let models = runtime()?.block_on(tables.models()).map_err(Failure::failed)?;
    print("MODEL                 VERSION  TRAINED               CLIENTS  LEFT OUT  STATE     WHY, MEASURED")?;
    for model in models {
        let state = match (model.is_active, model.is_armed) {
            (true, true) => "armed",
            (true, false) => "active",
            _ => "-",
        };
        let why = if model.is_active {
            model.reason.as_str()
        } else {
            ""
        };
        print(&format!(
            "{:<20}  {:>7}  {:<20}  {:>7}  {:>8}  {:<8}  {why} {}",
            model.name,
            model.version,
            detector::time::rfc3339(model.trained_s),
            model.n_rows,
            model.n_excluded,
            state,
            model.metrics
        ))?;
    }
    Ok(())
}

fn rollback(config: &DetectorConfig, name: &str, version: u32, reason: &str) -> Result<(), Failure> {
    let tables = Tables::new(&config.store).map_err(Failure::wrong_use)?;
    let now_us = wall_clock().1;
    runtime()?.block_on(async {
        let models = tables.models().await.map_err(Failure::failed)?;
        let of_name: Vec<_> = models.iter().filter(|model| model.name == name).collect();
        if of_name.is_empty() {
            let mut names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            names.dedup();
            return Err(Failure::failed(format!(
                "there is no model {name}, known are: {}",
                names.join(", ")
            )));
        }
        if !of_name.iter().any(|model| model.version == version) {
            let versions: Vec<String> = of_name.iter().map(|model| model.version.to_string()).collect();
            return Err(Failure::failed(format!(
                "{name} has no version {version}, known are: {}",
                versions.join(", ")
            )));
        }
        let row = ActivationRow {
            model_name: name.to_owned(),
            activated_at_us: now_us,
            model_version: version,
            armed: of_name.iter().any(|model| model.is_active && model.is_armed),
            author: "operator".to_owned(),
            reason: reason.to_owned(),
        };
        tables
            .write([row], &format!("rollback-{name}-{version}-{now_us}"))
            .await
            .map_err(Failure::failed)?;
        Ok(())
    })?;
    print(&format!("{name} {version} is active from the next cycle on"))
}
