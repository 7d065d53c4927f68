//! The loss of one minibatch: policy gradient on V-trace advantages, value regression, entropy.

use std::ops::{Add, AddAssign, Mul};

use hrm_common::{
    config::LossConfig,
    env::ACTIONS,
    model::native::{HeadGradients, HeadOutputs},
};
use tch::{Kind, Tensor};

use crate::training::{
    halting::{self, HaltTargets},
    log_softmax::log_softmax,
    model::Heads,
    surrogate,
};

/// Training targets of a part of a minibatch; axis 0 of each tensor has its m frames.
#[derive(Debug)]
pub(crate) struct Targets {
    /// i64 `[m]`: the actions taken.
    pub actions: Tensor,
    /// f32 `[m, segments]`: log pi(a|x) of each segment that can be trained, with the weights from before the batch's
    /// updates.
    pub start_log_probs: Tensor,
    /// f32 `[m, segments]`: advantages, each with the importance weight of its segment.
    pub advantages: Tensor,
    /// f32 `[m]`: V-trace targets.
    pub values: Tensor,
    /// f32 `[m, segments]`: the share of each segment in the frame's loss. `None` if all shares are equal.
    pub shares: Option<Tensor>,
    /// The targets of the halt head, if it is trained.
    pub halt: Option<HaltTargets>,
}

/// The parts of a loss. Each is a scalar tensor, summed over frames and averaged over segments.
#[derive(Debug)]
pub(crate) struct Loss {
    /// The minimised sum.
    pub total: Tensor,
    /// Clipped policy gradient.
    pub policy: Tensor,
    /// Half the squared error of the value, before its cost.
    pub value: Tensor,
    /// Entropy of the policy in nats, before its cost.
    pub entropy: Tensor,
    /// The halt head's, with its cost.
    pub halt: Option<Tensor>,
}

impl Loss {
    /// Returns the policy loss, the value loss, the entropy and, if the halt head is trained, its loss, f64 `[3]` or
    /// `[4]` without a graph.
    pub(crate) fn numbers(&self) -> Tensor {
        let parts = [&self.policy, &self.value, &self.entropy];
        let parts = parts.into_iter().chain(&self.halt);
        let parts: Vec<Tensor> = parts.map(Tensor::detach).collect();
        Tensor::stack(&parts, 0).to_kind(Kind::Double)
    }
}

impl Targets {
    /// Returns the targets of some frames, i64 `[m]`.
    pub(crate) fn select(&self, frames: &Tensor) -> Self {
        Self {
            actions: self.actions.index_select(0, frames),
            start_log_probs: self.start_log_probs.index_select(0, frames),
            advantages: self.advantages.index_select(0, frames),
            values: self.values.index_select(0, frames),
            shares: (self.shares.as_ref()).map(|shares| shares.index_select(0, frames)),
            halt: (self.halt.as_ref()).map(|halt| halt.select(frames)),
        }
    }

    /// Returns `factor` times the sum of numbers, f32 `[m]` or `[m, A]`, each times the share of a segment in its frame.
    fn sum(&self, segment: usize, numbers: Tensor, factor: f64) -> Tensor {
        match &self.shares {
            Some(shares) => {
                let of_frames = &[-1, 1][..numbers.dim()];
                let shares = shares.select(1, segment as i64).view(of_frames);
                (numbers * shares).sum(Kind::Float) * factor
            }
            None => numbers.sum(Kind::Float) * (factor / self.advantages.size()[1] as f64),
        }
    }

    /// Returns the same tensors for another thread, without a copy.
    pub(crate) fn share(&self) -> Self {
        Self {
            actions: self.actions.shallow_clone(),
            start_log_probs: self.start_log_probs.shallow_clone(),
            advantages: self.advantages.shallow_clone(),
            values: self.values.shallow_clone(),
            shares: self.shares.as_ref().map(Tensor::shallow_clone),
            halt: self.halt.as_ref().map(HaltTargets::share),
        }
    }
}

