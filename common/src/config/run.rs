//! `[run]`, `[checkpoint]` and `[eval]`: what a run is called, and what it leaves behind.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::rules::{self, Checked};

/// Where the learner's tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChoice {
    /// The first CUDA device where one can be used, otherwise the CPU; the log says which, and why.
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device; where none can be used, an error that says why.
    Cuda,
}

/// `[run]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// The run's name; by default the maze's.
    pub name: String,
    /// The folder the run writes to; by default `runs/NAME`.
    pub dir: PathBuf,
    /// Seeds the weights, the shuffling and, through the learner, every actor's environments; at most 2^53 - 1.
    pub seed: u64,
    /// Where the learner's tensors live.
    pub device: DeviceChoice,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            name: "four-rooms".to_owned(),
            dir: PathBuf::from("runs/four-rooms"),
            seed: 1,
            device: DeviceChoice::Auto,
        }
    }
}

impl RunConfig {
    pub(super) fn check(&self) -> Checked {
        let one_folder = |c: char| !c.is_control() && c != '/' && c != '\\';
        if self.name.is_empty()
            || self.name == "."
            || self.name == ".."
            || !self.name.chars().all(one_folder)
        {
            return rules::conflict(
                "run.name",
                format!("{:?}", self.name),
                "it must be usable as the name of a folder",
                "use letters, digits and dashes",
            );
        }
        if self.dir.as_os_str().is_empty() {
            return rules::conflict(
                "run.dir",
                "\"\"",
                "it must name a folder",
                "set it to a path such as runs/NAME",
            );
        }
        rules::seed("run.seed", self.seed)
    }
}

/// `[checkpoint]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointConfig {
    /// Frames between two checkpoints.
    pub interval_frames: u64,
    /// How many checkpoints to keep, the newest first.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            interval_frames: 50_000,
            keep: 3,
        }
    }
}

impl CheckpointConfig {
    pub(super) fn check(&self) -> Checked {
        rules::at_least("checkpoint.interval_frames", self.interval_frames, 1)?;
        rules::at_least("checkpoint.keep", self.keep, 1)
    }
}

/// `[eval]`: evaluation on held-out seeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvalConfig {
    /// Frames between two evaluations while training; 0 switches them off.
    pub interval_frames: u64,
    /// Episodes of an evaluation while training.
    pub episodes: usize,
    /// Episodes of the evaluation at the end of a run.
    pub final_episodes: usize,
    /// Seeds the held-out episodes; at most 2^53 - 1.
    pub seed: u64,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            interval_frames: 50_000,
            episodes: 200,
            final_episodes: 1000,
            seed: 1_000_003,
        }
    }
}

impl EvalConfig {
    pub(super) fn check(&self) -> Checked {
        rules::at_least("eval.episodes", self.episodes, 1)?;
        rules::at_least("eval.final_episodes", self.final_episodes, 1)?;
        rules::seed("eval.seed", self.seed)
    }
}
