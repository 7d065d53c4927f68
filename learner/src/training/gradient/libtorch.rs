//! The gradient by libtorch's autograd: for GPUs, attention, and chunks of several ticks.

use hrm_common::config::LossConfig;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use tch::Tensor;

use super::parts::Gradients;
use crate::training::{
    frames::Frames,
    loss::{Loss, Targets, loss},
    model::{Gradient, Hrm},
    states::TensorStates,
};

/// A share of a batch's frames in tensors.
pub(crate) struct TensorFrames {
    frames: Frames,
    /// `[2, T / k * B, ...]`: the carry before each chunk of k ticks; with prefixes, only before the first tick.
    carries: Tensor,
    /// `[T * B, segments, 2, P, d]`: `zH` and `zL` before the last call of L and of H in each trained segment.
    prefixes: Option<Tensor>,
}

impl TensorFrames {
    /// Returns the same tensors for another thread, without a copy.
    pub(super) fn new(frames: &Frames, states: &TensorStates) -> Self {
        Self {
            frames: frames.share(),
            carries: states.carries.flatten(1, 2),
            prefixes: states.prefixes.as_ref().map(|kept| kept.flatten(0, 1)),
        }
    }
}

/// Returns the parts of the gradient of a minibatch's mean loss, one per shard. Each thread of `pool` has one of `shares`.
pub(super) fn minibatch(
    model: &Hrm,
    shares: &mut [TensorFrames],
    units: &[i64],
    config: &LossConfig,
    pool: &rayon::ThreadPool,
) -> Vec<Gradients> {
    let scale = 1.0 / (units.len() * config.bptt_ticks) as f64;
    let shard = units.len().div_ceil(shares.len());
    let shards: Vec<(Hrm, &mut TensorFrames, &[i64])> = shares
        .iter_mut()
        .zip(units.chunks(shard))
        .map(|(frames, units)| (model.share(), frames, units))
        .collect();
    pool.install(|| {
        shards
            .into_par_iter()
            .map(|(model, frames, units)| shard_gradients(&model, frames, units, config, scale))
            .collect()
    })
}

/// Computes loss and gradient over units of a minibatch. A unit is a chunk of `bptt_ticks` ticks of one environment.
fn shard_gradients(
    model: &Hrm,
    shard: &TensorFrames,
    units: &[i64],
    config: &LossConfig,
    scale: f64,
) -> Gradients {
    let TensorFrames {
        frames,
        carries,
        prefixes,
    } = shard;
    let device = model.device();
    let envs = frames.envs as i64;
    let ticks = config.bptt_ticks as i64;
    let gradient = match (ticks, config.deep_supervision) {
        (1, true) => Gradient::OneStep,
        (1, false) => Gradient::LastStep,
        _ => Gradient::Full,
    };
    // The carry of the first tick is what the recomputation kept, and every tick makes that of the next one.
    let first_carry = || {
        let units = Tensor::from_slice(units).to_device(device);
        carries.index_select(1, &units)
    };
    let mut carry = None;
    let first = config.first_trained_segment(model.config().segments);
    let mut parts = Vec::with_capacity(config.bptt_ticks);
    for tick in 0..ticks {
        // Unit u is chunk u / B of environment u % B.
        let rows: Vec<i64> = units
            .iter()
            .map(|u| (u / envs * ticks + tick) * envs + u % envs)
            .collect();
        let rows = Tensor::from_slice(&rows).to_device(device);
        let tokens = frames.tokens.index_select(0, &rows);
        let targets = Targets {
            actions: frames.targets.actions.index_select(0, &rows),
            start_log_probs: frames.targets.start_log_probs.index_select(0, &rows),
            advantages: frames.targets.advantages.index_select(0, &rows),
            values: frames.targets.values.index_select(0, &rows),
        };
        let trained = match prefixes {
            Some(prefixes) => {
                model.forward_from_prefixes(&tokens, &prefixes.index_select(0, &rows))
            }
            None => {
                let before = carry.take().unwrap_or_else(first_carry);
                let mut decision = model.forward(&tokens, &before, gradient);
                if tick + 1 < ticks {
                    let ended = frames.ended.index_select(0, &rows);
                    carry = Some(model.reset_carry(&decision.carry, &ended));
                }
                decision.segments.split_off(first)
            }
        };
        parts.push(loss(&trained, &targets, config));
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
        frames: units.len() * config.bptt_ticks,
        flat: model.gradient(&total),
        policy: sum(|l| &l.policy),
        value: sum(|l| &l.value),
        entropy: sum(|l| &l.entropy),
    }
}
