//! The forward pass over time with the learner's own weights. It computes the values, log-probabilities and carries
//! that updates need from the carry at an unroll's first tick.
//!
//! ```text
//!   carry_0 --decide--> z' --reset at an episode's end--> carry_1 --decide--> ... --> V of tick T
//!                        `-- if truncated: V of the final observation, computed from z' itself
//! ```

use hrm_common::{
    config::LossConfig,
    env::flag,
    model::{Gradient, Heads, Hrm},
};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use tch::{Kind, Tensor};

use crate::training::batch::Batch;

/// Input of the recomputation: a batch, or some of its environments.
#[derive(Debug)]
pub struct Episodes {
    /// u8 `[T + 1, B, S]`.
    tokens: Tensor,
    /// i64 `[T, B]`.
    actions: Tensor,
    /// The model's carry before the first tick; axis 1 is B.
    carry: Tensor,
    /// `[T, B]`.
    flags: Vec<u8>,
    /// u8 `[K, S]`, in the order of `truncated`.
    final_tokens: Tensor,
    /// Flat indices into `[T, B]`, ascending.
    truncated: Vec<usize>,
}

/// Results of the current weights on a batch; gradients are detached.
#[derive(Debug)]
pub struct Recomputed {
    /// The carry before every `stride`-th tick, `[2, T / stride, B, ...]`.
    pub carries: Tensor,
    /// f32 `[T, B, segments]`: log pi(a|x) of each trained segment.
    pub log_probs: Tensor,
    /// f32 `[T, B]`: V of each tick's observation, from the last segment.
    pub values: Tensor,
    /// f32 `[T, B]`: V of the next observation in the same episode; 0 if the episode terminated.
    pub next_values: Tensor,
}

impl Episodes {
    /// Splits a batch's environments into `shards` groups of almost equal size, in order.
    pub fn split(batch: &Batch, model: &Hrm, shards: usize) -> Vec<Self> {
        let carry = batch
            .carry
            .to_kind(model.kind())
            .view(model.carry_shape(batch.envs).as_slice());
        let shards = shards.clamp(1, batch.envs);
        (0..shards)
            .map(|s| {
                let (from, to) = (batch.envs * s / shards, batch.envs * (s + 1) / shards);
                let (start, width) = (from as i64, (to - from) as i64);
                let mine: Vec<usize> = (0..batch.final_indices.len())
                    .filter(|&k| (from..to).contains(&(batch.final_indices[k] % batch.envs)))
                    .collect();
                let rows: Vec<i64> = mine.iter().map(|&k| k as i64).collect();
                let rows = Tensor::from_slice(&rows).to_device(model.device());
                Self {
                    tokens: batch.tokens.narrow(1, start, width),
                    actions: batch.actions.narrow(1, start, width),
                    carry: carry.narrow(1, start, width).contiguous(),
                    flags: batch
                        .flags
                        .chunks_exact(batch.envs)
                        .flat_map(|tick| tick[from..to].iter().copied())
                        .collect(),
                    final_tokens: batch.final_tokens.index_select(0, &rows),
                    truncated: mine
                        .iter()
                        .map(|&k| batch.final_indices[k])
                        .map(|i| i / batch.envs * (to - from) + i % batch.envs - from)
                        .collect(),
                }
            })
            .collect()
    }
}

/// Returns the trained heads: those of all segments under deep supervision, otherwise those of the last segment.
pub fn trained(segments: &[Heads], deep_supervision: bool) -> &[Heads] {
    if deep_supervision {
        segments
    } else {
        &segments[segments.len() - 1..]
    }
}

/// Computes the outputs of a model on a batch, its environments split over the threads of `pool`.
pub(crate) fn recompute_sharded(
    model: &Hrm,
    batch: &Batch,
    config: &LossConfig,
    pool: &rayon::ThreadPool,
) -> Recomputed {
    let (stride, deep) = (config.bptt_ticks, config.deep_supervision);
    let shards: Vec<(Hrm, Episodes)> = Episodes::split(batch, model, pool.current_num_threads())
        .into_iter()
        .map(|episodes| (model.share(), episodes))
        .collect();
    let pieces: Vec<Recomputed> = pool.install(|| {
        shards
            .into_par_iter()
            .map(|(model, episodes)| recompute(&model, &episodes, stride, deep))
            .collect()
    });
    Recomputed::join(&pieces)
}

