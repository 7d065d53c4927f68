//! Updates the weights with one batch.
//!
//! ```text
//!   batch --recompute--> values, log-probabilities, carries --vtrace--> targets, advantages
//!         --passes x shuffled minibatches: loss, gradient, clip, Adam--> weights
//! ```
//!
//! On a CPU the work is data-parallel over OS threads, each with one intra-op thread of libtorch. The model's
//! operations are too small to split, and a shard's whole graph stays in one core's cache. The gradients of the shards
//! are summed in order, so a run with the same seed and thread count is reproducible.

use hrm_common::{
    config::{LossConfig, OptimizerConfig},
    stage::{LearnerStage, StageClock},
};
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use thiserror::Error;

use crate::{
    storage::checkpoint::{Checkpoint, CheckpointError},
    training::{
        backend::Backend,
        batch::Batch,
        frames::{Frames, LagZero},
        gradient::TrainedFrames,
        model::Hrm,
        optimizer::Adam,
        recompute::{Recomputed, recompute_sharded},
        rollback::{self, WeightsBackup},
    },
};

/// The model in training, and all state that changes it.
#[derive(Debug)]
pub struct Updater {
    /// The model; only the updater writes to it.
    pub model: Hrm,
    /// The optimiser's state.
    pub optimizer: Adam,
    /// Shuffles the minibatches.
    pub rng: Xoshiro256PlusPlus,
    /// Updates tried in this run, skipped ones included; versions count them.
    pub updates_tried: u64,
    loss: LossConfig,
    backend: Backend,
    pool: rayon::ThreadPool,
}

/// The result of the updates on one batch; losses are means over frames and updates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpdateReport {
    /// Clipped policy-gradient loss.
    pub loss_policy: f64,
    /// Half the squared value error.
    pub loss_value: f64,
    /// Entropy of the policy in nats.
    pub entropy: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// Share of frames whose importance weight exceeds rho-bar by more than rounding.
    pub rho_clip: f64,
    /// Share of frames whose importance weight exceeds c-bar by more than rounding.
    pub c_clip: f64,
    /// Importance weights at policy lag 0, if the batch has any.
    pub lag_zero: Option<LagZero>,
    /// Learning rate of the last update.
    pub learning_rate: f64,
    /// Updates made.
    pub updates_made: u64,
    /// Updates without effect: their gradient was not finite, or they were rolled back.
    pub updates_skipped: u64,
    /// True when the updates were rolled back, because the weights or their outputs were not finite.
    pub rolled_back: bool,
}

/// The operating system did not start the worker threads.
#[derive(Debug, Error)]
#[error("starting {threads} learner threads: {reason}; lower learner.threads")]
pub struct ThreadsError {
    threads: usize,
    reason: rayon::ThreadPoolBuildError,
}

impl Updater {
    /// Creates an updater with `threads` workers; the seed is for shuffling.
    ///
    /// # Errors
    ///
    /// Returns an error when the threads cannot be started.
    pub fn new(
        model: Hrm,
        loss: LossConfig,
        optimizer: OptimizerConfig,
        threads: usize,
        seed: u64,
    ) -> Result<Self, ThreadsError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("update-{i}"))
            .build()
            .map_err(|reason| ThreadsError { threads, reason })?;
        let optimizer = Adam::new(optimizer, model.flat_parameters());
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Ok(Self {
            backend: Backend::new(model.device()),
            model,
            optimizer,
            rng,
            updates_tried: 0,
            loss,
            pool,
        })
    }

    /// Returns the updater with another backend, to compare the two.
    pub fn with_backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// Returns what computes.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Restores the state of a checkpoint, except the weights.
    ///
    /// # Errors
    ///
    /// Returns an error when the checkpoint's optimiser belongs to another model.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.optimizer.resume(checkpoint)?;
        self.rng = checkpoint.state.rng.clone();
        self.updates_tried = checkpoint.state.updates;
        Ok(())
    }

    /// Trains on one batch; `done` (0 to 1) is the completed share of the run. The weights can always be published
    /// afterwards: updates that spoil them are undone.
    pub fn update(
        &mut self,
        batch: &Batch,
        done: f64,
        clock: &mut StageClock<LearnerStage>,
    ) -> UpdateReport {
        let before = WeightsBackup::new(&self.model, &self.optimizer);
        clock.enter(LearnerStage::Recompute);
        let recomputed = self.recompute(batch);
        clock.enter(LearnerStage::Vtrace);
        let frames = Frames::new(batch, &recomputed, &self.loss);
        let states = recomputed.states;
        let first_tick = (frames.first_tick(), states.first_tick(batch.envs));
        let mut report = UpdateReport {
            rho_clip: frames.rho_clipped.into(),
            c_clip: frames.c_clipped.into(),
            lag_zero: frames.lag_zero,
            ..UpdateReport::default()
        };

        clock.enter(LearnerStage::Passes);
        let units_per_minibatch = self.loss.minibatch / self.loss.bptt_ticks;
        let mut order: Vec<i64> = (0..(batch.frames() / self.loss.bptt_ticks) as i64).collect();
        let threads = self.pool.current_num_threads();
        let mut trained = TrainedFrames::new(&self.model, &frames, states, &self.loss, threads);
        let (mut steps, mut sound) = (0, true);
        for _ in 0..self.loss.passes {
            order.shuffle(&mut self.rng);
            for minibatch in order.chunks(units_per_minibatch) {
                let gradients = trained.gradients(&self.model, minibatch, &self.loss, &self.pool);
                report.learning_rate = self.optimizer.learning_rate(done);
                let norm = self.optimizer.step(
                    self.model.flat_parameters(),
                    &gradients.flat,
                    report.learning_rate,
                );
                sound = norm.is_finite();
                if sound {
                    steps += 1;
                    report.grad_norm += norm;
                    report.loss_policy += gradients.policy;
                    report.loss_value += gradients.value;
                    report.entropy += gradients.entropy;
                } else {
                    report.updates_skipped += 1;
                }
            }
        }
        self.updates_tried += steps + report.updates_skipped;
        report.updates_made = steps;
        let usable = || {
            let (tokens, states) = &first_tick;
            rollback::is_usable(&self.model, &self.optimizer, tokens, states)
        };
        if steps > 0 && !(sound && usable()) {
            before.restore(&self.model, &mut self.optimizer);
            report.rolled_back = true;
            report.updates_skipped += std::mem::take(&mut report.updates_made);
        }
        let mean = |sum: &mut f64| *sum /= steps.max(1) as f64;
        mean(&mut report.grad_norm);
        mean(&mut report.loss_policy);
        mean(&mut report.loss_value);
        mean(&mut report.entropy);
        report
    }

    /// Computes the outputs of the current weights on a batch.
    pub fn recompute(&self, batch: &Batch) -> Recomputed {
        recompute_sharded(self.backend, &self.model, batch, &self.loss, &self.pool)
    }
}
