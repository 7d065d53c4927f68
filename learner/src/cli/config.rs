//! `hrm-learner config`.

use clap::Args;
use hrm_common::output;

use super::train::TrainArgs;

/// Flags of `config`: those of `train`, so that what is shown is what `train` would use, `--resume` included.
#[derive(Debug, Args)]
pub(crate) struct PrintArgs {
    /// Print the effective configuration as TOML, each value with where it came from.
    #[arg(long, required = true)]
    print: bool,
    #[command(flatten)]
    train: TrainArgs,
}

/// Prints the configuration that `train` would use with the same flags.
pub(super) fn run(args: PrintArgs) -> anyhow::Result<()> {
    debug_assert!(args.print, "clap requires it");
    Ok(output::print(args.train.load(None)?.to_toml())?)
}
