//! The configuration, which is loaded in layers and checked once.
//!
//! ```text
//!  defaults  <  checkpoint  <  FILE.toml  <  HRM__SECTION__KEY  <  --set section.key=value
//!      └────────────┴──────┬──────┴────────────────┴────────────────────┘
//!                  layers  │  one tree, and the source of each value
//!                    keys  │  unknown keys and wrong types
//!                 presets  │  `auto` takes its value from the preset or the maze
//!                   saved  │  values that a checkpoint fixes, and changes since; earlier reads those of older releases
//!                   rules  │  ranges, and keys that must agree
//!               effective  ▼
//!                       Config ──spec──▶ the part that actors receive
//! ```
//!
//! `run`, `actor`, `learner`, `training`, `telemetry` and `virtual_time` contain the sections; `address` and `file` are
//! types of their values. `error` has the errors, each with a remedy. The structs of `[env]`, `[curriculum]` and
//! `[model]` are in [`crate::env`] and [`crate::model`].

mod actor;
mod address;
mod earlier;
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
mod virtual_time;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::{
    actor::{ActorConfig, MAX_THREADS, RolloutConfig},
    address::WebListen,
    earlier::read_stored,
    effective::Effective,
    error::{ConfigError, EXIT_CONFIG},
    file::{FileError, read as read_file},
    layers::{ENVIRONMENT_PREFIX, Layers, Override},
    learner::{AutoBatch, BatchRange, BatchUnrolls, LearnerConfig},
    presets::Preset,
    rules::{LARGEST_WHOLE, toml_remedy, whole_range},
    run::{ActingDevice, CheckpointConfig, DeviceChoice, EvalConfig, RunConfig},
    saved::{Change, Saved, SavedUse},
    spec::{Spec, SpecError},
    telemetry::{LogFormat, LogLevel, TelemetryConfig},
    training::{LossConfig, OptimizerConfig, Prefix},
    virtual_time::VirtualTimeConfig,
};
use crate::{
    env::{CurriculumConfig, EnvConfig},
    invalid_value::InvalidValue,
    model::ModelConfig,
};

/// The whole configuration, without placeholders such as `auto`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The run's name, folder, seed and device.
    pub run: RunConfig,
    /// The mazes.
    pub env: EnvConfig,
    /// The distance curriculum.
    pub curriculum: CurriculumConfig,
    /// Named set of settings of the model.
    #[serde(default)]
    pub preset: Preset,
    /// The model.
    pub model: ModelConfig,
    /// The actors of the run.
    pub rollout: RolloutConfig,
    /// One actor process.
    pub actor: ActorConfig,
    /// The learner process.
    pub learner: LearnerConfig,
    /// The loss.
    pub loss: LossConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
    /// Evaluations.
    pub eval: EvalConfig,
    /// Logging.
    pub telemetry: TelemetryConfig,
    /// Simulated actors.
    #[serde(default)]
    pub virtual_time: VirtualTimeConfig,
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
            virtual_time: VirtualTimeConfig::default(),
        }
    }
}

impl Config {
    /// Merges the layers, and checks the resulting configuration.
    ///
    /// # Errors
    ///
    /// The first error. The process should print it and exit with [`EXIT_CONFIG`].
    pub fn load(layers: &Layers) -> Result<Effective, ConfigError> {
        Effective::load(layers)
    }

    /// Returns the folder of the layers' run. The checkpoint layer can come from there. Checks only the keys that name
    /// the folder.
    ///
    /// # Errors
    ///
    /// The same as of [`Config::load`].
    pub fn run_dir(layers: &Layers) -> Result<PathBuf, ConfigError> {
        Effective::run_dir(layers)
    }

