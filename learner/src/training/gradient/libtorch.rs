//! The gradient by libtorch's autograd: for GPUs, attention, and chunks of several ticks.

use std::{collections::BTreeMap, ops::Range};

use hrm_common::config::LossConfig;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use tch::Tensor;

use super::{parts::Part, passes::Passes};
use crate::training::{
    frames::Frames,
    loss::{Loss, loss, segment_loss},
    model::{ActiveRows, Gradient, Hrm, Start},
    states::TensorStates,
};

/// A share of a batch's frames in tensors.
pub(crate) struct TensorFrames {
    frames: Frames,
    /// The rows that run each segment, in each tick of each shard, if decisions differ in their segments. A shard's first
    /// tick is found by the place of the shard's first unit.
    active: Option<(BTreeMap<usize, usize>, ActiveRows)>,
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
    /// Prepares the frames for passes over chunks of `ticks` ticks, on `threads` threads, with a model of at most
    /// `segments` segments.
    pub(super) fn new(
        frames: &Frames,
        states: &TensorStates,
        passes: &Passes,
        ticks: usize,
        threads: usize,
        segments: usize,
    ) -> Self {
        let order = &passes.order;
        let device = frames.tokens.device();
        let active = frames.targets.shares.is_some().then(|| {
            let (mut firsts, mut batches) = (BTreeMap::new(), Vec::new());
            let minibatches = passes.minibatches.iter().cloned();
            for shard in minibatches.flat_map(|units| shards(units, threads)) {
                firsts.insert(shard.start, batches.len());
                batches.extend((0..ticks).map(|tick| {
                    let number = |&unit: &i64| {
                        let (chunk, env) =
                            (unit as usize / frames.envs, unit as usize % frames.envs);
                        frames.segments[(chunk * ticks + tick) * frames.envs + env]
                    };
                    order[shard.clone()].iter().map(number).collect::<Vec<u8>>()
                }));
            }
            let batches = batches.iter().map(Vec::as_slice);
            (firsts, ActiveRows::new(batches, segments, device))
        });
        let (envs, ticks) = (frames.envs as i64, ticks as i64);
        // Unit u is chunk u / B of environment u % B.
        let first: Vec<i64> = (order.iter())
            .map(|unit| unit / envs * ticks * envs + unit % envs)
            .collect();
        Self {
            frames: frames.share(),
            active,
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
            active: (self.active.as_ref()).map(|(firsts, rows)| (firsts.clone(), rows.share())),
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
    let threads = shares.len();
    let shards: Vec<(Hrm, &mut TensorFrames, Range<usize>)> = shares
        .iter_mut()
        .zip(shards(units, threads))
        .map(|(frames, units)| (model.share(), frames, units))
        .collect();
    pool.install(|| {
        shards
            .into_par_iter()
            .map(|(model, frames, units)| shard_gradient(&model, frames, units, config, scale))
            .collect()
    })
}

/// Splits the units of a minibatch into a shard for each thread.
fn shards(units: Range<usize>, threads: usize) -> impl Iterator<Item = Range<usize>> {
    let shard = units.len().div_ceil(threads);
    let end = units.end;
    units
        .step_by(shard)
        .map(move |first| first..(first + shard).min(end))
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
        active,
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
    let active = |tick: usize| {
        let (firsts, rows) = active.as_ref()?;
        Some(rows.batch(firsts.get(&units.start)? + tick))
    };
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
        model.one_step_gradient(&tokens, start, (first, active(0)), |segment, heads, of| {
            let of_some = of.map(|of| targets.select(of));
            let targets = of_some.as_ref().unwrap_or(&targets);
            summand(segment_loss(segment, heads, targets, config))
        })
    } else {
        let mut carry = first_carry();
        let mut totals = Vec::with_capacity(config.bptt_ticks);
        for tick in 0..config.bptt_ticks {
            let rows = rows(tick);
            let tokens = frames.tokens.index_select(0, &rows);
            let prepared = model.prepare(Gradient::Full);
            let decision =
                model.forward_prepared(&prepared, &tokens, &carry, active(tick), Gradient::Full);
            let ended = frames.ended.index_select(0, &rows);
            carry = model.reset_carry(&prepared, &decision.carry, &ended);
            let targets = frames.targets.select(&rows);
            totals.push(summand(loss(&decision.segments[first..], &targets, config)));
        }
        model.gradient(&totals.into_iter().sum())
    };
    Part::new(count * config.bptt_ticks, flat, losses.into_iter().sum())
}
