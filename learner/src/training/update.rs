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
    model::{Gradient, Hrm},
    stage::{LearnerStage, StageClock},
    wire::MAX_LOGIT,
};
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use tch::{Kind, Tensor, no_grad};
use thiserror::Error;

use crate::{
    storage::checkpoint::{Checkpoint, CheckpointError, Moments},
    training::{
        batch::Batch,
        gradient::{Frames, Gradients, shard_gradients},
        optimizer::Adam,
        recompute::{Episodes, Recomputed, recompute},
        vtrace::{VTrace, VTraceConfig, VTraceInput, vtrace},
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
    /// Optimiser steps tried in this run, including skipped ones; versions count them.
    pub tried: u64,
    loss: LossConfig,
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
    /// Learning rate of the last update.
    pub learning_rate: f64,
    /// Optimiser steps made.
    pub made: u64,
    /// Updates without effect: their gradient was not finite, or they were undone.
    pub skipped: u64,
    /// True when the updates were undone, because the weights or their outputs were not finite.
    pub rolled_back: bool,
}

/// The operating system did not start the worker threads.
#[derive(Debug, Error)]
#[error("starting {threads} learner threads: {reason}; lower learner.threads")]
pub struct ThreadsError {
    threads: usize,
    reason: rayon::ThreadPoolBuildError,
}

/// A copy of weights and optimiser state, for undoing updates.
struct WeightsBackup {
    parameters: Tensor,
    steps: u64,
    moments: Moments<Tensor>,
}

impl WeightsBackup {
    fn new(model: &Hrm, optimizer: &Adam) -> Self {
        let (steps, Moments { mean, square }) = optimizer.state();
        Self {
            parameters: model.flat_parameters().copy(),
            steps,
            moments: Moments {
                mean: mean.copy(),
                square: square.copy(),
            },
        }
    }

    fn restore(&self, model: &Hrm, optimizer: &mut Adam) {
        no_grad(|| {
            model
                .flat_parameters()
                .shallow_clone()
                .copy_(&self.parameters);
        });
        let Moments { mean, square } = &self.moments;
        optimizer.restore(self.steps, Moments { mean, square });
    }
}

/// Returns true when all weights and all optimiser state are finite.
fn is_finite(model: &Hrm, optimizer: &Adam) -> bool {
    let (_, Moments { mean, square }) = optimizer.state();
    [model.flat_parameters(), mean, square]
        .iter()
        .all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1)
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
            model,
            optimizer,
            rng,
            tried: 0,
            loss,
            pool,
        })
    }

    /// Restores the state of a checkpoint, except the weights.
    ///
    /// # Errors
    ///
    /// Returns an error when the checkpoint's optimiser belongs to another model.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.optimizer.resume(checkpoint)?;
        self.rng = checkpoint.state.rng.clone();
        self.tried = checkpoint.state.updates;
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
        let traced = self.vtrace(batch, &recomputed);
        let mut report = UpdateReport {
            rho_clip: traced.rho_clipped.into(),
            c_clip: traced.c_clipped.into(),
            ..UpdateReport::default()
        };
        let frames = Frames::new(batch, recomputed, &traced, &self.loss);

        clock.enter(LearnerStage::Passes);
        let units = frames.carries.size()[1];
        let units_per_minibatch = self.loss.minibatch / self.loss.bptt_ticks;
        let mut order: Vec<i64> = (0..units).collect();
        let (mut steps, mut sound) = (0, true);
        for _ in 0..self.loss.passes {
            order.shuffle(&mut self.rng);
            for minibatch in order.chunks(units_per_minibatch) {
                let gradients = self.gradients(&frames, minibatch);
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
                    report.skipped += 1;
                }
            }
        }
        self.tried += steps + report.skipped;
        report.made = steps;
        // Finite weights can still be useless, so their outputs are checked too.
        let usable = || is_finite(&self.model, &self.optimizer) && self.acts(&frames);
        if steps > 0 && !(sound && usable()) {
            before.restore(&self.model, &mut self.optimizer);
            report.rolled_back = true;
            report.skipped += std::mem::take(&mut report.made);
        }
        let mean = |sum: &mut f64| *sum /= steps.max(1) as f64;
        mean(&mut report.grad_norm);
        mean(&mut report.loss_policy);
        mean(&mut report.loss_value);
        mean(&mut report.entropy);
        report
    }

    /// Returns true when actors can use the current weights, tested on the first tick of a batch. Nothing has used the
    /// weights of the last update yet, and the learner would reject all unrolls with invalid logits.
    fn acts(&self, frames: &Frames) -> bool {
        let _no_grad = tch::no_grad_guard();
        let envs = frames.envs as i64;
        let (tokens, carry) = (
            frames.tokens.narrow(0, 0, envs),
            frames.carries.narrow(1, 0, envs),
        );
        let decision = self.model.forward(&tokens, &carry, Gradient::None);
        // The largest value is NaN if any element is NaN.
        let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
        decision.segments.iter().all(|heads| {
            largest(&heads.logits) <= f64::from(MAX_LOGIT) && largest(&heads.value).is_finite()
        })
    }

    /// Computes the outputs of the current weights on a batch.
    pub fn recompute(&self, batch: &Batch) -> Recomputed {
        let (stride, deep) = (self.loss.bptt_ticks, self.loss.deep_supervision);
        let shards: Vec<(Hrm, Episodes)> =
            Episodes::split(batch, &self.model, self.pool.current_num_threads())
                .into_iter()
                .map(|episodes| (self.model.share(), episodes))
                .collect();
        let pieces: Vec<Recomputed> = self.pool.install(|| {
            shards
                .into_par_iter()
                .map(|(model, episodes)| recompute(&model, &episodes, stride, deep))
                .collect()
        });
        Recomputed::join(&pieces)
    }

    fn vtrace(&self, batch: &Batch, recomputed: &Recomputed) -> VTrace {
        let segments = recomputed.log_probs.size()[2];
        let log_probs = host(&recomputed.log_probs.select(2, segments - 1));
        let log_rhos: Vec<f32> = log_probs
            .iter()
            .zip(&batch.behaviour_log_probs)
            .map(|(pi, mu)| pi - mu)
            .collect();
        vtrace(
            VTraceInput {
                batch: batch.envs,
                log_rhos: &log_rhos,
                rewards: &batch.rewards,
                values: &host(&recomputed.values),
                next_values: &host(&recomputed.next_values),
                ended: &batch.flags.iter().map(|&f| f != 0).collect::<Vec<_>>(),
            },
            VTraceConfig {
                gamma: self.loss.gamma as f32,
                lambda: self.loss.lambda as f32,
                rho_bar: self.loss.rho_bar as f32,
                c_bar: self.loss.c_bar as f32,
            },
        )
    }

    /// Returns the gradient of a minibatch's mean loss, summed over shards.
    fn gradients(&self, frames: &Frames, units: &[i64]) -> Gradients {
        let scale = 1.0 / (units.len() * self.loss.bptt_ticks) as f64;
        let shard = units.len().div_ceil(self.pool.current_num_threads());
        let shards: Vec<(Hrm, Frames, &[i64])> = units
            .chunks(shard)
            .map(|units| (self.model.share(), frames.share(), units))
            .collect();
        let config = &self.loss;
        let parts: Vec<Gradients> = self.pool.install(|| {
            shards
                .into_par_iter()
                .map(|(model, frames, units)| {
                    shard_gradients(&model, &frames, units, config, scale)
                })
                .collect()
        });
        Gradients::sum(&parts)
    }
}

/// Returns a small tensor's numbers, row by row.
fn host(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_kind(Kind::Float).contiguous();
    let elements = flat.numel();
    let mut values = vec![0.0; elements];
    flat.copy_data(&mut values, elements);
    values
}
