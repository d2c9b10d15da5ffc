//! `ja4-operator`: keeps what a `Ja4Pipeline` asks for running.

mod apply;
mod bands;
mod conditions;
mod context;
mod election;
mod kinds;
mod laptop;
mod metrics;
mod observe;
mod pki;
mod poll;
mod reconcile;
mod report;
mod revisions;
mod run;
mod status;
mod told;
mod vault;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ja4_common::exit::{self, Failure};
use ja4_common::logging::{self, LogConfig, LogFormat};

/// Keeps what a `Ja4Pipeline` asks for running.
#[derive(Debug, Parser)]
#[command(name = "ja4-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How to log: human or json.
    #[arg(
        long,
        global = true,
        env = "JA4_OPERATOR_LOG_FORMAT",
        default_value = "human",
        value_name = "FORMAT"
    )]
    log_format: String,
    /// How much to log: error, warn, info, debug, trace or a filter.
    #[arg(
        long,
        global = true,
        env = "JA4_OPERATOR_LOG_LEVEL",
        default_value = "info",
        value_name = "LEVEL"
    )]
    log_level: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks after pipelines until it is asked to end.
    Run(run::RunOptions),
    /// Checks pipelines in files as the cluster would; needs no cluster.
    Validate {
        /// Files of YAML or JSON, several documents each; `-` for standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Shows what a file would change in the cluster; changes nothing.
    Diff {
        /// A file with one pipeline.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Registry and path of images, as the operator has it.
        #[arg(
            long,
            env = "JA4_OPERATOR_IMAGE_REGISTRY",
            default_value = "localhost",
            value_name = "REGISTRY"
        )]
        image_registry: String,
    },
    /// Shows how pipelines are, as the operator says.
    Status {
        /// Namespace; default: that of the kubeconfig.
        #[arg(short, long, value_name = "NAME")]
        namespace: Option<String>,
        /// One pipeline; default: all.
        #[arg(value_name = "PIPELINE")]
        name: Option<String>,
    },
    /// Writes what somebody who helps needs to one file: objects, status, events, ends of logs; nothing of Secrets.
    SupportBundle {
        /// Namespace.
        #[arg(short, long, value_name = "NAME")]
        namespace: String,
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
        /// The file.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Checks that the cluster has the resource and takes a pipeline (dry run).
    CheckInstall,
}

fn main() -> ExitCode {
    exit::report("ja4-operator", dispatch(Cli::parse()))
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let format = match cli.log_format.as_str() {
        "human" => LogFormat::Human,
        "json" => LogFormat::Json,
        other => {
            return Err(Failure::wrong_use(format!(
                "--log-format {other:?} is neither human nor json"
            )));
        }
    };
    // The libraries' own spans and words are for who writes filters.
    let is_filter = cli.log_level.contains(['=', ',']);
    let level = if is_filter {
        cli.log_level
    } else {
        format!("{},kube_runtime=warn,kube_client=warn", cli.log_level)
    };
    logging::init(&LogConfig { format, level }).map_err(Failure::wrong_use)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(async {
        match cli.command {
            Command::Run(options) => run::run(options).await.map_err(Failure::failed),
            Command::Validate { files } => laptop::validate(&files),
            Command::Diff { file, image_registry } => laptop::diff(&file, &image_registry).await,
            Command::Status { namespace, name } => {
                laptop::status(namespace.as_deref(), name.as_deref()).await
            }
            Command::SupportBundle { namespace, name, out } => {
                laptop::support_bundle(&namespace, &name, &out).await
            }
            Command::CheckInstall => laptop::check_install().await,
        }
    })
}
