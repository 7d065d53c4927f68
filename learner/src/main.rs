//! `hrm-learner`: trains HRM-Agent from the unrolls of many actors.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use hrm_common::config::{ConfigError, EXIT_CONFIG, FileError};
use hrm_learner::study::file::StudyFileError;

fn main() -> ExitCode {
    let error = match cli::Cli::parse().run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    eprintln!("hrm-learner: {error:#}");
    if error.is::<ConfigError>() || error.is::<FileError>() || error.is::<StudyFileError>() {
        ExitCode::from(EXIT_CONFIG as u8)
    } else {
        ExitCode::FAILURE
    }
}
