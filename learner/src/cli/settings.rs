//! The effective configuration of a subcommand: flags on top of files, environment and checkpoint.

use std::path::{Path, PathBuf};

use clap::Args;
use hrm_common::{
    config::{Change, Config, ConfigError, Effective, Layers, Override, Saved, SavedUse},
    output,
};

use crate::storage::{
    checkpoint::{Checkpoint, CheckpointError},
    checkpoint_folder,
};

/// The newest sound checkpoint of a run's folder, a checkpoints folder, or the file itself.
pub(super) fn checkpoint(place: &Path) -> Result<Checkpoint, CheckpointError> {
    let (checkpoint, damaged) = checkpoint_folder::newest(place)?;
    for error in damaged {
        output::remark(format_args!(
            "hrm-learner: warning: {error}; taking the one before"
        ));
    }
    Ok(checkpoint)
}

/// The configuration for a checkpoint's weights: the checkpoint's own below what this process sets. Another model is
/// refused.
pub(super) fn load_over(
    args: ConfigArgs,
    checkpoint: &Checkpoint,
    flags: impl IntoIterator<Item = Option<Override>>,
) -> Result<Effective, ConfigError> {
    let saved = checkpoint.saved(SavedUse::Weights)?;
    Config::load(&Layers {
        checkpoint: Some(saved),
        ..args.layers(flags)?
    })
}

/// The same for a walk through mazes. Those that are not the run's are reported, and refused where the model cannot
/// read them.
pub(super) fn load_for_walk(
    args: ConfigArgs,
    checkpoint: &Checkpoint,
    flags: impl IntoIterator<Item = Option<Override>>,
) -> anyhow::Result<Config> {
    let effective = load_over(args, checkpoint, flags)?;
    let saved = checkpoint.saved(SavedUse::Weights)?;
    let mazes = effective.changes(&saved).into_iter();
    for change in mazes.filter(|change| change.key.starts_with("env.")) {
        let Change {
            key,
            old,
            new,
            source,
        } = change;
        output::remark(format_args!(
            "hrm-learner: {key} = {new} (from {source}), where the run has {old}"
        ));
    }
    let (of_run, given) = (checkpoint.config.env.grid(), effective.config.env.grid());
    anyhow::ensure!(
        of_run == given,
        "the checkpoint's model reads observations of {of_run:?}, these mazes give {given:?}\n  remedy: leave \
         env.maze, env.rows and env.cols as they are in the run"
    );
    Ok(effective.config)
}

/// The checkpoint that the run in `dir` resumes from, as a layer of its configuration; `None` where there is none.
pub(super) fn saved_run(dir: &Path) -> anyhow::Result<Option<Saved>> {
    let folder = dir.join("checkpoints");
    if checkpoint_folder::list(&folder)?.is_empty() {
        return Ok(None);
    }
    // Those that are damaged are reported when they are moved aside.
    let (checkpoint, _damaged) = checkpoint_folder::newest(&folder)?;
    Ok(Some(checkpoint.saved(SavedUse::Resume)?.at(dir)))
}

/// The flags that make a configuration.
#[derive(Debug, Default, Args)]
pub(super) struct ConfigArgs {
    /// A configuration file; see configs/.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set any key of the configuration; `hrm-learner config --print` lists them.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// A value that the subcommand brings along.
    #[arg(skip)]
    pub(super) subcommand: Option<Override>,
}

impl ConfigArgs {
    /// The effective configuration, with what flags of their own set on top.
    pub(super) fn load(
        self,
        flags: impl IntoIterator<Item = Option<Override>>,
    ) -> Result<Effective, ConfigError> {
        Config::load(&self.layers(flags)?)
    }

    /// The same on top of the newest checkpoint in the run's folder, if there is one. `adapt` may take out of it
    /// what belongs to the process that wrote it.
    pub(super) fn load_resumed(
        self,
        flags: impl IntoIterator<Item = Option<Override>>,
        adapt: impl FnOnce(Saved) -> Saved,
    ) -> anyhow::Result<Effective> {
        let layers = self.layers(flags)?;
        let saved = saved_run(&Config::run_dir(&layers)?)?;
        Ok(Config::load(&Layers {
            checkpoint: saved.map(adapt),
            ..layers
        })?)
    }

    pub(super) fn layers(
        self,
        flags: impl IntoIterator<Item = Option<Override>>,
    ) -> Result<Layers, ConfigError> {
        Ok(Layers {
            subcommand: self.subcommand,
            ..Layers::of_process(self.config, &self.set, flags)?
        })
    }
}
