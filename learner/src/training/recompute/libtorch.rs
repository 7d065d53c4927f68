//! The recomputation with the model in libtorch, for GPUs.

use hrm_common::{
    config::{LossConfig, Prefix},
    env::flag,
    model::native::HeadOutputs,
};
use tch::{Kind, Tensor};

use super::episodes::{Episodes, Recomputed, keeps_carry};
use crate::training::{
    host::host,
    model::{ActiveBatch, ActiveRows, Gradient, Heads, Hrm, OUTPUTS, read_outputs},
    states::{States, TensorStates},
};

/// Runs the model over the ticks of `episodes`, and keeps what the passes start from.
pub(super) fn recompute(model: &Hrm, episodes: &Episodes, config: &LossConfig) -> Recomputed {
    let _no_grad = tch::no_grad_guard();
    let envs = episodes.tokens.size()[1] as usize;
    let ticks = episodes.flags.len() / envs;
    let device = model.device();
    let prepared = model.prepare(Gradient::None);
    let forward = |tokens: &Tensor, carry: &Tensor, active: Option<ActiveBatch<'_>>| {
        model.forward_prepared(&prepared, tokens, carry, active, Gradient::None)
    };
    let range = model.config().segments;
    let active = range
        .is_range()
        .then(|| ActiveRows::new(episodes.segments.chunks_exact(envs), range.most, device));
    let mut carry = episodes.carry.shallow_clone();
    let first = config.first_trained_segment(range);
    let (mut carries, mut prefixes) = (vec![], vec![]);
    let (mut log_probs, mut values) = (vec![], vec![]);
    let mut thoughts = vec![];
    // The carries from which the final observations of truncated episodes are valued.
    let mut cut = vec![];
    let mut next_truncated = 0;
    for t in 0..ticks {
        if keeps_carry(config, t) {
            carries.push(carry.shallow_clone());
        }
        let tokens = episodes.tokens.get(t as i64);
        let actions = episodes.actions.get(t as i64).unsqueeze(1);
        let active = active.as_ref().map(|active| active.batch(t));
        let decision = match config.prefix {
            Prefix::Fresh => forward(&tokens, &carry, active),
            Prefix::Cached => {
                let (decision, kept) =
                    model.forward_with_prefixes(&prepared, &tokens, &carry, active, first);
                prefixes.push(kept);
                decision
            }
        };
        let taken: Vec<Tensor> = decision.segments[first..]
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

        if range.reads_halt_head() {
            let outputs = decision.segments.iter().map(Heads::outputs);
            thoughts.push(Tensor::stack(&outputs.collect::<Vec<_>>(), 1));
        }
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
            carry = model.reset_carry(
                &prepared,
                &carry,
                &Tensor::from_slice(&ended).to_device(device),
            );
        }
    }
    // The actor had not yet drawn the segments of its next decision. The most give the best value.
    let after = forward(&episodes.tokens.get(ticks as i64), &carry, None);
    let after = last_value(&after.segments);

    let values = Tensor::stack(&values, 0);
    let final_values = (!cut.is_empty()).then(|| {
        let decision = forward(&episodes.final_tokens, &Tensor::cat(&cut, 1), None);
        last_value(&decision.segments).shallow_clone()
    });
    let next_values = next_values(&values, after, final_values, episodes);
    Recomputed {
        states: States::Tensors(TensorStates {
            carries: Tensor::stack(&carries, 1),
            prefixes: (config.prefix == Prefix::Cached).then(|| Tensor::stack(&prefixes, 0)),
        }),
        log_probs: Tensor::stack(&log_probs, 0),
        thoughts: read_thoughts(&thoughts, &episodes.segments),
        values,
        next_values,
    }
}

/// Returns the value of what follows each frame in its episode, `[T, B]`. `after` is that of the observations after the
/// last tick, `[B]`, and `of_finals` that of the final observations of truncated episodes.
fn next_values(
    values: &Tensor,
    after: &Tensor,
    of_finals: Option<Tensor>,
    episodes: &Episodes,
) -> Tensor {
    let device = values.device();
    let terminated: Vec<bool> = episodes
        .flags
        .iter()
        .map(|&f| f == flag::TERMINATED)
        .collect();
    let terminated = Tensor::from_slice(&terminated)
        .to_device(device)
        .view_as(values);
    let following = Tensor::cat(
        &[
            values.narrow(0, 1, values.size()[0] - 1),
            after.unsqueeze(0),
        ],
        0,
    );
    let next_values = following.masked_fill(&terminated, 0.0);
    let Some(of_finals) = of_finals else {
        return next_values;
    };
    let indices: Vec<i64> = episodes.truncated.iter().map(|&i| i as i64).collect();
    let indices = Tensor::from_slice(&indices).to_device(device);
    next_values
        .view(-1)
        .index_copy(0, &indices, &of_finals)
        .view_as(values)
}

/// Reads the outputs after each segment of decisions, of so many segments `[T * B]`, from those of each tick, f32 `[B,
/// segments, OUTPUTS]`. Returns `None` if none were kept.
fn read_thoughts(ticks: &[Tensor], segments: &[u8]) -> Option<Vec<Vec<HeadOutputs>>> {
    let most = ticks.first()?.size()[1] as usize;
    let numbers = host(&Tensor::stack(ticks, 0));
    let decisions = numbers.chunks_exact(most * OUTPUTS).zip(segments);
    let of_decision = |(numbers, &number): (&[f32], &u8)| {
        let (outputs, _) = numbers.as_chunks();
        outputs
            .iter()
            .take(number.into())
            .map(read_outputs)
            .collect()
    };
    Some(decisions.map(of_decision).collect())
}

fn last_value(segments: &[Heads]) -> &Tensor {
    &segments[segments.len() - 1].value
}
