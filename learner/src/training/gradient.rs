//! The gradient of one shard of a minibatch: forward pass with the learner's weights, loss, backward pass.

use hrm_common::{
    config::LossConfig,
    model::{Gradient, Hrm},
};
use tch::{Kind, Tensor};

use crate::training::{
    advantage,
    batch::Batch,
    loss::{Loss, Targets, loss},
    recompute::{Recomputed, trained},
    vtrace::VTrace,
};

/// One shard's part of a minibatch.
pub(crate) struct Gradients {
    /// f32 `[n]`, in the order of the flat parameters.
    pub(crate) flat: Tensor,
    pub(crate) policy: f64,
    pub(crate) value: f64,
    pub(crate) entropy: f64,
}

impl Gradients {
    /// Sums the parts in order, so that the result is reproducible.
    pub(crate) fn sum(parts: &[Self]) -> Self {
        let flat: Vec<_> = parts.iter().map(|part| part.flat.shallow_clone()).collect();
        let sum = |field: fn(&Self) -> f64| parts.iter().map(field).sum::<f64>();
        Self {
            flat: Tensor::stack(&flat, 0).sum_dim_intlist(0, false, Kind::Float),
            policy: sum(|part| part.policy),
            value: sum(|part| part.value),
            entropy: sum(|part| part.entropy),
        }
    }
}

/// A batch flattened to frames, from which minibatches are drawn.
pub(crate) struct Frames {
    pub(crate) envs: usize,
    /// u8 `[T * B, S]`.
    pub(crate) tokens: Tensor,
    /// `[2, T / k * B, ...]`: the carry before each chunk of k ticks.
    pub(crate) carries: Tensor,
    /// bool `[T * B]`.
    ended: Tensor,
    targets: Targets,
}

impl Frames {
    /// Flattens a batch with its targets. The tensors are on the batch's device.
    pub(crate) fn new(
        batch: &Batch,
        recomputed: Recomputed,
        traced: &VTrace,
        config: &LossConfig,
    ) -> Self {
        let device = batch.tokens.device();
        let frames = batch.frames() as i64;
        let ended: Vec<bool> = batch.flags.iter().map(|&f| f != 0).collect();
        let advantages = match config.normalize_advantages {
            true => advantage::normalized(&traced.advantages, &traced.rhos, device),
            false => advantage::weighted(&traced.advantages, &traced.rhos, device),
        };
        Self {
            envs: batch.envs,
            tokens: batch.tokens.narrow(0, 0, batch.ticks as i64).flatten(0, 1),
            carries: recomputed.carries.flatten(1, 2),
            ended: Tensor::from_slice(&ended).to_device(device),
            targets: Targets {
                actions: batch.actions.view(frames),
                start_log_probs: recomputed.log_probs.flatten(0, 1),
                advantages,
                values: Tensor::from_slice(&traced.targets).to_device(device),
            },
        }
    }

    /// Returns the same tensors for another thread, without a copy.
    pub(crate) fn share(&self) -> Self {
        Self {
            envs: self.envs,
            tokens: self.tokens.shallow_clone(),
            carries: self.carries.shallow_clone(),
            ended: self.ended.shallow_clone(),
            targets: Targets {
                actions: self.targets.actions.shallow_clone(),
                start_log_probs: self.targets.start_log_probs.shallow_clone(),
                advantages: self.targets.advantages.shallow_clone(),
                values: self.targets.values.shallow_clone(),
            },
        }
    }
}

/// Computes loss and gradient over units of a minibatch. A unit is a chunk of `bptt_ticks` ticks of one environment.
pub(crate) fn shard_gradients(
    model: &Hrm,
    frames: &Frames,
    units: &[i64],
    config: &LossConfig,
    scale: f64,
) -> Gradients {
    let device = model.device();
    let envs = frames.envs as i64;
    let ticks = config.bptt_ticks as i64;
    let gradient = match (ticks, config.deep_supervision) {
        (1, true) => Gradient::OneStep,
        (1, false) => Gradient::LastStep,
        _ => Gradient::Full,
    };
    let mut carry = frames
        .carries
        .index_select(1, &Tensor::from_slice(units).to_device(device))
        .detach();
    let mut parts = Vec::with_capacity(config.bptt_ticks);
    for tick in 0..ticks {
        // Unit u is chunk u / B of environment u % B.
        let rows: Vec<i64> = units
            .iter()
            .map(|u| (u / envs * ticks + tick) * envs + u % envs)
            .collect();
        let rows = Tensor::from_slice(&rows).to_device(device);
        let decision = model.forward(&frames.tokens.index_select(0, &rows), &carry, gradient);
        let targets = Targets {
            actions: frames.targets.actions.index_select(0, &rows),
            start_log_probs: frames.targets.start_log_probs.index_select(0, &rows),
            advantages: frames.targets.advantages.index_select(0, &rows),
            values: frames.targets.values.index_select(0, &rows),
        };
        parts.push(loss(
            trained(&decision.segments, config.deep_supervision),
            &targets,
            config,
        ));
        if tick + 1 < ticks {
            carry = model.reset_carry(&decision.carry, &frames.ended.index_select(0, &rows));
        }
    }
    let total: Tensor = parts.iter().map(|part| &part.total).sum::<Tensor>() * scale;
    let sum = |field: fn(&Loss) -> &Tensor| {
        parts
            .iter()
            .map(|part| field(part).double_value(&[]))
            .sum::<f64>()
            * scale
    };
    Gradients {
        flat: model.gradient(&total),
        policy: sum(|l| &l.policy),
        value: sum(|l| &l.value),
        entropy: sum(|l| &l.entropy),
    }
}
