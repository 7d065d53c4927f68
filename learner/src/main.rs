//! `hrm-learner`: trains HRM-Agent from the unrolls of many actors.

use std::process::ExitCode;

use hrm_common::{config::FileError, program};
use hrm_learner::{
    cli::{Cli, NAME},
    study::file::StudyFileError,
};

fn main() -> ExitCode {
    program::run(NAME, Cli::run, |error| {
        error.is::<FileError>() || error.is::<StudyFileError>()
    })
}
