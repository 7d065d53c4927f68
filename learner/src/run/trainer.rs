//! The trainer thread, the only owner of the model.
//!
//! ```text
//!   loop:  batcher --Batch--> updater --weights--> publish (watch, to every subscription)
//!                               |-- episodes --> window, curriculum (travels with the weights)
//!                               |-- at intervals --> checkpoint, evaluation (another thread)
//!                               `-- report --> metrics, metrics.jsonl, progress
//! ```

use std::{
    iter::once,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use hrm_common::{
    checkpoint::{CheckpointError, RunState},
    config::Config,
    env::DistanceCurriculum,
    model::state,
    stage::{LearnerStage, StageClock},
    telemetry::names::{self, DropReason, RunFile},
    weights::Weights,
};
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    admission::{
        service::RunCounters,
        sessions::{Session, Sessions},
    },
    evaluation::{
        evaluator::{self, Evaluator, Job},
        owed::OwedEvaluations,
    },
    run::{
        evaluations::Evaluations,
        frame_mark::FrameMark,
        progress::Progress,
        reporter::{Reporter, RunPosition},
        restored::Restored,
        target::{Reached, Target},
        tolerate::Tolerate as _,
        training_clock::TrainingClock,
    },
    storage::{
        checkpoint_folder, ledger_file::LedgerFile, metrics_log::MetricsLog, records::Record,
        run_copy::RunCopy, run_dir::RunDir, summary,
    },
    training::{
        batch::Batch,
        batcher::{Batcher, Next},
        cohorts::Cohorts,
        episode_window::EpisodeWindow,
        update::Updater,
    },
};

/// Longest wait for an unroll before the trainer checks the clock and the finished evaluations.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// Reason why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The frames, the minutes or the success of the configuration are reached.
    Complete,
    /// The process was asked to stop.
    Stopped,
}

/// Errors that stop training.
#[derive(Debug, Error)]
pub(crate) enum TrainError {
    /// A checkpoint could not be written.
    #[error("checkpoint: {0}")]
    Checkpoint(CheckpointError),
    /// No update of several consecutive batches had a finite gradient and left finite weights.
    #[error(
        "no update of {0} batches in a row had a finite gradient and left finite weights: lower \
         optimizer.learning_rate, then resume from the last checkpoint with --resume"
    )]
    NotFinite(u32),
}

impl From<CheckpointError> for TrainError {
    fn from(error: CheckpointError) -> Self {
        Self::Checkpoint(error)
    }
}

/// Number of consecutive batches without an update after which training fails.
const NOT_FINITE_LIMIT: u32 = 10;

/// Attempts to write a checkpoint per checkpoint interval, while writing fails.
const RETRIES_AN_INTERVAL: u64 = 10;

/// The training of a run: owns the model, the optimiser and the curriculum.
#[derive(Debug)]
pub(crate) struct Trainer {
    config: Config,
    /// The configuration for checkpoints, without settings that apply only to this process.
    saved_config: Config,
    /// The model and its optimiser.
    pub(super) updater: Updater,
    /// The source of batches.
    pub(super) batcher: Batcher,
    newest: watch::Sender<Weights>,
    /// The version of the current weights: one more after each batch, even if its updates were undone.
    version: u64,
    /// The folder of the run.
    pub(super) run_dir: RunDir,
    /// The copy of that folder, if there is one.
    pub(super) copy: Option<RunCopy>,
    /// The sessions; checkpoints hold their count.
    sessions: Arc<Sessions>,
    /// The run's progress, for `Status` calls.
    counters: Arc<RunCounters>,
    evaluator: Evaluator,
    /// Keeps the weights of requested evaluations until their results are recorded.
    owed: OwedEvaluations,
    target: Target,
    curriculum: DistanceCurriculum,
    /// `metrics.jsonl`.
    pub(super) metrics: MetricsLog,
    /// `ledger.jsonl`.
    pub(super) ledger: LedgerFile,
    pub(super) reporter: Reporter,
    /// Episodes settled last.
    window: EpisodeWindow,
    /// Episodes not settled yet.
    cohorts: Cohorts,
    next_evaluation: FrameMark,
    next_checkpoint: FrameMark,
    /// Batches in a row without an update.
    not_finite: u32,
    /// True once the result of an earlier start is removed.
    withdrawn: bool,
    /// Environment steps trained on.
    pub(super) frames: u64,
    /// The run's training time.
    pub(super) time: TrainingClock,
}

