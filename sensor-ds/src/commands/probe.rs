//! `ja4-sensor probe`: whether the sensor that runs with a configuration is alive or ready, by the answer of its admin endpoint.

use std::path::PathBuf;

use ja4_common::exit::Failure;
use ja4_common::{config, probe};

use crate::config::SensorConfig;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration file of the running sensor.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What to ask for: /healthz, is it alive; /readyz, does it do its work.
    #[arg(long, value_name = "PATH", default_value = "/readyz")]
    path: String,
    /// Longest time for the answer.
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    timeout: ja4_common::units::Span,
}

/// Asks once.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let config: SensorConfig = config::load(&args.config).map_err(Failure::wrong_use)?;
    let Some(listen) = config.process.admin else {
        return Err(Failure::wrong_use(format!(
            "configuration {} sets no process.admin to ask",
            args.config.display()
        )));
    };
    let answer = probe::ask(&listen, &args.path, args.timeout.0).map_err(Failure::failed)?;
    if answer.status == 200 {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{listen} answers {} with {}: {}",
        args.path,
        answer.status,
        answer.body.trim_end().replace('\n', "; ")
    )))
}
