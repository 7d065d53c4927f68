//! `[run]`, `[checkpoint]` and `[eval]`: name, folder and seed of a run, checkpoints and evaluations.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::rules::{self, Checked};

/// The device of the learner's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChoice {
    /// The first CUDA device if one is usable, otherwise the CPU. The log says which, and why.
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device. If none is usable, the error says why.
    Cuda,
}

/// The device on which the learner's own process acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActingDevice {
    /// The CPU, as all other actors.
    Cpu,
    /// That of the learner's tensors.
    Learner,
}

/// `[run]`: name, folder, seed and device of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// The name of the run; by default the name of the maze.
    pub name: String,
    /// The folder of the run; by default `runs/NAME`.
    pub dir: PathBuf,
    /// Seed of the weights, the shuffling and all actors' environments; at most 2^53 - 1.
    pub seed: u64,
    /// The device of the learner's tensors.
    pub device: DeviceChoice,
    /// The device on which the run's evaluations and its local actors act: "cpu", or "learner" for that of the
    /// learner's tensors. On a GPU, act with many environments per actor (`rollout.envs`).
    #[serde(default = "RunConfig::default_acting_device")]
    pub acting_device: ActingDevice,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            name: "four-rooms".to_owned(),
            dir: PathBuf::from("runs/four-rooms"),
            seed: 1,
            device: DeviceChoice::Auto,
            acting_device: Self::default_acting_device(),
        }
    }
}

impl RunConfig {
    fn default_acting_device() -> ActingDevice {
        ActingDevice::Cpu
    }

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

/// `[checkpoint]`: how often to save, and how many checkpoints to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointConfig {
    /// Frames between two checkpoints.
    pub interval_frames: u64,
    /// Number of newest checkpoints to keep.
    pub keep: usize,
    /// Copy of the run's folder, as `s3://BUCKET/PREFIX` or `file:///FOLDER`; "" for none. It is updated after every
    /// checkpoint and at the end, and a run whose folder was lost resumes from it. The address, region and keys of the
    /// store come from the environment variables `AWS_*`.
    pub copy_to: String,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            interval_frames: 50_000,
            keep: 3,
            copy_to: String::new(),
        }
    }
}

impl CheckpointConfig {
    pub(super) fn check(&self) -> Checked {
        rules::at_least("checkpoint.interval_frames", self.interval_frames, 1)?;
        rules::at_least("checkpoint.keep", self.keep, 1)?;
        let url = &*self.copy_to;
        let bucket = |rest: &str| !rest.is_empty() && !rest.starts_with('/');
        let known = url.strip_prefix("s3://").is_some_and(bucket)
            || url
                .strip_prefix("file://")
                .is_some_and(|folder| folder.starts_with('/'));
        if url.is_empty() || known {
            return Ok(());
        }
        rules::conflict(
            "checkpoint.copy_to",
            format!("{url:?}"),
            "it is no URL of a store",
            "write it as \"s3://BUCKET/PREFIX\" or \"file:///FOLDER\", or \"\" for no copy",
        )
    }
}

/// `[eval]`: evaluation on held-out seeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvalConfig {
    /// Frames between two evaluations during training; 0 switches them off.
    pub interval_frames: u64,
    /// Episodes per evaluation during training.
    pub episodes: usize,
    /// Episodes of the evaluation at the end of a run.
    pub final_episodes: usize,
    /// Seed of the held-out episodes; at most 2^53 - 1.
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
