//! The loss of one minibatch: policy gradient on V-trace advantages, value regression, entropy.

use hrm_common::config::LossConfig;
use tch::{Kind, Tensor};

use crate::training::model::Heads;

/// Training targets of a part of a minibatch; axis 0 of each tensor has its m frames.
#[derive(Debug)]
pub struct Targets {
    /// i64 `[m]`: the actions taken.
    pub actions: Tensor,
    /// f32 `[m, segments]`: log pi(a|x) of each trained segment, with the weights from before the batch's updates.
    pub start_log_probs: Tensor,
    /// f32 `[m]`: advantages, importance weight included.
    pub advantages: Tensor,
    /// f32 `[m]`: V-trace targets.
    pub values: Tensor,
}

/// The parts of a loss. Each is a scalar tensor, summed over frames and averaged over segments.
#[derive(Debug)]
pub struct Loss {
    /// The minimised sum.
    pub total: Tensor,
    /// Clipped policy gradient.
    pub policy: Tensor,
    /// Half the squared error of the value, before its cost.
    pub value: Tensor,
    /// Entropy of the policy in nats, before its cost.
    pub entropy: Tensor,
}

/// Computes the loss of the given segments of a decision: all of them under deep supervision, otherwise the last.
///
/// The policy term is `-min(r A, clip(r, 1 - clip, 1 + clip) A)` (Schulman et al. 2017, equation 7). `r` is the ratio
/// of the current policy to the policy before the batch's updates, and `A` is V-trace's advantage. On the first pass
/// `r` is 1, and the gradient is that of IMPALA's policy gradient.
pub fn loss(segments: &[Heads], targets: &Targets, config: &LossConfig) -> Loss {
    let share = 1.0 / segments.len() as f64;
    let actions = targets.actions.unsqueeze(1);
    let (mut policy, mut value, mut entropy) = (vec![], vec![], vec![]);
    for (s, heads) in segments.iter().enumerate() {
        let log_probs = heads.logits.log_softmax(-1, Kind::Float);
        let taken = log_probs.gather(1, &actions, false).squeeze_dim(1);
        let ratio = (taken - targets.start_log_probs.select(1, s as i64)).exp();
        let clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip);
        let surrogate = (ratio * &targets.advantages).minimum(&(clipped * &targets.advantages));
        policy.push(-surrogate.sum(Kind::Float));
        value.push((&heads.value - &targets.values).square().sum(Kind::Float) * 0.5);
        entropy.push(-(log_probs.exp() * &log_probs).sum(Kind::Float));
    }
    let mean = |parts: Vec<Tensor>| Tensor::stack(&parts, 0).sum(Kind::Float) * share;
    let (policy, value, entropy) = (mean(policy), mean(value), mean(entropy));
    let total = &policy + &value * config.value_cost - &entropy * config.entropy_cost;
    Loss {
        total,
        policy,
        value,
        entropy,
    }
}
