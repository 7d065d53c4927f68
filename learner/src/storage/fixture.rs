//! Records for tests.

use std::collections::BTreeMap;

use crate::storage::records::TrainRecord;

/// Returns a record at `frames`, without episodes and with neutral figures.
pub(crate) fn train_record(frames: u64) -> TrainRecord {
    TrainRecord {
        frames,
        seconds: frames as f64 / 1000.0,
        updates_tried: frames / 32,
        version: frames / 32,
        episodes: 0,
        success: None,
        episode_return: None,
        length: None,
        path_ratio: None,
        policy_lag_mean: None,
        segments: None,
        loss_halt: None,
        frames_per_second: 1000.0,
        updates_per_second: 31.0,
        loss_policy: 0.0,
        loss_value: 0.0,
        entropy: 0.0,
        grad_norm: 0.0,
        noise_scale: None,
        rho_clip: 0.0,
        c_clip: 0.0,
        learning_rate: 0.0,
        curriculum_distance: 0,
        stages: BTreeMap::new(),
    }
}
