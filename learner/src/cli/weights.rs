//! `hrm-learner export` and `hrm-learner import`: weights as plain safetensors files.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use hrm_common::{
    checkpoint::{self, Checkpoint, Moments, RunState},
    config::Override,
    env::DistanceCurriculum,
    model::{Parameters, published, state},
    output,
};
use rand::SeedableRng as _;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{draft::unwritable, settings::ConfigArgs};
use crate::storage::{
    checkpoint_folder, files,
    run_dir::{Identity, LockedFolder},
};

/// Flags of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A run's folder, its checkpoints folder, or a checkpoint file.
    #[arg(long, value_name = "DIR_OR_FILE")]
    checkpoint: PathBuf,
    /// The safetensors file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Use the state-dict names of the published checkpoints (only for models shaped like the paper preset).
    #[arg(long)]
    published: bool,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The safetensors file to read: f32 or bf16.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// The file has the state-dict names of the published checkpoints.
    #[arg(long)]
    published: bool,
    /// Folder of the new run; `train --resume --run-dir DIR` resumes it.
    #[arg(long, value_name = "DIR")]
    run_dir: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Writes a checkpoint's weights without the optimiser's state. With our names, the file also holds the configuration
/// and the run's state, so that programs can act with it.
pub(super) fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let checkpoint = super::settings::checkpoint(&args.checkpoint)?;
    // Checks the flags. Only the model matters here, and it is the checkpoint's.
    super::settings::load_over(ConfigArgs::default(), &checkpoint, [])?;
    let parameters = checkpoint.parameters()?;
    let bytes = match args.published {
        true => state::encode_named(&published::to_published(&parameters)?, None),
        false => {
            let Checkpoint { config, state, .. } = &checkpoint;
            checkpoint::encode(&args.out, config, state, &parameters, None)?
        }
    };
    files::write(&args.out, bytes).with_context(|| unwritable("--out", &args.out))?;
    Ok(output::print_line(args.out.display())?)
}

/// Creates a checkpoint from weights: a run that has not begun.
pub(super) fn import(args: ImportArgs) -> anyhow::Result<()> {
    let run_dir = Override::path("--run-dir", "run.dir", &args.run_dir)?;
    let config = args.config.load([Some(run_dir)])?.config;
    let name = args.weights.display();
    let bytes = fs::read(&args.weights)
        .with_context(|| format!("--weights {name}: name a safetensors file that can be read"))?;
    let named = state::decode(&bytes).with_context(|| format!("--weights {name}"))?;
    let mut parameters = Parameters::new(&config.model, config.env.grid(), config.run.seed)?;
    match args.published {
        true => published::load_published(&mut parameters, &named)?,
        false => parameters.load(&named)?,
    }
    let _lock = LockedFolder::without_run(&config.run.dir).context("--run-dir")?;
    let folder = config.run.dir.join("checkpoints");
    let state = RunState {
        restarts: 0,
        run_id: Identity::begin().run_id,
        frames: 0,
        updates_tried: 0,
        optimizer_steps: 0,
        sessions_joined: 0,
        seconds: 0.0,
        curriculum: DistanceCurriculum::new(&config.curriculum, &config.env)?.state(),
        rng: Xoshiro256PlusPlus::seed_from_u64(config.run.seed),
    };
    let moments = Moments::zeros(parameters.trained().len());
    let path = checkpoint_folder::save(&folder, &config, &state, &parameters, moments)?;
    Ok(output::print_line(path.display())?)
}
