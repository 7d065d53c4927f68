//! Runs a program from its command line to its exit status, for learner and actor alike.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use thiserror::Error;

use crate::{
    config::{ConfigError, EXIT_CONFIG},
    output::{self, OutputError},
};

/// The exit status of a run that [`Incomplete`] ends: `EX_TEMPFAIL` of sysexits.h, "try again".
const EXIT_INCOMPLETE: u8 = 75;

/// A signal stopped the run before it was complete, and the command line has `--require-complete`.
#[derive(Debug, Error)]
#[error("stopped before the run was complete")]
pub struct Incomplete;

/// Reads the command line of the program `name`, runs it, and prints the error that ends it. A configuration that
/// cannot be used has an exit status of its own; `is_configuration` names the program's own errors of that kind.
pub fn run<C: Parser>(
    name: &str,
    work: impl FnOnce(C) -> anyhow::Result<()>,
    is_configuration: impl FnOnce(&anyhow::Error) -> bool,
) -> ExitCode {
    let cli = match C::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return say(name, &answer),
    };
    let error = match work(cli).map_err(anyhow::Error::downcast::<OutputError>) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Ok(output)) => return output::conclude(name, Err(output)),
        Err(Err(error)) => error,
    };
    output::remark(format_args!("{name}: {error:#}"));
    if error.is::<Incomplete>() {
        return ExitCode::from(EXIT_INCOMPLETE);
    }
    match error.is::<ConfigError>() || is_configuration(&error) {
        true => ExitCode::from(EXIT_CONFIG as u8),
        false => ExitCode::FAILURE,
    }
}

/// Prints the help, the version or the command-line error, and returns the exit status.
fn say(name: &str, answer: &clap::Error) -> ExitCode {
    let printed = answer.print().and_then(|()| io::stdout().flush());
    match answer.use_stderr() {
        true => ExitCode::from(answer.exit_code() as u8),
        false => output::conclude(name, printed.map_err(OutputError::from)),
    }
}
