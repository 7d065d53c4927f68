//! `hrm-learner`: trains HRM-Agent from the unrolls of many actors.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use hrm_common::config::{ConfigError, EXIT_CONFIG};

fn main() -> ExitCode {
    let error = match cli::Cli::parse().run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    eprintln!("hrm-learner: {error:#}");
    match error.downcast_ref::<ConfigError>() {
        Some(_) => ExitCode::from(EXIT_CONFIG as u8),
        None => ExitCode::FAILURE,
    }
}
