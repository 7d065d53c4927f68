//! The input of the recomputation, and its result.

use hrm_common::{
    config::{LossConfig, Prefix},
    model::native::HeadOutputs,
};
use tch::Tensor;

use crate::training::{
    batch::Batch,
    model::Hrm,
    states::{States, interleaved},
};

/// Input of the recomputation: a batch, or some of its environments.
#[derive(Debug)]
pub(super) struct Episodes {
    /// u8 `[T + 1, B, S]`.
    pub(super) tokens: Tensor,
    /// u8 `[T, B]`: the segments of each decision.
    pub(super) segments: Vec<u8>,
    /// i64 `[T, B]`.
    pub(super) actions: Tensor,
    /// The model's carry before the first tick; axis 1 is B.
    pub(super) carry: Tensor,
    /// `[T, B]`.
    pub(super) flags: Vec<u8>,
    /// u8 `[K, S]`, in the order of `truncated`.
    pub(super) final_tokens: Tensor,
    /// Flat indices into `[T, B]`, ascending.
    pub(super) truncated: Vec<usize>,
}

/// Results of the current weights on a batch; gradients are detached.
#[derive(Debug)]
pub struct Recomputed {
    /// The states from which the passes start.
    pub states: States,
    /// f32 `[T, B, segments]`: log pi(a|x) of each segment that can be trained; without a meaning for those that the
    /// decision did not run.
    pub log_probs: Tensor,
    /// `[T, B]`: the outputs after each segment of each decision, if the halt head is trained.
    pub thoughts: Option<Vec<Vec<HeadOutputs>>>,
    /// f32 `[T, B]`: V of each tick's observation, from the decision's last segment.
    pub values: Tensor,
    /// f32 `[T, B]`: V of the next observation in the same episode; 0 if the episode terminated.
    pub next_values: Tensor,
}

impl Episodes {
    /// Splits a batch's environments into `shards` groups of almost equal size, in order.
    pub(super) fn split(batch: &Batch, model: &Hrm, shards: usize) -> Vec<Self> {
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
                let narrow = |bytes: &[u8]| {
                    let ticks = bytes.chunks_exact(batch.envs);
                    ticks
                        .flat_map(|tick| tick[from..to].iter().copied())
                        .collect()
                };
                Self {
                    tokens: batch.tokens.narrow(1, start, width),
                    actions: batch.actions.narrow(1, start, width),
                    carry: carry.narrow(1, start, width).contiguous(),
                    segments: narrow(&batch.segments),
                    flags: narrow(&batch.flags),
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

impl Recomputed {
    /// Joins the pieces of [`Episodes::split`] again.
    pub(super) fn join(mut pieces: Vec<Self>) -> Self {
        let thoughts = pieces.iter_mut().filter_map(|piece| {
            let envs = piece.values.size()[1] as usize;
            Some((piece.thoughts.take()?, envs))
        });
        let thoughts: Vec<_> = thoughts.collect();
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
            log_probs: cat(|p| &p.log_probs, 1),
            thoughts: (!thoughts.is_empty()).then(|| interleaved(thoughts)),
            values: cat(|p| &p.values, 1),
            next_values: cat(|p| &p.next_values, 1),
            states: States::join(pieces.into_iter().map(|p| {
                let envs = p.values.size()[1] as usize;
                (p.states, envs)
            })),
        }
    }
}

/// True where the carry before a tick is kept: the passes start from it, and the first one also serves to test weights.
pub(super) fn keeps_carry(config: &LossConfig, tick: usize) -> bool {
    match config.prefix {
        Prefix::Fresh => tick.is_multiple_of(config.bptt_ticks),
        Prefix::Cached => tick == 0,
    }
}
