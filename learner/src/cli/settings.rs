//! The effective configuration of a subcommand: flags on top of files, environment and checkpoint.

use std::path::{Path, PathBuf};

use clap::Args;
use hrm_common::{
    checkpoint::{self, Checkpoint, CheckpointError},
    config::{Change, Config, ConfigError, Effective, Layers, Override, Saved, SavedUse},
    model::Segments,
    output,
};

/// Reads `--segments`.
pub(super) fn segments(text: &str) -> Result<Segments, String> {
    text.parse()
        .map_err(|error: toml::de::Error| error.message().to_owned())
}

/// Returns the newest valid checkpoint of a run's folder or of a checkpoints folder, or the file itself.
pub(super) fn checkpoint(place: &Path) -> Result<Checkpoint, CheckpointError> {
    let (checkpoint, damaged) = checkpoint::newest(place)?;
    for error in damaged {
        output::remark(format_args!(
            "hrm-learner: warning: {error}; using the previous checkpoint"
        ));
    }
    Ok(checkpoint)
}

/// Returns the configuration for a checkpoint's weights: this process's settings over the checkpoint's own. Rejects
/// settings of another model.
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

/// Returns the same configuration for a walk through mazes. Reports mazes that differ from the run's, and rejects them
/// if the model cannot read them.
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
        output::note(format_args!(
            "hrm-learner: {key} = {new} (from {source}), but the run has {old}"
        ));
    }
    let (of_run, given) = (checkpoint.config.env.grid(), effective.config.env.grid());
    anyhow::ensure!(
        of_run == given,
        "the checkpoint's model reads observations of {of_run:?}, but these mazes give {given:?}\n  remedy: leave \
         env.maze, env.rows and env.cols as they are in the run"
    );
    Ok(effective.config)
}

/// Returns the checkpoint from which the run in `dir` resumes, as a layer of its configuration; `None` without one.
pub(super) fn saved_run(dir: &Path) -> anyhow::Result<Option<Saved>> {
    let folder = dir.join("checkpoints");
    if checkpoint::list(&folder)?.is_empty() {
        return Ok(None);
    }
    // Damaged checkpoints are reported when they are renamed.
    let (checkpoint, _damaged) = checkpoint::newest(&folder)?;
    Ok(Some(checkpoint.saved(SavedUse::Resume)?.at(dir)))
}

/// Flags that set the configuration.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ConfigArgs {
    /// A configuration file; see configs/.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set any configuration key; `hrm-learner config --print` lists the keys.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// A value that the subcommand sets.
    #[arg(skip)]
    pub(super) subcommand: Option<Override>,
}

impl ConfigArgs {
    /// Returns the effective configuration, with this subcommand's flags on top.
    pub(super) fn load(
        self,
        flags: impl IntoIterator<Item = Option<Override>>,
    ) -> Result<Effective, ConfigError> {
        Config::load(&self.layers(flags)?)
    }

    /// Returns the effective configuration on top of the run's newest checkpoint, if there is one. `adapt` may remove
    /// settings of the process that wrote the checkpoint.
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
            ..Layers::from_process(self.config, &self.set, flags)?
        })
    }
}
