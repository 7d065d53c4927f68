//! The gradient by libtorch's autograd: for GPUs, attention, and chunks of several ticks.

use std::ops::Range;

use hrm_common::config::LossConfig;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use tch::Tensor;

use super::parts::Part;
use crate::training::{
    frames::Frames,
    loss::{Loss, loss, segment_loss},
    model::{Gradient, Hrm, Start},
    states::TensorStates,
};

/// A share of a batch's frames in tensors.
pub(crate) struct TensorFrames {
    frames: Frames,
    /// u8 `[T * B]`: the segments of each decision, if they differ.
    segments: Option<Tensor>,
    /// `[2, T / k * B, ...]`: the carry before each chunk of k ticks; with prefixes, only before the first tick.
    carries: Tensor,
    /// `[T * B, segments, 2, P, d]`: `zH` and `zL` before the last call of L and of H in each trained segment.
    prefixes: Option<Tensor>,
    /// i64 `[passes * units]`: the units of all passes, and the frame of each unit's first tick. They are on the device
    /// for the whole batch, because every transfer from the host makes it wait.
    units: Tensor,
    first_frames: Tensor,
}

impl TensorFrames {
    /// Prepares the frames for chunks of `ticks` ticks in this order.
    pub(super) fn new(frames: &Frames, states: &TensorStates, order: &[i64], ticks: usize) -> Self {
        let (envs, ticks) = (frames.envs as i64, ticks as i64);
        // Unit u is chunk u / B of environment u % B.
        let first: Vec<i64> = (order.iter())
            .map(|unit| unit / envs * ticks * envs + unit % envs)
            .collect();
        let device = frames.tokens.device();
        Self {
            frames: frames.share(),
            segments: (frames.targets.shares.is_some())
                .then(|| Tensor::from_slice(&frames.segments).to_device(device)),
            carries: states.carries.flatten(1, 2),
            prefixes: states.prefixes.as_ref().map(|kept| kept.flatten(0, 1)),
            units: Tensor::from_slice(order).to_device(device),
            first_frames: Tensor::from_slice(&first).to_device(device),
        }
    }

    /// Returns the same tensors for another thread, without a copy.
    pub(super) fn share(&self) -> Self {
        Self {
            frames: self.frames.share(),
            segments: self.segments.as_ref().map(Tensor::shallow_clone),
            carries: self.carries.shallow_clone(),
            prefixes: self.prefixes.as_ref().map(Tensor::shallow_clone),
            units: self.units.shallow_clone(),
            first_frames: self.first_frames.shallow_clone(),
        }
    }
}

/// Returns the parts of the gradient of a minibatch's mean loss, one per shard. Each thread of `pool` has one of
/// `shares`.
pub(super) fn minibatch(
    model: &Hrm,
    shares: &mut [TensorFrames],
    units: Range<usize>,
    config: &LossConfig,
    pool: &rayon::ThreadPool,
) -> Vec<Part> {
    let scale = 1.0 / (units.len() * config.bptt_ticks) as f64;
    let shard = units.len().div_ceil(shares.len());
    let shards: Vec<(Hrm, &mut TensorFrames, Range<usize>)> = shares
        .iter_mut()
        .zip(units.clone().step_by(shard))
        .map(|(frames, first)| {
            let units = first..(first + shard).min(units.end);
            (model.share(), frames, units)
        })
        .collect();
    pool.install(|| {
        shards
            .into_par_iter()
            .map(|(model, frames, units)| shard_gradient(&model, frames, units, config, scale))
            .collect()
    })
}

/// Computes loss and gradient over units of a minibatch. Reads nothing from the device.
fn shard_gradient(
    model: &Hrm,
    shard: &TensorFrames,
    units: Range<usize>,
    config: &LossConfig,
    scale: f64,
) -> Part {
    let TensorFrames {
        frames,
        segments,
        carries,
        prefixes,
        units: order,
        first_frames,
    } = shard;
    let count = units.len();
    let part = |order: &Tensor| order.narrow(0, units.start as i64, count as i64);
    let first_rows = part(first_frames);
    let rows = |tick: usize| &first_rows + (tick * frames.envs) as i64;
    // The carry of the first tick is what the recomputation kept, and every tick makes that of the next one.
    let first_carry = || carries.index_select(1, &part(order));
    let first = config.first_trained_segment(model.config().segments);
    let mut losses = Vec::new();
    let mut summand = |loss: Loss| {
        losses.push(loss.numbers() * scale);
        loss.total * scale
    };
    let flat = if config.bptt_ticks == 1 {
        let rows = rows(0);
        let tokens = frames.tokens.index_select(0, &rows);
        let targets = frames.targets.select(&rows);
        let state = match prefixes {
            Some(prefixes) => prefixes.index_select(0, &rows),
            None => first_carry(),
        };
        let start = match prefixes {
            Some(_) => Start::Prefixes(&state),
            None => Start::Carry(&state),
        };
        model.one_step_gradient(&tokens, start, first, |segment, heads| {
            summand(segment_loss(segment, heads, &targets, config))
        })
    } else {
        let mut carry = first_carry();
        let mut totals = Vec::with_capacity(config.bptt_ticks);
        for tick in 0..config.bptt_ticks {
            let rows = rows(tick);
            let tokens = frames.tokens.index_select(0, &rows);
            let prepared = model.prepare(Gradient::Full);
            let segments = segments.as_ref().map(|s| s.index_select(0, &rows));
            let decision = model.forward_prepared(
                &prepared,
                &tokens,
                &carry,
                segments.as_ref(),
                Gradient::Full,
            );
            let ended = frames.ended.index_select(0, &rows);
            carry = model.reset_carry(&prepared, &decision.carry, &ended);
            let targets = frames.targets.select(&rows);
            totals.push(summand(loss(&decision.segments[first..], &targets, config)));
        }
        model.gradient(&totals.into_iter().sum())
    };
    Part::new(count * config.bptt_ticks, flat, losses.into_iter().sum())
}