impl Trainer {
    /// Creates the trainer of a run. Batches come from `batcher`; weights go to `newest`.
    pub(super) fn new(
        config: Config,
        restored: Restored,
        batcher: Batcher,
        newest: watch::Sender<Weights>,
        sessions: Arc<Sessions>,
        counters: Arc<RunCounters>,
        progress: Progress,
    ) -> Self {
        let version = newest.borrow().version;
        names::LEARNER_RUN_COMPLETE.get().set(0.0);
        names::LEARNER_WEIGHTS_VERSION.get().set(version as f64);
        let position = RunPosition {
            frames: restored.frames,
            seconds: restored.seconds,
            updates_tried: restored.updater.updates_tried,
            version,
            curriculum_distance: restored.curriculum.max_distance(),
        };
        let reporter = Reporter::new(&config, progress, position);
        let next = |interval| FrameMark::new(restored.frames, interval);
        let Evaluations {
            metrics,
            owed,
            evaluator,
            target,
        } = restored.evaluations;
        Self {
            window: EpisodeWindow::default(),
            cohorts: Cohorts::new(config.env.max_steps),
            next_evaluation: next(config.eval.interval_frames),
            next_checkpoint: next(config.checkpoint.interval_frames),
            not_finite: 0,
            withdrawn: false,
            config,
            saved_config: restored.saved_config,
            updater: restored.updater,
            batcher,
            newest,
            version,
            run_dir: restored.run_dir,
            copy: restored.copy,
            sessions,
            counters,
            evaluator,
            owed,
            target,
            curriculum: restored.curriculum,
            metrics,
            ledger: restored.ledger,
            reporter,
            frames: restored.frames,
            time: TrainingClock::new(restored.seconds),
        }
    }

    /// Trains until the run is complete, `stop` disconnects, or an error occurs. A complete or stopped run ends with a
    /// checkpoint. Returns the reason for the end.
    ///
    /// # Errors
    ///
    /// Returns an error when the last checkpoint cannot be written, or when no gradient is finite for too long. If an
    /// earlier checkpoint or a log line cannot be written, the failure is logged and counted, and the next one tries
    /// again.
    pub(crate) fn run(&mut self) -> Result<End, TrainError> {
        self.run_with(|trainer| match trainer.config.learner.train {
            true => trainer.train(),
            false => Ok(trainer.admit_only()),
        })
    }

    /// Trains with `train` in place of the usual loop, and ends as [`Trainer::run`] does.
    ///
    /// # Errors
    ///
    /// As [`Trainer::run`].
    pub(super) fn run_with(
        &mut self,
        train: impl FnOnce(&mut Self) -> Result<End, TrainError>,
    ) -> Result<End, TrainError> {
        let end = train(self)?;
        self.collect_evaluations();
        self.save()?;
        Ok(end)
    }

    fn train(&mut self) -> Result<End, TrainError> {
        let mut clock = StageClock::new(names::LEARNER_STAGE_SECONDS, LearnerStage::Wait);
        loop {
            if let Some(end) = self.finished() {
                return Ok(end);
            }
            self.collect_evaluations();
            self.book_sessions();
            self.time
                .observe(Instant::now(), self.sessions.rollouts_at_work() > 0);
            match self.batcher.next(self.version, PATIENCE, &mut clock) {
                Next::Batch(batch, sessions) => {
                    self.train_on(&batch, &sessions, Instant::now, &mut clock)?;
                }
                Next::Idle => clock.book(),
                Next::Stop => return Ok(End::Stopped),
            }
        }
    }