    /// Checks a configuration that was created in code. A loaded one is already checked.
    ///
    /// # Errors
    ///
    /// The first value that is out of range or conflicts with another.
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
        self.virtual_time.check()?;
        self.check_batch()?;
        self.check_synchronous()?;
        self.check_target()?;
        self.check_virtual_time()
    }

    /// Returns the part that the learner sends to its actors.
    pub fn spec(&self) -> Spec {
        Spec {
            env: self.env.clone(),
            curriculum: self.curriculum.clone(),
            model: self.model.clone(),
            rollout: self.rollout.clone(),
        }
    }

    fn check_batch(&self) -> rules::Checked {
        let (minibatches, bptt_ticks) = (self.loss.minibatches(), self.loss.bptt_ticks);
        if !self.rollout.unroll_length.is_multiple_of(bptt_ticks) {
            return rules::conflict(
                "loss.bptt_ticks",
                bptt_ticks,
                format!(
                    "it does not divide rollout.unroll_length = {}",
                    self.rollout.unroll_length
                ),
                "set it to a divisor of that number",
            );
        }
        let unrolls = self.learner.batch_range().least;
        let sequences = unrolls.saturating_mul(self.rollout.frames()) / bptt_ticks;
        if sequences < minibatches {
            return rules::conflict(
                "loss.updates_per_batch",
                self.loss.updates_per_batch,
                format!(
                    "each of loss.passes = {} passes would have {minibatches} minibatches, but the smallest batch has \
                     only {sequences} sequences of loss.bptt_ticks = {bptt_ticks} frames ({unrolls} unrolls of \
                     rollout.envs * rollout.unroll_length = {} * {} frames)",
                    self.loss.passes, self.rollout.envs, self.rollout.unroll_length,
                ),
                format!("set it to at most {}", self.loss.passes * sequences),
            );
        }
        Ok(())
    }

    /// Checks that a batch of a synchronous run has one unroll per local actor, because each waits for the weights from
    /// its last unroll. With `local_actors` 0 the number of actors is unknown.
    fn check_synchronous(&self) -> rules::Checked {
        let (local, range) = (self.learner.local_actors, self.learner.batch_range());
        if !self.rollout.synchronous || local == 0 || local == range.for_rollouts(local) {
            return Ok(());
        }
        rules::conflict(
            "learner.batch_unrolls",
            self.learner.batch_unrolls,
            format!(
                "it differs from learner.local_actors = {local}, but with rollout.synchronous = true a \
                 batch has one unroll per local actor"
            ),
            format!("set it to {local}, or change learner.local_actors to match"),
        )
    }

    /// Checks that a run with a target makes evaluations that can reach it.
    fn check_target(&self) -> rules::Checked {
        let target = self.learner.target_success;
        if target == 0.0 || self.eval.interval_frames > 0 {
            return Ok(());
        }
        rules::conflict(
            "learner.target_success",
            target,
            "only an evaluation during training can reach it, and eval.interval_frames is 0",
            "set eval.interval_frames to the frames between two evaluations, or learner.target_success to 0",
        )
    }

    /// Checks that simulated actors are the only ones, and that they act while the learner trains.
    fn check_virtual_time(&self) -> rules::Checked {
        let actors = self.virtual_time.actors;
        let conflict =
            |reason, remedy| rules::conflict("virtual_time.actors", actors, reason, remedy);
        if actors == 0 {
            return Ok(());
        }
        if self.rollout.synchronous {
            return conflict(
                "with rollout.synchronous = true, acting and training take turns, which is not simulated",
                "set rollout.synchronous to false",
            );
        }
        if self.learner.local_actors > 0 {
            return conflict(
                "real actors cannot act in virtual time, and learner.local_actors is not 0",
                "set learner.local_actors to 0",
            );
        }
        if !self.learner.train {
            return conflict(
                "simulated actors play for a learner that trains, and learner.train is false",
                "set learner.train to true",
            );
        }
        if self.rollout.unrolls_in_flight != 1 {
            return conflict(
                "a simulated actor has one unroll under way, and rollout.unrolls_in_flight is not 1",
                "set rollout.unrolls_in_flight to 1",
            );
        }
        if self.learner.queue_unrolls < actors as usize {
            return conflict(
                "the queue needs a place for an unroll of each, and learner.queue_unrolls is lower",
                "raise learner.queue_unrolls to this number",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
