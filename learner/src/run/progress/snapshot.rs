//! The figures that progress shows.

use std::time::Duration;

use hrm_common::config::LearnerConfig;

/// The state of a run. Episode figures cover the last settled uniform episodes (`training::episode_window`),
/// and are `None` until there are enough.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressSnapshot {
    /// Frames of the run so far.
    pub frames: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Updates tried so far, skipped ones included.
    pub updates_tried: u64,
    /// Recent training speed, in frames per second.
    pub frames_per_second: f64,
    /// Seconds of training per second: 0 while no actor works, and any number in virtual time.
    pub pace: f64,
    /// Recent updates per second.
    pub updates_per_second: f64,
    /// Share of the episodes that reached the goal.
    pub success: Option<f64>,
    /// Mean undiscounted return.
    pub episode_return: Option<f64>,
    /// Mean length in steps.
    pub length: Option<f64>,
    /// Sum of lengths over sum of shortest paths, successes only.
    pub path_ratio: Option<f64>,
    /// Mean policy lag in versions.
    pub policy_lag: Option<f64>,
    /// Mean segments per decision; `None` if all decisions had the same number.
    pub segments: Option<f64>,
    /// The curriculum's largest start-goal distance; 0 when every episode is uniform.
    pub curriculum_distance: u32,
    /// Entropy of the policy in nats.
    pub entropy: f64,
}

impl ProgressSnapshot {
    /// Estimates the time until `learner.total_frames` or `learner.max_minutes` is reached, at the current speed.
    /// Returns `None` while nothing is trained.
    pub(super) fn time_left(&self, learner: &LearnerConfig) -> Option<Duration> {
        let time =
            |left: f64, per_second| Duration::try_from_secs_f64(left.max(0.0) / per_second).ok();
        let frames = learner.total_frames.saturating_sub(self.frames);
        let of_frames = time(frames as f64, self.frames_per_second);
        let of_time = learner
            .time_limit()
            .and_then(|limit| time(limit.as_secs_f64() - self.seconds, self.pace));
        [of_frames, of_time].into_iter().flatten().min()
    }
}
