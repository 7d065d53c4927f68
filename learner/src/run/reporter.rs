//! The report on each batch: metrics, progress and, at intervals, a line of `metrics.jsonl`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hrm_common::{
    config::Config,
    stage::{LearnerStage, Stage as _},
    telemetry::names::{self, Clip, Labelled as _, LossTerm, RunFile, Statistic},
};

use crate::{
    run::{
        progress::{Progress, ProgressSnapshot, Screen},
        tolerate::Tolerate as _,
    },
    storage::{
        metrics_log::MetricsLog,
        records::{Record, TrainRecord},
    },
    training::{
        batch::Batch, episode_window::EpisodeWindow, frames::LagZero, update::UpdateReport,
    },
};

/// The state of a run after a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunPosition {
    /// Environment steps trained on.
    pub(crate) frames: u64,
    /// Seconds of training.
    pub(crate) seconds: f64,
    /// Updates tried.
    pub(crate) updates_tried: u64,
    /// Version of the published weights.
    pub(crate) version: u64,
    /// The curriculum's largest start-goal distance; 0 when every episode is uniform.
    pub(crate) curriculum_distance: u32,
}

/// Reports on batches.
#[derive(Debug)]
pub(crate) struct Reporter {
    progress: Progress,
    /// Time between two lines of `metrics.jsonl`.
    every: Duration,
    value_cost: f64,
    entropy_cost: f64,
    interval: Interval,
}

/// Counts since the last line of `metrics.jsonl`.
#[derive(Debug)]
struct Interval {
    began: Instant,
    frames: u64,
    seconds: f64,
    updates_tried: u64,
    lags: u64,
    unrolls: u64,
    segments: SegmentTally,
    /// Time that the process's trainers had spent in each stage at the beginning.
    stages: Vec<(LearnerStage, Duration)>,
}

/// Counts the segments of decisions.
#[derive(Debug, Default)]
struct SegmentTally {
    decisions: u64,
    segments: u64,
    /// The fewest and the most segments of a decision so far.
    range: Option<(u8, u8)>,
}

impl SegmentTally {
    fn add(&mut self, number: u8) {
        self.decisions += 1;
        self.segments += u64::from(number);
        let (least, most) = self.range.unwrap_or((number, number));
        self.range = Some((least.min(number), most.max(number)));
    }

    /// Returns the mean segments per decision.
    fn mean(&self) -> Option<f64> {
        (self.decisions > 0).then(|| self.segments as f64 / self.decisions as f64)
    }

    /// True if decisions had different numbers of segments.
    fn differ(&self) -> bool {
        self.range.is_some_and(|(least, most)| least < most)
    }
}

impl Interval {
    fn new(run: RunPosition) -> Self {
        Self {
            began: Instant::now(),
            frames: run.frames,
            seconds: run.seconds,
            updates_tried: run.updates_tried,
            lags: 0,
            unrolls: 0,
            segments: SegmentTally::default(),
            stages: LearnerStage::known()
                .into_iter()
                .map(|stage| (stage, stage.spent()))
                .collect(),
        }
    }

    /// Returns the share of each stage in the time since the beginning.
    fn stage_shares(&self) -> BTreeMap<String, f64> {
        let passed = |(stage, before): &(LearnerStage, Duration)| {
            let spent = stage.spent().saturating_sub(*before);
            (stage.as_str().to_owned(), spent.as_secs_f64())
        };
        let passed: Vec<_> = self.stages.iter().map(passed).collect();
        let all: f64 = passed.iter().map(|(_, seconds)| seconds).sum();
        let share = |(stage, seconds)| (stage, seconds / all.max(1e-9));
        passed.into_iter().map(share).collect()
    }
}

impl Reporter {
    /// Creates the reporter of a run that is at `run`, and sets the gauges that say so.
    pub(crate) fn new(config: &Config, progress: Progress, run: RunPosition) -> Self {
        names::LEARNER_RUN_FRAMES_GOAL
            .get()
            .set(config.learner.total_frames as f64);
        set_position(run);
        Self {
            progress,
            every: config.telemetry.log_interval(),
            value_cost: config.loss.value_cost,
            entropy_cost: config.loss.entropy_cost,
            interval: Interval::new(run),
        }
    }

    /// Returns the screen on which progress is shown.
    pub(crate) fn screen(&self) -> &Screen {
        self.progress.screen()
    }

    /// Reports on a batch, after which the run is at `run`.
    pub(crate) fn report(
        &mut self,
        run: RunPosition,
        batch: &Batch,
        update: &UpdateReport,
        window: &EpisodeWindow,
        metrics: &mut MetricsLog,
    ) {
        self.set_metrics(run, batch, update);
        self.interval.lags += batch.lags.iter().sum::<u64>();
        self.interval.unrolls += batch.lags.len() as u64;
        batch
            .segments
            .iter()
            .for_each(|&number| self.interval.segments.add(number));
        let due = self.interval.began.elapsed() >= self.every;
        let snapshot = snapshot(run, &self.interval, window, update);
        self.progress.update(&snapshot);
        if due {
            let record = record(run, &self.interval, &snapshot, window, update);
            let record = Record::Train(record);
            metrics.append(&record).tolerate(RunFile::Metrics);
            self.interval = Interval::new(run);
        }
    }