    /// Trains on a batch with the unrolls of `sessions`, publishes the weights, and evaluates and saves at intervals.
    /// Training time passes as `now` says.
    pub(super) fn train_on(
        &mut self,
        batch: &Batch,
        sessions: &[Arc<Session>],
        now: impl Fn() -> Instant,
        clock: &mut StageClock<LearnerStage>,
    ) -> Result<(), TrainError> {
        // An actor may have joined since the last observation; this batch is its work.
        self.time.observe(now(), true);
        if !self.withdrawn {
            // From here the run exceeds the result that an earlier start may have written.
            self.withdrawn = summary::withdraw(self.run_dir.path()).tolerate(RunFile::Evaluation);
        }
        let report = self.updater.update(batch, self.done(), clock);
        // First, because skipped updates may end training below.
        names::LEARNER_UPDATES_SKIPPED
            .get()
            .increment(report.updates_skipped);
        if report.rolled_back {
            names::LEARNER_ROLLBACKS.get().increment(1);
            tracing::error!(
                frames = self.frames,
                "the updates left weights that are not finite: they are rolled back, and the last good weights remain"
            );
        }
        let trained = report.updates_made > 0;
        let frames = (batch.frames() / sessions.len()) as u64;
        for session in sessions {
            match trained {
                true => session.ledger.train(frames),
                false => session.ledger.drop_frames(DropReason::NotFinite, frames),
            }
        }
        self.not_finite = if trained { 0 } else { self.not_finite + 1 };
        if self.not_finite == NOT_FINITE_LIMIT {
            return Err(TrainError::NotFinite(self.not_finite));
        }
        clock.enter(LearnerStage::Publish);
        if trained {
            self.frames += batch.frames() as u64;
        }
        for played in &batch.played {
            self.cohorts
                .play(played, &mut self.curriculum, &mut self.window);
        }
        self.curriculum.judge();
        // Publishes even without an update: a synchronous actor waits for a newer version.
        self.version += 1;
        self.publish(false);
        self.time.batch(now());
        self.ledger.mark(self.frames).tolerate(RunFile::Ledger);
        let position = self.position();
        self.reporter
            .report(position, batch, &report, &self.window, &mut self.metrics);
        if self.next_evaluation.reached(self.frames) {
            self.request_evaluation();
        }
        if self.next_checkpoint.reached(self.frames) {
            clock.enter(LearnerStage::Checkpoint);
            if !self.save().tolerate(RunFile::Checkpoint) {
                self.next_checkpoint
                    .sooner(self.frames, RETRIES_AN_INTERVAL);
            }
        }
        Ok(())
    }

    /// Returns a batch if the queue completes one, without waiting.
    pub(super) fn poll(&mut self, clock: &mut StageClock<LearnerStage>) -> Next {
        self.batcher.poll(self.version, clock)
    }

    /// Records that the trainer has waited for long.
    pub(super) fn stall(&mut self) {
        self.batcher.stall();
    }

    /// Records that actors work from `now` on.
    pub(super) fn observe(&mut self, now: Instant) {
        self.time.observe(now, true);
    }

    /// Returns the published weights.
    pub(super) fn newest(&self) -> Weights {
        self.newest.borrow().clone()
    }

    /// Waits until no evaluation is under way, and records the results.
    pub(super) fn wait_for_evaluations(&mut self) {
        self.evaluator.wait();
        self.collect_evaluations();
    }

    /// Drops what is admitted, and publishes the weights again as a new version at intervals, until `stop` disconnects.
    fn admit_only(&mut self) -> End {
        let mut clock = StageClock::new(names::LEARNER_STAGE_SECONDS, LearnerStage::Wait);
        // The result of a complete run stays.
        if let Some(end) = self.finished() {
            return end;
        }
        loop {
            let began = Instant::now();
            let interval = self.config.telemetry.log_interval();
            let Some(frames) = self.batcher.discard(interval, &mut clock) else {
                return End::Stopped;
            };
            self.book_sessions();
            clock.enter(LearnerStage::Publish);
            self.version += 1;
            self.publish(false);
            tracing::info!(
                sessions = self.sessions.len(),
                frames,
                frames_per_second = (frames as f64 / began.elapsed().as_secs_f64()).round(),
                version = self.version,
                "admitted without training"
            );
        }
    }

    /// Publishes the last weights, marked as the end of the run.
    pub(crate) fn publish_end(&self) {
        self.publish(true);
    }

    fn position(&self) -> RunPosition {
        RunPosition {
            frames: self.frames,
            seconds: self.time.seconds(),
            updates_tried: self.updater.updates_tried,
            version: self.version,
            curriculum_distance: self.curriculum.max_distance(),
        }
    }

    /// Returns the completed share of the run; 1 when it is complete.
    fn done(&self) -> f64 {
        let learner = &self.config.learner;
        learner.share_done(self.frames, self.time.seconds())
    }

