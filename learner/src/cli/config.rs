//! `hrm-learner config`: prints the effective configuration.

use clap::Args;
use hrm_common::output;

use super::train::TrainArgs;

/// Flags of `config`: the flags of `train`, so that it shows what `train` would use, also with `--resume`.
#[derive(Debug, Args)]
pub(crate) struct PrintArgs {
    /// Print the effective configuration as TOML, with the source of each value.
    #[arg(long, required = true)]
    print: bool,
    /// Print it as one JSON object on one line instead: by section and key, the value and its source.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    train: TrainArgs,
}

/// Prints the configuration that `train` would use with the same flags.
pub(super) fn run(args: PrintArgs) -> anyhow::Result<()> {
    debug_assert!(args.print, "clap requires it");
    let effective = args.train.load(None)?;
    match args.json {
        true => output::print_line(effective.to_json())?,
        false => output::print(effective.to_toml())?,
    }
    Ok(())
}
