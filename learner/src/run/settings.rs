//! The settings of a start, compared with those of the run that it resumes.

use std::path::Path;

use anyhow::{Context as _, bail};
use hrm_common::{
    checkpoint::Checkpoint,
    config::{Change, Config, ConfigError, Effective, SavedUse},
};

use crate::storage::ledger_file;

/// The source of values that `serve` brings along.
pub const SERVE: &str = "serve";

/// Checks the settings against the checkpoint of the run in `folder`, or that a run without one may begin there.
/// Returns the configuration for the run's checkpoints.
///
/// # Errors
///
/// When a setting changed that a run cannot change, or the run's checkpoints are probably lost.
pub(super) fn settle(
    effective: &Effective,
    folder: &Path,
    checkpoint: Option<&Checkpoint>,
) -> anyhow::Result<Config> {
    match checkpoint {
        Some(checkpoint) => note_changes(effective, checkpoint)?,
        None => check_new(&effective.config, folder)?,
    }
    Ok(saved_config(effective, checkpoint))
}

/// Logs each setting that differs from the checkpoint, and rejects those that a run cannot change.
fn note_changes(effective: &Effective, checkpoint: &Checkpoint) -> Result<(), ConfigError> {
    let saved = checkpoint.saved(SavedUse::Resume)?;
    effective.refuse_changes(&saved)?;
    for change in effective.changes(&saved) {
        let Change {
            key,
            old,
            new,
            source,
        } = change;
        tracing::info!(
            key,
            old,
            new,
            source,
            "setting changed since the checkpoint"
        );
    }
    Ok(())
}

/// Returns the configuration for the checkpoints of a run. `serve` sets `learner.local_actors` for its own process
/// only; the checkpoint keeps the run's value. `learner.train` = false is never kept: who resumes a run wants to train
/// it.
fn saved_config(effective: &Effective, checkpoint: Option<&Checkpoint>) -> Config {
    let mut config = effective.config.clone();
    config.learner.train = true;
    if effective.origin("learner.local_actors") == SERVE
        && let Some(checkpoint) = checkpoint
    {
        config.learner.local_actors = checkpoint.config.learner.local_actors;
    }
    config
}

/// Checks that a folder without a checkpoint may start a run. Rejects it if the run's checkpoints were probably lost or
/// moved.
fn check_new(config: &Config, folder: &Path) -> anyhow::Result<()> {
    let trained = ledger_file::trained_frames(folder)
        .with_context(|| format!("reading how long {} was trained", folder.display()))?;
    let spec = &config.rollout;
    let batch = config.learner.batch_range().most * spec.envs * spec.unroll_length;
    // A crash before the first checkpoint loses as many frames.
    if trained <= config.checkpoint.interval_frames + batch as u64 {
        return Ok(());
    }
    bail!(
        "{} was trained on {trained} frames, but holds no checkpoint\n  remedy: restore its checkpoints (is \
         their disk mounted?), or name another folder with --run-dir, or remove this folder to start from the \
         beginning",
        folder.display()
    )
}