impl Add for Loss {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            policy: self.policy + other.policy,
            value: self.value + other.value,
            entropy: self.entropy + other.entropy,
            halt: (self.halt.zip(other.halt)).map(|(a, b)| a + b),
        }
    }
}

/// Computes the loss of the given segments of a decision: all of them under deep supervision, otherwise the last.
///
/// # Panics
///
/// Panics without a segment.
pub(crate) fn loss(segments: &[Heads], targets: &Targets, config: &LossConfig) -> Loss {
    let of_segment = |(segment, heads)| segment_loss(segment, heads, targets, config);
    let losses = segments.iter().enumerate().map(of_segment);
    losses.reduce(Loss::add).expect("a segment is trained")
}

/// Computes the summand of [`loss`] of one trained segment.
///
/// The policy term is `-min(r A, clip(r, 1 - clip, 1 + clip) A)` (Schulman et al. 2017, equation 7). `r` is the ratio
/// of the current policy to the policy before the batch's updates, and `A` is V-trace's advantage. On the first pass
/// `r` is 1, and the gradient is that of IMPALA's policy gradient.
pub(crate) fn segment_loss(
    segment: usize,
    heads: &Heads,
    targets: &Targets,
    config: &LossConfig,
) -> Loss {
    let of_segment = |tensor: &Tensor| tensor.select(1, segment as i64);
    let log_probs = heads.logits.log_softmax(-1, Kind::Float);
    let taken = log_probs
        .gather(1, &targets.actions.unsqueeze(1), false)
        .squeeze_dim(1);
    let ratio = (taken - of_segment(&targets.start_log_probs)).exp();
    let surrogate = surrogate::clipped(&ratio, &of_segment(&targets.advantages), config.clip);
    let policy = targets.sum(segment, surrogate, -1.0);
    let errors = &heads.value - &targets.values;
    let value = targets.sum(segment, errors.square(), 0.5);
    let entropy = targets.sum(segment, log_probs.exp() * &log_probs, -1.0);
    let mut total = &policy + &value * config.value_cost - &entropy * config.entropy_cost;
    let halt = (targets.halt.as_ref().zip(heads.halt.as_ref())).map(|(targets, halt)| {
        halting::segment_loss(halt, targets.loss, &of_segment(&targets.numbers), config)
    });
    if let Some(halt) = &halt {
        total += halt;
    }
    Loss {
        total,
        policy,
        value,
        entropy,
        halt,
    }
}

/// Training targets of one segment of a frame; see [`Targets`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameTargets {
    pub(crate) action: usize,
    pub(crate) start_log_prob: f32,
    pub(crate) advantage: f32,
    pub(crate) value: f32,
}

/// The parts of a loss as numbers, without their costs; see [`Loss`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FrameLoss {
    pub(crate) policy: f64,
    pub(crate) value: f64,
    pub(crate) entropy: f64,
    pub(crate) halt: f64,
}

impl Mul<f64> for FrameLoss {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self {
            policy: self.policy * factor,
            value: self.value * factor,
            entropy: self.entropy * factor,
            halt: self.halt * factor,
        }
    }
}

impl AddAssign for FrameLoss {
    fn add_assign(&mut self, other: Self) {
        self.policy += other.policy;
        self.value += other.value;
        self.entropy += other.entropy;
        self.halt += other.halt;
    }
}

