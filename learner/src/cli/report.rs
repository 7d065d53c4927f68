//! The result of a run on standard output.

use std::path::Path;

use hrm_common::output::{self, OutputError};

use super::quote::word;
use crate::storage::summary::{REPLAY, Summary};

/// Prints the result and the next steps to standard output.
pub(super) fn print(summary: &Summary, run_dir: &str) -> Result<(), OutputError> {
    // Uses the program name as it was called, so that users can paste the output.
    let program = std::env::args_os().next();
    let program = program.and_then(|program| program.into_string().ok());
    let program = word(program.as_deref().unwrap_or("hrm-learner"));
    let checkpoint = word(run_dir);
    let Summary {
        frames,
        seconds,
        updates_tried,
        ..
    } = summary;
    let minutes = seconds / 60.0;
    if summary.evaluations.is_empty() {
        return output::print_line(format_args!(
            "Stopped and saved after {frames} frames ({minutes:.1} min).\n  \
             continue      the same command with --resume\n  \
             evaluate      {program} eval --checkpoint {checkpoint}"
        ));
    }
    output::print_line(format_args!(
        "Trained on {frames} frames in {minutes:.1} min ({:.0} frames/s, {updates_tried} updates).",
        *frames as f64 / seconds.max(1e-9)
    ))?;
    for evaluation in &summary.evaluations {
        output::print_line(format_args!("{evaluation}."))?;
    }
    output::print_line(format_args!(
        "Look at next:\n  {run_dir}/learning-curve.svg"
    ))?;
    // A run with very long episodes has none.
    if Path::new(run_dir).join(REPLAY).exists() {
        output::print_line(format_args!(
            "  {run_dir}/{REPLAY}     the agent in a browser, step by step"
        ))?;
    }
    output::print_line(format_args!(
        "  {program} replay --checkpoint {checkpoint}     the same in this terminal"
    ))
}
