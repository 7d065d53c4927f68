//! The gauges of what a run knows at its start: a scrape after a restart finds the figures that the run had
//! before.

use std::{path::Path, time::UNIX_EPOCH};

use hrm_common::{config::Effective, telemetry::names, weights::Weights};
use tch::Device;

use crate::{
    device,
    metrics_log::{EvalRecord, Record},
};

/// Sets the gauges of an evaluation.
pub fn evaluated(record: &EvalRecord) {
    let evaluation = &record.evaluation;
    names::LEARNER_EVAL_SUCCESS.get().set(evaluation.success);
    names::LEARNER_EVAL_LENGTH.get().set(evaluation.mean_length);
    names::LEARNER_EVAL_FRAMES.get().set(record.frames as f64);
    if let Some(ratio) = evaluation.path_ratio {
        names::LEARNER_EVAL_PATH_RATIO.get().set(ratio);
    }
}

/// Sets the gauges of a start of the learner on a device, whose first weights are `published`.
pub fn started(effective: &Effective, device: Device, starts: u64, published: &Weights) {
    let learner = &effective.config.learner;
    names::LEARNER_ACTORS.get().set(0.0);
    names::LEARNER_WEIGHTS_VERSION
        .get()
        .set(published.version as f64);
    names::LEARNER_RUN_INFO
        .with(effective.run_info(device::label(device)))
        .set(1.0);
    names::LEARNER_STARTS.get().set(starts as f64);
    names::LEARNER_MAX_POLICY_LAG
        .get()
        .set(learner.max_policy_lag as f64);
    names::LEARNER_BATCH_UNROLLS
        .get()
        .set(learner.batch_unrolls as f64);
    names::LEARNER_RUN_FRAMES_GOAL
        .get()
        .set(learner.total_frames as f64);
    names::LEARNER_RUN_COMPLETE.get().set(0.0);
}

/// Sets the gauges of where a run stands.
pub fn stands_at(frames: u64, curriculum_distance: u32) {
    names::LEARNER_RUN_FRAMES.get().set(frames as f64);
    names::LEARNER_CURRICULUM_DISTANCE
        .get()
        .set(f64::from(curriculum_distance));
}

/// Sets the gauges of what a run's log says last. Losses and figures over episodes are not among them: they
/// describe a batch and a window that the restart ended.
pub fn recorded(records: &[Record]) {
    let newest = |record: &&Record| record.frames();
    let (train, eval) = (
        records.iter().filter(|r| matches!(r, Record::Train(_))),
        records.iter().filter(|r| matches!(r, Record::Eval(_))),
    );
    if let Some(Record::Train(record)) = train.max_by_key(newest) {
        names::LEARNER_LEARNING_RATE.get().set(record.learning_rate);
    }
    if let Some(Record::Eval(record)) = eval.max_by_key(newest) {
        evaluated(record);
    }
}

/// Sets the gauges of the newest checkpoint, which was written at `path` with the run at `frames`.
pub fn checkpointed(path: &Path, frames: u64) {
    names::LEARNER_CHECKPOINT_FRAMES.get().set(frames as f64);
    let written = path.metadata().and_then(|metadata| metadata.modified());
    if let Some(age) = written
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
    {
        names::LEARNER_CHECKPOINT_TIME.get().set(age.as_secs_f64());
    }
}
