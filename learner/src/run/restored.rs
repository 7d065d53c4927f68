//! A run opened from its folder: new, or resumed from its newest checkpoint.

use std::path::Path;

use anyhow::{Context as _, bail};
use hrm_common::{
    config::{Change, Config, ConfigError, Effective, SavedUse},
    env::DistanceCurriculum,
    model::{Hrm, state},
    telemetry::names,
    weights::Weights,
};
use tch::Device;

use crate::{
    evaluation::{
        evaluator::{self, Evaluator},
        owed::OwedEvaluations,
    },
    run::device,
    storage::{
        checkpoint::Checkpoint,
        checkpoint_folder, files,
        ledger_file::{self, LedgerFile},
        metrics_log::{self, MetricsLog},
        records::Record,
        run_dir::RunDir,
    },
    training::{schedule, update::Updater},
};

/// The source name of values that `serve` sets.
pub const SERVE: &str = "serve";

/// Everything of a run that outlives a process, ready for training.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The folder of the run.
    pub(crate) run_dir: RunDir,
    /// The configuration for checkpoints.
    pub(crate) saved_config: Config,
    /// The model and its optimiser.
    pub(crate) updater: Updater,
    /// The distance curriculum.
    pub(crate) curriculum: DistanceCurriculum,
    /// Environment steps trained on.
    pub(crate) frames: u64,
    /// Seconds of training.
    pub(crate) seconds: f64,
    /// Sessions opened so far.
    pub(crate) sessions_joined: u64,
    /// `metrics.jsonl`.
    pub(crate) metrics: MetricsLog,
    /// `ledger.jsonl`.
    pub(crate) ledger: LedgerFile,
    /// Weights of evaluations that are not recorded yet.
    pub(crate) owed: OwedEvaluations,
    /// Evaluates while training runs, owed evaluations first.
    pub(crate) evaluator: Evaluator,
}

impl Restored {
    /// Opens the folder of a run and restores the state of its newest checkpoint.
    ///
    /// # Errors
    ///
    /// Returns an error with a remedy when the folder, its checkpoint or the configuration is invalid.
    pub(crate) fn open(
        effective: &Effective,
        resume: bool,
        device: Device,
    ) -> anyhow::Result<Self> {
        let config = &effective.config;
        let mut run_dir = RunDir::open(&config.run.dir, resume)?;
        let mut model = Hrm::new(&config.model, config.env.grid(), config.run.seed, device)?;
        let checkpoint = checkpoint_folder::resume(&run_dir.checkpoints())?;
        if let Some(checkpoint) = &checkpoint {
            note_changes(effective, checkpoint)?;
            checkpoint
                .restore_model(&mut model)
                .context("resuming with another [model] or [env] than the run began with")?;
            run_dir.go_on_from(&checkpoint.state)?;
        } else {
            check_new(config, run_dir.path())?;
        }
        files::write(&run_dir.file("config.toml"), effective.to_toml())
            .with_context(|| format!("writing {}", run_dir.file("config.toml").display()))?;

        let mut updater = Updater::new(
            model,
            config.loss.clone(),
            config.optimizer.clone(),
            device::update_threads(config, device),
            config.run.seed,
        )?;
        let mut curriculum = DistanceCurriculum::new(&config.curriculum, &config.env)?;
        let (mut frames, mut seconds, mut sessions_joined) = (0, 0.0, 0);
        if let Some(checkpoint) = &checkpoint {
            let state = &checkpoint.state;
            updater.resume(checkpoint)?;
            curriculum.restore(&state.curriculum);
            (frames, seconds, sessions_joined) =
                (state.frames, state.seconds, state.sessions_joined);
            tracing::info!(frames, updates = state.updates, "resumed");
            schedule::log_jump(&checkpoint.config, config, state);
        }
        let ledger = open_ledger(run_dir.path(), frames)?;
        let (metrics, owed, evaluator) = open_evaluations(config, &run_dir, frames)?;
        Ok(Self {
            saved_config: saved_config(effective, checkpoint.as_ref()),
            run_dir,
            updater,
            curriculum,
            frames,
            seconds,
            sessions_joined,
            metrics,
            ledger,
            owed,
            evaluator,
        })
    }