    fn set_metrics(&self, run: RunPosition, batch: &Batch, update: &UpdateReport) {
        names::LEARNER_UPDATES.get().increment(update.updates_made);
        set_position(run);
        for &lag in &batch.lags {
            names::LEARNER_POLICY_LAG.get().record(lag as f64);
        }
        let segments = names::LEARNER_SEGMENTS.get();
        for &number in &batch.segments {
            segments.record(f64::from(number));
        }
        let total = update.loss_policy + self.value_cost * update.loss_value
            - self.entropy_cost * update.entropy
            + update.loss_halt.unwrap_or_default();
        if let Some(halt) = update.loss_halt {
            names::LEARNER_LOSS.with(LossTerm::Halt).set(halt);
        }
        for (term, value) in [
            (LossTerm::Policy, update.loss_policy),
            (LossTerm::Value, update.loss_value),
            (LossTerm::Entropy, update.entropy),
            (LossTerm::Total, total),
        ] {
            names::LEARNER_LOSS.with(term).set(value);
        }
        names::LEARNER_GRADIENT_NORM.get().set(update.grad_norm);
        if let Some(frames) = update.noise_scale {
            names::LEARNER_NOISE_SCALE.get().set(frames);
        }
        names::LEARNER_LEARNING_RATE.get().set(update.learning_rate);
        names::LEARNER_CLIPPED.with(Clip::Rho).set(update.rho_clip);
        names::LEARNER_CLIPPED.with(Clip::C).set(update.c_clip);
        if let Some(LagZero { mean, max }) = update.lag_zero {
            for (statistic, value) in [(Statistic::Mean, mean), (Statistic::Max, max)] {
                names::LEARNER_LAG_ZERO_LOG_RATIO.with(statistic).set(value);
            }
        }
    }
}

fn set_position(run: RunPosition) {
    names::LEARNER_RUN_FRAMES.get().set(run.frames as f64);
    names::LEARNER_CURRICULUM_DISTANCE
        .get()
        .set(f64::from(run.curriculum_distance));
}

fn snapshot(
    run: RunPosition,
    interval: &Interval,
    window: &EpisodeWindow,
    update: &UpdateReport,
) -> ProgressSnapshot {
    let seconds = interval.began.elapsed().as_secs_f64().max(1e-9);
    let gauge = |metric: names::Gauge, value: Option<f64>| {
        if let Some(value) = value {
            metric.get().set(value);
        }
        value
    };
    ProgressSnapshot {
        frames: run.frames,
        seconds: run.seconds,
        updates_tried: run.updates_tried,
        frames_per_second: (run.frames - interval.frames) as f64 / seconds,
        pace: (run.seconds - interval.seconds) / seconds,
        updates_per_second: (run.updates_tried - interval.updates_tried) as f64 / seconds,
        success: gauge(names::LEARNER_SUCCESS, window.success()),
        episode_return: gauge(names::LEARNER_EPISODE_RETURN, window.episode_return()),
        length: gauge(names::LEARNER_EPISODE_LENGTH, window.length()),
        path_ratio: gauge(names::LEARNER_PATH_RATIO, window.path_ratio()),
        policy_lag: (interval.unrolls > 0).then(|| interval.lags as f64 / interval.unrolls as f64),
        segments: (interval.segments.mean()).filter(|_| interval.segments.differ()),
        curriculum_distance: run.curriculum_distance,
        entropy: update.entropy,
    }
}

fn record(
    run: RunPosition,
    interval: &Interval,
    snapshot: &ProgressSnapshot,
    window: &EpisodeWindow,
    update: &UpdateReport,
) -> TrainRecord {
    TrainRecord {
        frames: run.frames,
        seconds: run.seconds,
        updates_tried: run.updates_tried,
        version: run.version,
        episodes: window.episodes(),
        success: snapshot.success,
        episode_return: snapshot.episode_return,
        length: snapshot.length,
        path_ratio: snapshot.path_ratio,
        policy_lag_mean: snapshot.policy_lag,
        segments: interval.segments.mean(),
        frames_per_second: snapshot.frames_per_second,
        updates_per_second: snapshot.updates_per_second,
        loss_policy: update.loss_policy,
        loss_value: update.loss_value,
        entropy: update.entropy,
        loss_halt: update.loss_halt,
        grad_norm: update.grad_norm,
        noise_scale: update.noise_scale,
        rho_clip: update.rho_clip,
        c_clip: update.c_clip,
        learning_rate: update.learning_rate,
        curriculum_distance: run.curriculum_distance,
        stages: interval.stage_shares(),
    }
}
