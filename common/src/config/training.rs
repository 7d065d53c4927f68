//! `[loss]` and `[optimizer]`: the settings of an update.

use serde::{Deserialize, Serialize};

use super::rules::{self, Checked};
use crate::model::Segments;

/// `[loss]`: V-trace (Espeholt et al. 2018), the clipped policy ratio over several passes, and the weights of the
/// terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossConfig {
    /// Discount per frame.
    pub gamma: f64,
    /// Decay of the trace; 1 gives V-trace as published.
    pub lambda: f64,
    /// Clip of the importance weight of a temporal difference: rho-bar.
    pub rho_bar: f64,
    /// Clip of the importance weight of the trace: c-bar.
    pub c_bar: f64,
    /// Passes over one batch.
    pub passes: usize,
    /// Updates per batch, over all passes. Each pass splits the frames of the batch into so many minibatches of equal
    /// size that the passes together make this number.
    pub updates_per_batch: usize,
    /// Clip of the ratio to the policy at the batch's start: the largest distance from 1.
    pub clip: f64,
    /// Weight of the value loss. It is large because values are between 0 and 1, so their squared errors are small
    /// compared with normalised advantages. With 0.5 the value is learned last, and everything else late.
    pub value_cost: f64,
    /// Weight of the entropy bonus.
    pub entropy_cost: f64,
    /// Normalises the advantages of a batch to mean 0 and variance 1.
    pub normalize_advantages: bool,
    /// Applies the loss to every segment of a decision, rather than to the last only.
    pub deep_supervision: bool,
    /// Weight of the halt head's loss, with the rules value and agreement of `model.segments`.
    pub halt_cost: f64,
    /// Cost of a segment, in units of the return, with the rules value and policy.
    pub segment_cost: f64,
    /// The return that the rule value holds for the lowest: its estimate is 0.
    pub halt_least_return: f64,
    /// The return that the rule value holds for the highest: its estimate is 1.
    pub halt_most_return: f64,
    /// Ticks of backpropagation through time; 1 gives the one-step gradient.
    pub bptt_ticks: usize,
    /// The state before the last call of L and of H, with a one-step gradient: "fresh" computes it in every pass with
    /// the current weights, "cached" takes it from before the batch's updates, so that a pass runs only these two
    /// calls.
    pub prefix: Prefix,
}

/// The source of the state before the last call of L and of H, in passes over a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prefix {
    /// Each pass runs all calls with the current weights.
    #[default]
    Fresh,
    /// The recomputation before the updates keeps it.
    Cached,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            gamma: 0.95,
            lambda: 0.95,
            rho_bar: 1.0,
            c_bar: 1.0,
            passes: 2,
            updates_per_batch: 32,
            clip: 0.2,
            value_cost: 16.0,
            entropy_cost: 0.01,
            normalize_advantages: true,
            deep_supervision: false,
            halt_cost: 0.5,
            segment_cost: 0.005,
            // A move without effect at every step, for ever, and the goal at once.
            halt_least_return: -0.2,
            halt_most_return: 1.0,
            bptt_ticks: 1,
            prefix: Prefix::Fresh,
        }
    }
}

impl LossConfig {
    /// Returns the number of minibatches in a pass over a batch.
    pub fn minibatches(&self) -> usize {
        self.updates_per_batch / self.passes
    }

    /// Returns the index of the first segment that a decision can train.
    pub fn first_trained_segment(&self, segments: Segments) -> usize {
        if self.deep_supervision {
            0
        } else {
            segments.least - 1
        }
    }

    /// Returns the share of a segment in the loss of a decision with so many segments: all have equal shares under deep
    /// supervision, otherwise the last has all of it.
    pub fn share_of_segment(&self, segment: usize, segments: usize) -> f64 {
        match (self.deep_supervision, segment + 1) {
            (true, number) if number <= segments => 1.0 / segments as f64,
            (false, number) if number == segments => 1.0,
            _ => 0.0,
        }
    }

    pub(super) fn check(&self) -> Checked {
        rules::share_above_zero("loss.gamma", self.gamma)?;
        rules::share("loss.lambda", self.lambda)?;
        rules::positive("loss.rho_bar", self.rho_bar)?;
        rules::positive("loss.c_bar", self.c_bar)?;
        rules::at_least("loss.passes", self.passes, 1)?;
        rules::at_least("loss.updates_per_batch", self.updates_per_batch, 1)?;
        rules::positive("loss.clip", self.clip)?;
        rules::not_negative("loss.value_cost", self.value_cost)?;
        rules::not_negative("loss.entropy_cost", self.entropy_cost)?;
        rules::at_least("loss.bptt_ticks", self.bptt_ticks, 1)?;
        rules::not_negative("loss.halt_cost", self.halt_cost)?;
        rules::not_negative("loss.segment_cost", self.segment_cost)?;
        for (key, value) in [
            ("loss.halt_least_return", self.halt_least_return),
            ("loss.halt_most_return", self.halt_most_return),
        ] {
            rules::finite(key, value)?;
        }
        if self.halt_least_return >= self.halt_most_return {
            return rules::conflict(
                "loss.halt_least_return",
                self.halt_least_return,
                format!(
                    "it is not below loss.halt_most_return = {}",
                    self.halt_most_return
                ),
                "set it to a smaller number",
            );
        }
        if !self.updates_per_batch.is_multiple_of(self.passes) {
            return rules::conflict(
                "loss.updates_per_batch",
                self.updates_per_batch,
                format!("it is not a multiple of loss.passes = {}", self.passes),
                "set it to a multiple, because all passes have the same number of minibatches",
            );
        }
        if self.prefix == Prefix::Cached && self.bptt_ticks > 1 {
            return rules::conflict(
                "loss.prefix",
                "cached",
                format!(
                    "the gradient flows through whole decisions with loss.bptt_ticks = {}",
                    self.bptt_ticks
                ),
                "set it to \"fresh\", or loss.bptt_ticks to 1",
            );
        }
        Ok(())
    }
}

/// `[optimizer]`: Adam with a linear warm-up, a linear decay over the run and a clipped gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OptimizerConfig {
    /// Learning rate after the warm-up. With `learner.batch_unrolls` = "auto", that of a batch of
    /// `learner.min_batch_unrolls`; larger ones have a proportionally higher one. Up to eight times was tried.
    pub learning_rate: f64,
    /// Share of the learning rate at the end of the run.
    pub final_learning_rate_fraction: f64,
    /// Updates over which the learning rate rises from 0.
    pub warmup_updates: u64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Constant that is added to the root of the second moment.
    pub epsilon: f64,
    /// Largest norm of the gradient. Larger gradients are scaled down to it.
    pub max_grad_norm: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            final_learning_rate_fraction: 0.05,
            warmup_updates: 300,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_grad_norm: 1.0,
        }
    }
}

impl OptimizerConfig {
    pub(super) fn check(&self) -> Checked {
        rules::positive("optimizer.learning_rate", self.learning_rate)?;
        rules::share(
            "optimizer.final_learning_rate_fraction",
            self.final_learning_rate_fraction,
        )?;
        rules::share_below_one("optimizer.beta1", self.beta1)?;
        rules::share_below_one("optimizer.beta2", self.beta2)?;
        rules::positive("optimizer.epsilon", self.epsilon)?;
        rules::positive("optimizer.max_grad_norm", self.max_grad_norm)
    }
}