    /// Returns the weights for the first actor.
    pub(crate) fn weights(&self) -> Weights {
        Weights::new(
            self.run_dir.identity.version_base() + self.updater.tried,
            state::encode(&self.updater.model).into(),
            self.updater.model.fingerprint(),
            self.curriculum.max_distance(),
            false,
        )
    }
}

/// Opens the ledger of a run that resumes from `frames`, and counts the frames that are rolled back.
fn open_ledger(folder: &Path, frames: u64) -> anyhow::Result<LedgerFile> {
    let (ledger, rolled_back) = LedgerFile::open(folder, frames)
        .with_context(|| format!("opening the ledger in {}", folder.display()))?;
    names::LEARNER_FRAMES_ROLLED_BACK
        .get()
        .increment(rolled_back);
    if rolled_back > 0 {
        tracing::warn!(
            frames = rolled_back,
            "rolled back: these frames were trained on after the last checkpoint, and are trained again"
        );
    }
    Ok(ledger)
}

/// Opens `metrics.jsonl` of a run at `frames`, and starts the evaluator with the owed evaluations.
fn open_evaluations(
    config: &Config,
    run_dir: &RunDir,
    frames: u64,
) -> anyhow::Result<(MetricsLog, OwedEvaluations, Evaluator)> {
    let path = run_dir.file("metrics.jsonl");
    let metrics = MetricsLog::open(&path, frames)?;
    let records = metrics_log::read(&path)?;
    set_gauges(&records);
    let (owed, jobs) = OwedEvaluations::open(run_dir.path(), frames, &records)?;
    if !jobs.is_empty() {
        tracing::info!(
            evaluations = jobs.len(),
            "making the evaluations that an earlier start did not finish"
        );
    }
    Ok((metrics, owed, Evaluator::start(config, jobs)?))
}

/// Sets the gauges to the last values in a run's log. It leaves out losses and episode figures: they describe a batch
/// and a window that ended with the process.
fn set_gauges(records: &[Record]) {
    let newest = |record: &&Record| record.frames();
    let (train, eval) = (
        records.iter().filter(|r| matches!(r, Record::Train(_))),
        records.iter().filter(|r| matches!(r, Record::Eval(_))),
    );
    if let Some(Record::Train(record)) = train.max_by_key(newest) {
        names::LEARNER_LEARNING_RATE.get().set(record.learning_rate);
    }
    if let Some(Record::Eval(record)) = eval.max_by_key(newest) {
        evaluator::set_gauges(record);
    }
}

/// Logs each setting that differs from the checkpoint, and rejects those that a run cannot change.
fn note_changes(effective: &Effective, checkpoint: &Checkpoint) -> Result<(), ConfigError> {
    let saved = checkpoint.saved(SavedUse::Resume)?;
    effective.refuse_changes(&saved)?;
    for change in effective.changes(&saved) {
        let Change {
            key,
            old,
            new,
            source,
        } = change;
        tracing::info!(
            key,
            old,
            new,
            source,
            "setting changed since the checkpoint"
        );
    }
    Ok(())
}

/// Returns the configuration for the checkpoints of a run. `serve` sets `learner.local_actors` for its own process
/// only; the checkpoint keeps the run's value.
fn saved_config(effective: &Effective, checkpoint: Option<&Checkpoint>) -> Config {
    let mut config = effective.config.clone();
    if effective.origin("learner.local_actors") == SERVE
        && let Some(checkpoint) = checkpoint
    {
        config.learner.local_actors = checkpoint.config.learner.local_actors;
    }
    config
}

/// Checks that a folder without a checkpoint may start a run. Rejects it if the run's checkpoints were probably lost or
/// moved.
fn check_new(config: &Config, folder: &Path) -> anyhow::Result<()> {
    let trained = ledger_file::trained_frames(folder)
        .with_context(|| format!("reading how long {} was trained", folder.display()))?;
    let spec = &config.rollout;
    let batch = config.learner.batch_unrolls * spec.envs * spec.unroll_length;
    // A crash before the first checkpoint loses as many frames.
    if trained <= config.checkpoint.interval_frames + batch as u64 {
        return Ok(());
    }
    bail!(
        "{} was trained on {trained} frames, but holds no checkpoint\n  remedy: restore its checkpoints (is \
         their disk mounted?), or name another folder with --run-dir, or remove this folder to start from the \
         beginning",
        folder.display()
    )
}