/// Computes [`loss`] of one segment of a frame without that of the halt head, and the gradient of `scale` times its total by the heads.
///
/// With log-probabilities `l`, probabilities `p`, entropy `H`, ratio `r` and action `a`:
/// `d r / d logit_i = r (1[i = a] - p_i)`, where the clip does not bind, and `d H / d logit_i = -p_i (l_i + H)`.
pub(crate) fn frame_loss(
    heads: &HeadOutputs,
    targets: &FrameTargets,
    config: &LossConfig,
    scale: f64,
) -> (FrameLoss, HeadGradients) {
    let log_probs = log_softmax(&heads.logits).map(f64::from);
    let probs = log_probs.map(f64::exp);
    let entropy: f64 = -(log_probs.iter().zip(&probs))
        .map(|(log_prob, prob)| prob * log_prob)
        .sum::<f64>();
    let ratio = (log_probs[targets.action] - f64::from(targets.start_log_prob)).exp();
    let (surrogate, slope) =
        surrogate::clipped_with_slope(ratio, targets.advantage.into(), config.clip);
    let error = f64::from(heads.value) - f64::from(targets.value);
    let gradients = HeadGradients {
        logits: std::array::from_fn::<f32, ACTIONS, _>(|i| {
            let taken = f64::from(u8::from(i == targets.action));
            let policy = -slope * (taken - probs[i]);
            let entropy = -probs[i] * (log_probs[i] + entropy);
            (scale * (policy - config.entropy_cost * entropy)) as f32
        }),
        value: (scale * config.value_cost * error) as f32,
        halt: [0.0; 2],
    };
    let loss = FrameLoss {
        policy: -surrogate,
        value: 0.5 * error * error,
        entropy,
        halt: 0.0,
    };
    (loss, gradients)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::training::{host::host, model::Heads};

    proptest! {
        #[test]
        fn one_frames_loss_and_gradient_are_those_of_autograd(
            logits in proptest::array::uniform4(-4.0_f32..4.0),
            (value, target) in (-2.0_f32..2.0, -2.0_f32..2.0),
            (action, shift, advantage) in (0..ACTIONS, -0.6_f32..0.6, -3.0_f32..3.0),
        ) {
            let config = LossConfig { entropy_cost: 0.03, value_cost: 0.7, ..LossConfig::default() };
            let heads = HeadOutputs { logits, value, halt: [0.0; 2] };
            let leaves = [
                Tensor::from_slice(&logits).view([1, 4]).set_requires_grad(true),
                Tensor::from_slice(&[value]).set_requires_grad(true),
            ];
            let [leaf_logits, leaf_value] = &leaves;
            let log_probs = host(&leaf_logits.log_softmax(-1, Kind::Float));
            let targets = FrameTargets {
                action,
                start_log_prob: log_probs[action] + shift,
                advantage,
                value: target,
            };
            let expected = loss(
                &[Heads {
                    logits: leaf_logits.shallow_clone(),
                    value: leaf_value.shallow_clone(),
                    halt: None,
                }],
                &Targets {
                    actions: Tensor::from_slice(&[action as i64]),
                    start_log_probs: Tensor::from_slice(&[targets.start_log_prob]).view([1, 1]),
                    advantages: Tensor::from_slice(&[advantage]).view([1, 1]),
                    values: Tensor::from_slice(&[target]),
                    shares: None,
                    halt: None,
                },
                &config,
            );
            // The clip is a kink.
            let ratio = f64::from(-shift).exp();
            prop_assume!((ratio - 1.0 - config.clip).abs() > 1e-4);
            prop_assume!((ratio - 1.0 + config.clip).abs() > 1e-4);
            let (found, gradients) = frame_loss(&heads, &targets, &config, 0.5);
            let parts = [
                (found.policy, &expected.policy),
                (found.value, &expected.value),
                (found.entropy, &expected.entropy),
            ];
            for (found, expected) in parts {
                prop_assert!((found - expected.double_value(&[])).abs() < 2e-5);
            }
            let expected: Vec<f32> = Tensor::run_backward(
                &[&expected.total * 0.5],
                &[leaf_logits, leaf_value],
                false,
                false,
            )
            .iter()
            .flat_map(host)
            .collect();
            let found = [&gradients.logits[..], &[gradients.value]].concat();
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((found - expected).abs() < 2e-5, "{found} is not {expected}");
            }
        }
    }
}
