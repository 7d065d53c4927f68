//! `[virtual_time]`: training in virtual time, with simulated actors instead of processes.

use serde::{Deserialize, Serialize};

use super::rules::{self, Checked};

/// `[virtual_time]`: simulated actors, for studies of more machines than are available. Acting and training are real;
/// only their times come from here. All `seconds` of such a run are virtual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VirtualTimeConfig {
    /// Simulated actors, each with one rollout thread; 0 to train in real time with real actors.
    pub actors: u32,
    /// Frames per second that one actor plays.
    pub actor_frames_per_second: f64,
    /// Seconds that the learner needs for a batch, whatever its size.
    pub learner_batch_seconds: f64,
    /// Frames per second that the learner trains on, without the seconds of `learner_batch_seconds`.
    pub learner_frames_per_second: f64,
    /// Spread of these times: the standard deviation of a time divided by its mean.
    pub spread: f64,
    /// Seconds that an unroll, a permission or a version of the weights takes from one process to the other.
    pub link_seconds: f64,
}

impl Default for VirtualTimeConfig {
    fn default() -> Self {
        Self {
            actors: 0,
            actor_frames_per_second: 4000.0,
            learner_batch_seconds: 0.05,
            learner_frames_per_second: 5000.0,
            spread: 0.05,
            link_seconds: 0.001,
        }
    }
}

impl VirtualTimeConfig {
    /// Most simulated actors; each holds its mazes and their carry.
    const MAX_ACTORS: u32 = 1024;
    /// Range of the rates.
    const RATES: (f64, f64) = (0.001, 1e9);
    /// Longest time of a batch or of the link, in seconds.
    const MAX_SECONDS: f64 = 3600.0;

    pub(super) fn check(&self) -> Checked {
        let Self {
            actors,
            actor_frames_per_second,
            learner_batch_seconds,
            learner_frames_per_second,
            spread,
            link_seconds,
        } = *self;
        rules::between("virtual_time.actors", actors, 0, Self::MAX_ACTORS)?;
        let (slowest, fastest) = Self::RATES;
        for (key, rate) in [
            (
                "virtual_time.actor_frames_per_second",
                actor_frames_per_second,
            ),
            (
                "virtual_time.learner_frames_per_second",
                learner_frames_per_second,
            ),
        ] {
            rules::between(key, rate, slowest, fastest)?;
        }
        for (key, seconds) in [
            ("virtual_time.learner_batch_seconds", learner_batch_seconds),
            ("virtual_time.link_seconds", link_seconds),
        ] {
            rules::between(key, seconds, 0.0, Self::MAX_SECONDS)?;
        }
        rules::between("virtual_time.spread", spread, 0.0, 1.0)
    }
}