    pub(super) fn finished(&self) -> Option<End> {
        if let Some(Reached { frames, success }) = self.target.reached() {
            tracing::info!(
                frames,
                success,
                target_success = self.config.learner.target_success,
                "learner.target_success is reached; to continue, raise it or set it to 0, and resume"
            );
            return Some(End::Complete);
        }
        if self.done() < 1.0 {
            return None;
        }
        let (frames, total_frames) = (self.frames, self.config.learner.total_frames);
        if frames < total_frames {
            tracing::warn!(
                frames,
                total_frames,
                max_minutes = self.config.learner.max_minutes,
                "learner.max_minutes is reached before learner.total_frames; to continue, raise it and resume"
            );
        }
        Some(End::Complete)
    }

    /// Encodes the weights once; all subscriptions send the same bytes.
    fn publish(&self, run_complete: bool) {
        let parameters = self.updater.model.to_parameters();
        let body = state::encode(&parameters);
        names::LEARNER_WEIGHTS_PUBLISHED.get().increment(1);
        names::LEARNER_WEIGHTS_PUBLISHED_BYTES
            .get()
            .increment(body.len() as u64);
        names::LEARNER_WEIGHTS_VERSION
            .get()
            .set(self.version as f64);
        self.newest.send_replace(Weights::new(
            self.version,
            body.into(),
            parameters.fingerprint(),
            self.curriculum.max_distance(),
            run_complete,
        ));
        self.counters.frames.store(self.frames, Ordering::Relaxed);
        self.counters
            .updates_tried
            .store(self.updater.updates_tried, Ordering::Relaxed);
    }

    /// Requests an evaluation of the published weights. The weights are kept until the result is recorded, so a stop or
    /// a crash does not lose the evaluation.
    fn request_evaluation(&mut self) {
        let job = Job {
            weights: self.newest.borrow().body.clone(),
            frames: self.frames,
            seconds: self.time.seconds(),
            updates_tried: self.updater.updates_tried,
        };
        if self.evaluator.request(job.clone()) {
            self.owed.owe(&job).tolerate(RunFile::Evaluation);
        }
    }

    /// Records the evaluations that have finished.
    fn collect_evaluations(&mut self) {
        while let Some(done) = self.evaluator.finished() {
            evaluator::set_gauges(&done);
            self.target.observe(&done);
            let (frames, evaluation) = (done.frames, &done.evaluation);
            tracing::info!(
                frames,
                episodes = evaluation.episodes,
                success = evaluation.success,
                path_ratio = evaluation.path_ratio,
                mean_length = evaluation.mean_length,
                "evaluation"
            );
            let recorded = self.metrics.append(&Record::Eval(done));
            if recorded.tolerate(RunFile::Metrics) {
                self.owed.settle(frames).tolerate(RunFile::Evaluation);
            }
        }
    }

    /// Writes the ledger lines of ended sessions whose frames all have a known fate.
    fn book_sessions(&mut self) {
        let mut settled = self.sessions.settled().into_iter();
        while let Some(session) = settled.next() {
            self.cohorts.forget(session.id, &mut self.curriculum);
            let written = self.ledger.append(&session.entry());
            if !written.tolerate(RunFile::Ledger) {
                // The other lines would fail too.
                self.sessions.put_back(once(session).chain(settled));
                return;
            }
        }
    }

    fn save(&mut self) -> Result<(), TrainError> {
        let (optimizer_steps, moments) = self.updater.optimizer.saved();
        let state = RunState {
            run_id: self.run_dir.identity.run_id.clone(),
            restarts: self.run_dir.identity.restarts,
            frames: self.frames,
            updates_tried: self.updater.updates_tried,
            optimizer_steps,
            sessions_joined: self.sessions.joined(),
            seconds: self.time.seconds(),
            curriculum: self.curriculum.state(),
            rng: self.updater.rng.clone(),
        };
        let folder = self.run_dir.checkpoints();
        let path = checkpoint_folder::save(
            &folder,
            &self.saved_config,
            &state,
            &self.updater.model.to_parameters(),
            moments,
        )?;
        // The checkpoint is saved, even if old ones cannot be removed.
        for error in checkpoint_folder::prune(&folder, self.config.checkpoint.keep, &path) {
            names::LEARNER_WRITE_FAILURES
                .with(RunFile::OldCheckpoint)
                .increment(1);
            tracing::warn!(%error, "an old checkpoint cannot be removed; training continues");
        }
        if let Some(copy) = &self.copy {
            copy.update(self.run_dir.path());
        }
        Ok(())
    }
}
