//! A run opened from its folder: new, or resumed from its newest checkpoint.

use std::sync::Arc;

use anyhow::Context as _;
use hrm_common::{
    config::{Config, Effective},
    env::DistanceCurriculum,
    model::{Parameters, state},
    telemetry::names,
    weights::Weights,
};
use hrm_kernels::Instructions;

use crate::{
    run::{
        acting,
        device::ChosenDevice,
        evaluations::{self, Evaluations},
        settings,
    },
    storage::{
        checkpoint_folder,
        ledger_file::LedgerFile,
        run_copy::RunCopy,
        run_dir::{LockedFolder, RunDir},
    },
    training::{model::Hrm, schedule, update::Updater},
    view::page::Feed,
};

/// Everything of a run that outlives a process, ready for training.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The folder of the run.
    pub(crate) run_dir: RunDir,
    /// The copy of the folder, if there is one.
    pub(crate) copy: Option<RunCopy>,
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
    /// `ledger.jsonl`.
    pub(crate) ledger: LedgerFile,
    /// The evaluations, with `metrics.jsonl`.
    pub(crate) evaluations: Evaluations,
}

impl Restored {
    /// Opens the folder of a run and restores the state of its newest checkpoint. Records and evaluations go to `feed`
    /// too.
    ///
    /// # Errors
    ///
    /// Returns an error with a remedy when the folder, its checkpoint or the configuration is invalid.
    pub(crate) fn open(
        effective: &Effective,
        resume: bool,
        device: &ChosenDevice,
        feed: Option<&Arc<Feed>>,
    ) -> anyhow::Result<Self> {
        let config = &effective.config;
        let folder = LockedFolder::new(&config.run.dir)?;
        let copy = match &*config.checkpoint.copy_to {
            "" => None,
            url => Some(RunCopy::open(url)?),
        };
        if let Some(copy) = &copy {
            copy.restore(folder.path(), resume)?;
        }
        let mut run_dir = RunDir::open(folder, resume)?;
        let mut parameters = Parameters::new(&config.model, config.env.grid(), config.run.seed)?;
        let checkpoint = checkpoint_folder::resume(&run_dir.checkpoints())?;
        let saved_config = settings::settle(effective, run_dir.path(), checkpoint.as_ref())?;
        if let Some(checkpoint) = &checkpoint {
            checkpoint
                .restore(&mut parameters)
                .context("resuming with another [model] or [env] than the run began with")?;
        }
        let state = checkpoint.as_ref().map(|checkpoint| &checkpoint.state);
        run_dir.begin(state, &effective.to_toml())?;
        if let Some(copy) = &copy {
            copy.begin(run_dir.path())?;
        }

        let mut updater = Updater::new(
            Hrm::from_parameters(parameters, device.device),
            config.loss.clone(),
            config.optimizer.clone(),
            device.threads,
            config.run.seed,
        )?
        .with_smallest_batch(config.learner.batch_range().least);
        let mut curriculum = DistanceCurriculum::new(&config.curriculum, &config.env)?;
        let (mut frames, mut seconds, mut sessions_joined) = (0, 0.0, 0);
        if let Some(checkpoint) = &checkpoint {
            let state = &checkpoint.state;
            updater.resume(checkpoint)?;
            curriculum.restore(&state.curriculum);
            (frames, seconds, sessions_joined) =
                (state.frames, state.seconds, state.sessions_joined);
            tracing::info!(frames, updates = state.updates_tried, "resumed");
            if let Some(feed) = feed {
                feed.progress(config.learner.share_done(frames, seconds), None);
            }
            schedule::log_jump(&checkpoint.config, config, state);
        }
        let ledger = LedgerFile::open(run_dir.path(), frames)
            .with_context(|| format!("opening the ledger in {}", run_dir.path().display()))?;
        let evaluations = evaluations::open(
            config,
            &run_dir,
            frames,
            acting::network(config, device.device),
            feed,
        )?;
        let restored = Self {
            saved_config,
            run_dir,
            copy,
            updater,
            curriculum,
            frames,
            seconds,
            sessions_joined,
            ledger,
            evaluations,
        };
        restored.set_gauges(effective, device);
        Ok(restored)
    }

    fn set_gauges(&self, effective: &Effective, device: &ChosenDevice) {
        names::LEARNER_RUN_INFO
            .with(effective.run_info(
                device.label.clone(),
                Instructions::chosen().to_string(),
                self.updater.backend().to_string(),
            ))
            .set(1.0);
        names::LEARNER_STARTS
            .get()
            .set((self.run_dir.identity.restarts + 1) as f64);
    }

    /// Returns the weights for the first actor.
    pub(crate) fn weights(&self) -> Weights {
        let parameters = self.updater.model.to_parameters();
        Weights::new(
            self.run_dir.identity.version_base(),
            state::encode(&parameters).into(),
            parameters.fingerprint(),
            self.curriculum.max_distance(),
            false,
        )
    }
}
