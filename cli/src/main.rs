//! `ja4`: starts and supervises the whole pipeline on one machine, migrates the store, and says what this machine can do.
//!
//! Each subcommand is one module. Read [`up`] first: it names every process and the order of things.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to a person"
)]

mod capture;
mod doctor;
mod prepare;
mod programs;
mod schema;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit status for wrong use or configuration; clap uses the same for flags.
const EXIT_USAGE: u8 = 2;

/// ja4-platform on one machine.
#[derive(Debug, Parser)]
#[command(name = "ja4", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole pipeline here; ctrl-C stops it in order and loses nothing acknowledged.
    Up(up::Options),
    /// Plan, apply and check the store's migrations.
    Schema(schema::Options),
    /// What this machine can do, with the command that mends what it cannot.
    Doctor(doctor::Options),
    /// Make folders with an owner and a mode: in an init container.
    PrepareFolder(prepare::Options),
    /// Become a program that ends with this process's parent.
    #[command(hide = true)]
    RunChild {
        parent: u32,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Up(options) => up::run(&options),
        Command::Schema(options) => schema::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::PrepareFolder(options) => prepare::run(&options),
        Command::RunChild {
            parent,
            program,
            args,
        } => up::become_program(parent, &program, &args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ja4: {error:#}");
            if error.is::<WrongUse>() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// An error that another command line or configuration mends, not another try.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongUse(String);
