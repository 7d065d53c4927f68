//! `hrm-learner plot`: draws the learning curve of a run.

use std::path::PathBuf;

use clap::Args;
use hrm_common::output;

/// Flags of `plot`.
#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// The run's folder, such as runs/four-rooms.
    #[arg(value_name = "RUN_DIR")]
    run_dir: PathBuf,
}

/// Draws the learning curve from `metrics.jsonl`.
pub(super) fn run(args: &PlotArgs) -> anyhow::Result<()> {
    let path = crate::view::plot::draw_run(&args.run_dir)?;
    Ok(output::print_line(path.display())?)
}
