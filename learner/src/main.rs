//! `hrm-learner`: trains HRM-Agent from the unrolls of many actors.

mod cli;

use std::process::ExitCode;

use hrm_common::{config::FileError, program};
use hrm_learner::study::file::StudyFileError;

fn main() -> ExitCode {
    program::run("hrm-learner", cli::Cli::run, |error| {
        error.is::<FileError>() || error.is::<StudyFileError>()
    })
}
