//! Configuration: loaded in layers, checked once, and never looked at by key again.
//!
//! ```text
//!  defaults  <  checkpoint  <  FILE.toml  <  HRM__SECTION__KEY  <  --set section.key=value
//!      └────────────┴──────┬──────┴────────────────┴────────────────────┘
//!                  layers  │  one tree, and where each value came from
//!                    keys  │  is there such a key, and can it hold this?
//!                 presets  │  `auto` takes its value from the preset or the maze
//!                   saved  │  what a checkpoint has fixed, and what changed since
//!                   rules  │  ranges, and keys that must agree
//!               effective  ▼
//!                       Config ──spec──▶ what an actor is told
//! ```
//!
//! `run`, `actor`, `learner`, `training` and `telemetry` hold the sections; `[env]`, `[curriculum]`
//! and `[model]` are the structs of [`crate::env`] and [`crate::model`].

mod actor;
mod address;
mod effective;
mod error;
mod file;
mod keys;
mod layers;
mod learner;
mod presets;
mod rules;
mod run;
mod saved;
mod spec;
mod telemetry;
mod training;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::{
    actor::{ActorConfig, RolloutConfig},
    effective::Effective,
    error::{ConfigError, EXIT_CONFIG},
    file::{FileError, read as read_file},
    layers::{ENVIRONMENT_PREFIX, Layers, Override},
    learner::LearnerConfig,
    presets::Preset,
    rules::{LARGEST_WHOLE, toml_remedy, whole_range},
    run::{CheckpointConfig, DeviceChoice, EvalConfig, RunConfig},
    saved::{Change, Saved, SavedUse},
    spec::{Spec, SpecError},
    telemetry::{LogFormat, LogLevel, TelemetryConfig},
    training::{LossConfig, OptimizerConfig},
};
use crate::{
    env::{CurriculumConfig, EnvConfig},
    invalid_value::InvalidValue,
    model::ModelConfig,
};

/// The whole configuration, resolved: nothing in it stands for something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The run's name, folder, seed and device.
    pub run: RunConfig,
    /// The mazes.
    pub env: EnvConfig,
    /// The distance curriculum.
    pub curriculum: CurriculumConfig,
    /// The set of values that `[model]` began from; `model.preset` in a file.
    #[serde(default)]
    pub preset: Preset,
    /// The model.
    pub model: ModelConfig,
    /// How actors act.
    pub rollout: RolloutConfig,
    /// An actor process.
    pub actor: ActorConfig,
    /// The learner process.
    pub learner: LearnerConfig,
    /// The loss.
    pub loss: LossConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// When to save.
    pub checkpoint: CheckpointConfig,
    /// When and how to evaluate.
    pub eval: EvalConfig,
    /// Logs.
    pub telemetry: TelemetryConfig,
}

/// The small model on four rooms.
impl Default for Config {
    fn default() -> Self {
        Self {
            run: RunConfig::default(),
            env: EnvConfig::four_rooms(),
            curriculum: CurriculumConfig::default(),
            preset: Preset::default(),
            model: ModelConfig::small(),
            rollout: RolloutConfig::default(),
            actor: ActorConfig::default(),
            learner: LearnerConfig::default(),
            loss: LossConfig::default(),
            optimizer: OptimizerConfig::default(),
            checkpoint: CheckpointConfig::default(),
            eval: EvalConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Config {
    /// Loads and checks the configuration that the layers make.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, as a [`ConfigError`] to be printed before the process exits
    /// with [`EXIT_CONFIG`].
    pub fn load(layers: &Layers) -> Result<Effective, ConfigError> {
        Effective::load(layers)
    }

    /// The folder of the run that the layers are about, which may hold the checkpoint that is one of them. Only what
    /// names the folder is checked.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn run_dir(layers: &Layers) -> Result<PathBuf, ConfigError> {
        Effective::run_dir(layers)
    }

    /// Checks a configuration that was put together in code. A loaded one has been checked.
    ///
    /// # Errors
    ///
    /// The first value that is out of range or contradicts another.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        self.run.check()?;
        self.env.validate()?;
        self.curriculum.validate()?;
        self.model.validate()?;
        self.rollout.check()?;
        self.actor.check()?;
        self.learner.check()?;
        self.loss.check()?;
        self.optimizer.check()?;
        self.checkpoint.check()?;
        self.eval.check()?;
        self.telemetry.check()?;
        self.check_batch()?;
        self.check_synchronous()
    }

    /// Frames of one batch.
    pub(crate) fn batch_frames(&self) -> usize {
        self.learner
            .batch_unrolls
            .saturating_mul(self.rollout.frames())
    }

    /// What the learner tells its actors.
    pub fn spec(&self) -> Spec {
        Spec {
            env: self.env.clone(),
            curriculum: self.curriculum.clone(),
            model: self.model.clone(),
            rollout: self.rollout.clone(),
        }
    }

    fn check_batch(&self) -> rules::Checked {
        let (minibatch, bptt_ticks) = (self.loss.minibatch, self.loss.bptt_ticks);
        if !self.batch_frames().is_multiple_of(minibatch) {
            return rules::conflict(
                "loss.minibatch",
                minibatch,
                format!(
                    "it does not divide a batch evenly: learner.batch_unrolls * rollout.envs * \
                     rollout.unroll_length = {} * {} * {} = {} frames",
                    self.learner.batch_unrolls,
                    self.rollout.envs,
                    self.rollout.unroll_length,
                    self.batch_frames()
                ),
                "set it to a divisor of that number",
            );
        }
        if !self.rollout.unroll_length.is_multiple_of(bptt_ticks) {
            return rules::conflict(
                "loss.bptt_ticks",
                bptt_ticks,
                format!(
                    "it does not divide rollout.unroll_length = {} evenly",
                    self.rollout.unroll_length
                ),
                "set it to a divisor of that number",
            );
        }
        Ok(())
    }

    /// A synchronous actor waits for the weights that its last unroll went into, so every actor's
    /// unroll must be in every batch. Actors elsewhere (`local_actors` 0) cannot be counted here.
    fn check_synchronous(&self) -> rules::Checked {
        let (local, batch) = (self.learner.local_actors, self.learner.batch_unrolls);
        if !self.rollout.synchronous || local == 0 || local == batch {
            return Ok(());
        }
        rules::conflict(
            "learner.batch_unrolls",
            batch,
            format!(
                "it differs from learner.local_actors = {local}, but with rollout.synchronous = true a \
                 batch is one unroll of every actor"
            ),
            format!("set it to {local}, or change learner.local_actors to match"),
        )
    }
}

#[cfg(test)]
mod tests;
