//! Exit statuses of every binary, and the one way of saying a failure.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

/// Failed while running.
pub const FAILED: u8 = 1;
/// Wrong use or configuration.
pub const WRONG_USE: u8 = 2;

/// Why a process ends other than well.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration is wrong: exit status 2.
    WrongUse(Box<dyn Error + Send + Sync>),
    /// Anything else: exit status 1.
    Failed(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// Wraps an error as wrong use.
    pub fn wrong_use(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::WrongUse(error.into())
    }

    /// Wraps an error as a failure while running.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// Ends `main`: prints `name: error: cause: cause` as one line on stderr and gives the status.
pub fn report(name: &str, result: Result<(), Failure>) -> ExitCode {
    let (error, status) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::WrongUse(error)) => (error, WRONG_USE),
        Err(Failure::Failed(error)) => (error, FAILED),
    };
    // A broken stderr must not change the status.
    writeln!(std::io::stderr(), "{name}: {}", chain(error.as_ref())).ok();
    ExitCode::from(status)
}

/// The error and all its causes, outermost first.
pub fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The error and all its causes in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let words: Vec<String> = causes(error).map(ToString::to_string).collect();
    words.join(": ").replace('\n', " ")
}
