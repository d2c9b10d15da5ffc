//! `ja4-dashboard`: the analyst's pages and the HTTP interface behind them.
//!
//! ```text
//! browser ──HTTP──> layers ──> auth::guard ──> api (handlers) ──> pages ──> store::read  ──> ClickHouse
//!                     └─> ui (files)                          └──> store::write ──> soc_* tables
//! ```
//!
//! Read [`pages::triage`] and [`filter`] first. Pure: [`filter`], [`rules`], [`export`]. Only [`store::read`] reads the
//! store and only [`store::write`] writes to it. Deliberately absent: scoring, which is the detector's.

#![allow(
    clippy::struct_field_names,
    reason = "fields are named as the interface and the store name them"
)]

mod api;
mod audit;
mod auth;
mod body;
mod config;
mod detector;
mod error;
mod export;
mod filter;
mod layers;
mod metrics;
mod pages;
mod rules;
mod run;
mod server;
mod state;
mod store;
mod users;
mod window;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ja4_common::exit::{self, Failure};

use crate::auth::link;
use crate::auth::origin::Origins;
use crate::config::DashboardConfig;
use crate::users::UserCommand;

/// Shows who is a bot, why, and since when.
#[derive(Debug, Parser)]
#[command(name = "ja4-dashboard", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the pages.
    Run {
        /// Configuration file (YAML); see docs/samples/dashboard.yaml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print the configuration with all defaults and end.
        #[arg(long)]
        print_config: bool,
    },
    /// Print the `OpenAPI` document of the HTTP interface.
    Openapi,
    /// Make a one-time link for the local administrator and print it; the one before cannot be used any more.
    LoginLink {
        /// Configuration file of the dashboard that runs.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Local users.
    User {
        /// Configuration file of the dashboard.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(subcommand)]
        command: UserCommand,
    },
}

fn main() -> ExitCode {
    exit::report("ja4-dashboard", dispatch(&Cli::parse().command))
}

fn dispatch(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Run { config, print_config } => {
            let config = load(config)?;
            if *print_config {
                print(&ja4_common::config::print(&config).map_err(Failure::failed)?)
            } else {
                run::run(&config)
            }
        }
        Command::Openapi => print(&api::document().map_err(Failure::failed)?),
        Command::LoginLink { config } => {
            let config = load(config)?;
            config.validate().map_err(Failure::wrong_use)?;
            print(&(login_link(&config).map_err(Failure::failed)? + "\n"))
        }
        Command::User { config, command } => {
            let config = load(config)?;
            config.validate().map_err(Failure::wrong_use)?;
            users::run(&config, command).map_err(Failure::failed)
        }
    }
}

fn load(path: &Path) -> Result<DashboardConfig, Failure> {
    ja4_common::config::load(path).map_err(Failure::wrong_use)
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::failed)
}

/// The port may have been chosen by the kernel; the running dashboard has written where it is.
fn login_link(config: &DashboardConfig) -> anyhow::Result<String> {
    let listen = std::fs::read_to_string(config.data.join("listen"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(config.listen);
    link::make(config, &Origins::new(config.public_url.as_deref()).base(listen))
}
