//! `hrm-learner plot`: draws the learning curves of runs.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use hrm_common::output;

use super::draft::unwritable;
use crate::view::plot::{self, PlotError};

/// Flags of `plot`.
#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// Folders of runs, such as runs/four-rooms; several are drawn in one picture.
    #[arg(value_name = "RUN_DIR", required = true)]
    run_dirs: Vec<PathBuf>,
    /// The picture's file. Without it, the picture is learning-curve.svg in the folder of a single run, or
    /// comparison.svg in the current folder.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Draws the learning curves from `metrics.jsonl`, and prints the path of the picture.
pub(super) fn run(args: &PlotArgs) -> anyhow::Result<()> {
    let path = match plot::draw_runs(&args.run_dirs, args.out.as_deref()) {
        Err(PlotError::Io { path, reason }) => {
            Err(reason).with_context(|| unwritable("--out", &path))?
        }
        drawn => drawn?,
    };
    Ok(output::print_line(path.display())?)
}