/// Runs the model over the ticks of `episodes`, and keeps the carry before every `stride`-th tick.
pub fn recompute(
    model: &Hrm,
    episodes: &Episodes,
    stride: usize,
    deep_supervision: bool,
) -> Recomputed {
    let _no_grad = tch::no_grad_guard();
    let envs = episodes.tokens.size()[1] as usize;
    let ticks = episodes.flags.len() / envs;
    let device = model.device();
    let mut carry = episodes.carry.shallow_clone();
    let (mut carries, mut log_probs, mut values) = (vec![], vec![], vec![]);
    // The carries from which the final observations of truncated episodes are valued.
    let mut cut = vec![];
    let mut next_truncated = 0;
    for t in 0..ticks {
        if t % stride == 0 {
            carries.push(carry.shallow_clone());
        }
        let tokens = episodes.tokens.get(t as i64);
        let actions = episodes.actions.get(t as i64).unsqueeze(1);
        let decision = model.forward(&tokens, &carry, Gradient::None);
        let taken: Vec<Tensor> = trained(&decision.segments, deep_supervision)
            .iter()
            .map(|heads| {
                heads
                    .logits
                    .log_softmax(-1, Kind::Float)
                    .gather(1, &actions, false)
            })
            .collect();
        log_probs.push(Tensor::cat(&taken, 1));
        values.push(
            decision.segments[decision.segments.len() - 1]
                .value
                .shallow_clone(),
        );

        carry = decision.carry;
        let flags = &episodes.flags[t * envs..(t + 1) * envs];
        let rows: Vec<i64> = episodes.truncated[next_truncated..]
            .iter()
            .take_while(|&&i| i / envs == t)
            .map(|&i| (i % envs) as i64)
            .collect();
        if !rows.is_empty() {
            next_truncated += rows.len();
            cut.push(carry.index_select(1, &Tensor::from_slice(&rows).to_device(device)));
        }
        if flags.iter().any(|&f| f != 0) {
            let ended: Vec<bool> = flags.iter().map(|&f| f != 0).collect();
            carry = model.reset_carry(&carry, &Tensor::from_slice(&ended).to_device(device));
        }
    }
    let after = model.forward(&episodes.tokens.get(ticks as i64), &carry, Gradient::None);
    let after = last_value(&after.segments);

    let values = Tensor::stack(&values, 0);
    let terminated: Vec<bool> = episodes
        .flags
        .iter()
        .map(|&f| f == flag::TERMINATED)
        .collect();
    let terminated = Tensor::from_slice(&terminated)
        .to_device(device)
        .view_as(&values);
    let following = Tensor::cat(
        &[values.narrow(0, 1, ticks as i64 - 1), after.unsqueeze(0)],
        0,
    );
    let mut next_values = following.masked_fill(&terminated, 0.0);
    if !cut.is_empty() {
        let decision = model.forward(
            &episodes.final_tokens,
            &Tensor::cat(&cut, 1),
            Gradient::None,
        );
        let indices: Vec<i64> = episodes.truncated.iter().map(|&i| i as i64).collect();
        let indices = Tensor::from_slice(&indices).to_device(device);
        next_values = next_values
            .view(-1)
            .index_copy(0, &indices, last_value(&decision.segments))
            .view_as(&values);
    }
    Recomputed {
        carries: Tensor::stack(&carries, 1),
        log_probs: Tensor::stack(&log_probs, 0),
        values,
        next_values,
    }
}

fn last_value(segments: &[Heads]) -> &Tensor {
    &segments[segments.len() - 1].value
}

impl Recomputed {
    /// Joins the pieces of [`Episodes::split`] again.
    pub fn join(pieces: &[Self]) -> Self {
        let cat = |field: fn(&Self) -> &Tensor, axis: i64| {
            Tensor::cat(
                &pieces
                    .iter()
                    .map(|p| field(p).shallow_clone())
                    .collect::<Vec<_>>(),
                axis,
            )
        };
        Self {
            carries: cat(|p| &p.carries, 2),
            log_probs: cat(|p| &p.log_probs, 1),
            values: cat(|p| &p.values, 1),
            next_values: cat(|p| &p.next_values, 1),
        }
    }
}
