//! `hrm-learner`: trains HRM-Agent from the unrolls of many actors.

mod cli;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use hrm_common::{
    config::{ConfigError, EXIT_CONFIG, FileError},
    output::{self, OutputError},
};
use hrm_learner::study::file::StudyFileError;

/// What the program is called where it complains.
const NAME: &str = "hrm-learner";

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return say(&answer),
    };
    let error = match cli.run().map_err(anyhow::Error::downcast::<OutputError>) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Ok(output)) => return output::conclude(NAME, Err(output)),
        Err(Err(error)) => error,
    };
    output::remark(format_args!("{NAME}: {error:#}"));
    if error.is::<ConfigError>() || error.is::<FileError>() || error.is::<StudyFileError>() {
        ExitCode::from(EXIT_CONFIG as u8)
    } else {
        ExitCode::FAILURE
    }
}

/// Prints the help or the version that was asked for, or what is wrong with the command line.
fn say(answer: &clap::Error) -> ExitCode {
    let printed = answer.print().and_then(|()| io::stdout().flush());
    match answer.use_stderr() {
        true => ExitCode::from(answer.exit_code() as u8),
        false => output::conclude(NAME, printed.map_err(OutputError::from)),
    }
}
