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

use std::ops::Range;

use hrm_common::{
    checkpoint::{Checkpoint, CheckpointError},
    config::{LossConfig, OptimizerConfig},
    stage::{LearnerStage, StageClock},
};
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::Device;
use thiserror::Error;

use crate::training::{
    backend::Backend,
    batch::Batch,
    frames::{Frames, LagZero},
    gradient::{Kept, Passes, TrainedFrames},
    model::Hrm,
    noise_scale::NoiseScale,
    optimizer::Adam,
    recompute::{Recomputed, recompute_sharded},
    rollback::{self, WeightsBackup},
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
    /// Updates tried in this run, skipped ones included.
    pub updates_tried: u64,
    /// The unrolls of a batch to which the learning rate applies, if larger ones have a higher rate.
    smallest_batch: Option<usize>,
    noise_scale: NoiseScale,
    loss: LossConfig,
    backend: Backend,
    pool: rayon::ThreadPool,
}

/// The result of the updates on one batch; losses are means over the frames of all passes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpdateReport {
    /// Clipped policy-gradient loss.
    pub loss_policy: f64,
    /// Half the squared value error.
    pub loss_value: f64,
    /// Entropy of the policy in nats.
    pub entropy: f64,
    /// Loss of the halt head, if it is trained.
    pub loss_halt: Option<f64>,
    /// Gradient norm before clipping, the mean over the updates, weighted by their frames.
    pub grad_norm: f64,
    /// Share of frames whose importance weight exceeds rho-bar by more than rounding.
    pub rho_clip: f64,
    /// Share of frames whose importance weight exceeds c-bar by more than rounding.
    pub c_clip: f64,
    /// Importance weights at policy lag 0, if the batch has any.
    pub lag_zero: Option<LagZero>,
    /// Gradient noise scale in frames, if threads share the minibatches.
    pub noise_scale: Option<f64>,
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
            backend: Backend::new(model.device(), model.config(), &loss),
            model,
            optimizer,
            rng,
            updates_tried: 0,
            smallest_batch: None,
            noise_scale: NoiseScale::default(),
            loss,
            pool,
        })
    }

    /// Returns the updater with another backend, to compare the two. `Native` becomes `Mixed` where the kernels do not
    /// have the gradient.
    pub fn with_backend(self, backend: Backend) -> Self {
        let backend = match backend {
            Backend::Libtorch => backend,
            Backend::Native | Backend::Mixed => {
                Backend::new(Device::Cpu, self.model.config(), &self.loss)
            }
        };
        Self { backend, ..self }
    }

    /// Returns the updater for batches of `unrolls` or more. The learning rate is multiplied by the size of a batch over
    /// the smallest one's. Of the rules that were tried on four rooms, it trains best (docs/results/batch-size.md).
    pub fn with_smallest_batch(self, unrolls: usize) -> Self {
        Self {
            smallest_batch: Some(unrolls),
            ..self
        }
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
        self.updates_tried = checkpoint.state.updates_tried;
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
        let frames = Frames::new(batch, &recomputed, self.model.config().segments, &self.loss);
        let states = recomputed.states;
        let first_tick = (frames.first_tick(), states.first_tick(batch.envs));
        let mut report = UpdateReport {
            rho_clip: frames.rho_clipped.into(),
            c_clip: frames.c_clipped.into(),
            lag_zero: frames.lag_zero,
            ..UpdateReport::default()
        };

        clock.enter(LearnerStage::Passes);
        let passes = self.passes(batch.frames() / self.loss.bptt_ticks);
        let minibatches = passes.minibatches.clone();
        let threads = self.pool.current_num_threads();
        let mut trained = TrainedFrames::new(
            self.backend,
            &self.model,
            &frames,
            states,
            passes,
            &self.loss,
            threads,
        );
        let factor = self.smallest_batch.map_or(1.0, |smallest| {
            (batch.lags.len() as f64 / smallest as f64).max(1.0)
        });
        let mut steps = self.optimizer.begin(minibatches.len(), done, factor);
        let mut kept = Vec::with_capacity(minibatches.len());
        for minibatch in &minibatches {
            let gradient = trained.gradient(&self.model, minibatch.clone(), &self.loss, &self.pool);
            let parameters = self.model.flat_parameters();
            let norm = self.optimizer.step(parameters, &gradient.flat, &mut steps);
            kept.push((gradient.kept, norm));
        }
        // The device is waited for here, once.
        let (mut made, mut trained_units, mut sound) = (0, 0, true);
        for (minibatch, numbers) in minibatches.iter().zip(Kept::read(kept)) {
            report.learning_rate = factor * self.optimizer.learning_rate_after(made, done);
            sound = numbers.norm.is_finite();
            if !sound {
                report.updates_skipped += 1;
                continue;
            }
            made += 1;
            if let Some(norms) = numbers.squared_norms {
                self.noise_scale.add(norms);
            }
            trained_units += minibatch.len();
            let weight = minibatch.len() as f64;
            report.grad_norm += weight * numbers.norm;
            report.loss_policy += weight * numbers.policy;
            report.loss_value += weight * numbers.value;
            report.entropy += weight * numbers.entropy;
            if let Some(halt) = numbers.halt {
                *report.loss_halt.get_or_insert_default() += weight * halt;
            }
        }
        self.optimizer.end(made);
        self.updates_tried += made + report.updates_skipped;
        report.updates_made = made;
        report.noise_scale = self.noise_scale.frames();
        let usable = || {
            let (tokens, states) = &first_tick;
            rollback::is_usable(&self.model, &self.optimizer, tokens, states)
        };
        if made > 0 && !(sound && usable()) {
            before.restore(&self.model, &mut self.optimizer);
            report.rolled_back = true;
            report.updates_skipped += std::mem::take(&mut report.updates_made);
        }
        let mean = |sum: &mut f64| *sum /= trained_units.max(1) as f64;
        mean(&mut report.grad_norm);
        mean(&mut report.loss_policy);
        mean(&mut report.loss_value);
        mean(&mut report.entropy);
        report.loss_halt.iter_mut().for_each(mean);
        report
    }

    /// Shuffles so many units for each pass, and splits them into minibatches.
    fn passes(&mut self, units: usize) -> Passes {
        let mut order: Vec<i64> = (0..units as i64).collect();
        let mut orders = Vec::with_capacity(units * self.loss.passes);
        for _ in 0..self.loss.passes {
            order.shuffle(&mut self.rng);
            orders.extend(&order);
        }
        let of_pass = |pass: usize| {
            let parts = parts(units, self.loss.minibatches());
            parts.map(move |part| pass * units + part.start..pass * units + part.end)
        };
        Passes {
            order: orders,
            minibatches: (0..self.loss.passes).flat_map(of_pass).collect(),
        }
    }

    /// Computes the outputs of the current weights on a batch.
    pub fn recompute(&self, batch: &Batch) -> Recomputed {
        recompute_sharded(self.backend, &self.model, batch, &self.loss, &self.pool)
    }
}

/// Splits so many items into `count` parts whose lengths differ by at most 1. Parts without an item are left out.
fn parts(items: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    let bound = move |part: usize| items * part / count;
    let part = move |part| bound(part)..bound(part + 1);
    (0..count).map(part).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_item_is_in_one_part_of_about_equal_length(items in 0..3000_usize, count in 1..100_usize) {
            let parts: Vec<Range<usize>> = parts(items, count).collect();
            let all: Vec<usize> = parts.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..items).collect::<Vec<usize>>());
            prop_assert_eq!(parts.len(), count.min(items));
            let lengths = parts.iter().map(|part| part.len());
            let (least, most) = (lengths.clone().min(), lengths.max());
            prop_assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 1);
        }
    }

    /// The defaults train as they did when the size of a minibatch was a setting.
    #[test]
    fn sixteen_parts_of_1024_are_chunks_of_64() {
        let parts: Vec<Range<usize>> = parts(1024, 16).collect();
        let chunks = (0..1024).step_by(64).map(|first| first..first + 64);
        assert_eq!(parts, chunks.collect::<Vec<_>>());
    }
}
