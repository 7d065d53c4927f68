//! The recomputation with the kernels that act, for CPUs.

use hrm_common::{
    env::flag,
    model::{Parameters, native::Lanes},
    policy::RecurrentNetwork as _,
};
use tch::Tensor;

use super::episodes::{Episodes, Recomputed};
use crate::training::{
    batch::log_softmax,
    host::{bytes, host},
    model::{carries_of, carry_tensor, kind},
};

/// Runs the model over the ticks of `episodes`, and keeps the carry before every `stride`-th tick.
pub(super) fn recompute(
    parameters: &Parameters,
    episodes: &Episodes,
    stride: usize,
    deep_supervision: bool,
) -> Recomputed {
    let envs = episodes.tokens.size()[1] as usize;
    let ticks = episodes.flags.len() / envs;
    let segments = parameters.config().segments;
    // The first segment that is trained.
    let first = if deep_supervision { 0 } else { segments - 1 };
    let trained = segments - first;
    let tokens = bytes(&episodes.tokens);
    let actions = host(&episodes.actions);
    let observed = envs * parameters.grid().len();
    let mut lanes = Lanes::new(parameters.clone(), envs);
    lanes.set_carries(&carries_of(&episodes.carry));

    let mut carries = Vec::new();
    let mut log_probs = vec![0.0; ticks * envs * trained];
    let mut values = vec![0.0; (ticks + 1) * envs];
    let mut cut = Vec::new();
    for tick in 0..ticks {
        if tick % stride == 0 {
            carries.extend((0..envs).map(|env| lanes.carry(env)));
        }
        let frames = tick * envs;
        lanes.decide_all(
            &tokens[tick * observed..][..observed],
            |env, segment, heads| {
                let frame = frames + env;
                if segment >= first {
                    let log_prob = log_softmax(&heads.logits)[actions[frame] as usize];
                    log_probs[frame * trained + segment - first] = log_prob;
                }
                values[frame] = heads.value;
            },
        );
        for (env, &flags) in episodes.flags[frames..][..envs].iter().enumerate() {
            if flags == flag::TRUNCATED {
                cut.push(lanes.carry(env));
            }
            if flags != 0 {
                lanes.reset(env);
            }
        }
    }
    lanes.decide_all(&tokens[ticks * observed..], |env, _, heads| {
        values[ticks * envs + env] = heads.value;
    });

    let mut next_values = values[envs..].to_vec();
    values.truncate(ticks * envs);
    for (next, _) in (next_values.iter_mut().zip(&episodes.flags))
        .filter(|(_, flags)| **flags == flag::TERMINATED)
    {
        *next = 0.0;
    }
    if !cut.is_empty() {
        lanes.set_carries(&cut);
        lanes.decide_all(&bytes(&episodes.final_tokens), |row, _, heads| {
            next_values[episodes.truncated[row]] = heads.value;
        });
    }
    // [2, T / stride, B, ...]
    let kept = (carries.len() / envs) as i64;
    let carry_shape = [&[2, kept], &episodes.carry.size()[1..]].concat();
    let shape = [ticks as i64, envs as i64];
    let matrix = |numbers: &[f32]| Tensor::from_slice(numbers).view(shape);
    Recomputed {
        carries: carry_tensor(&carries, &carry_shape).to_kind(kind(parameters.config().dtype)),
        log_probs: Tensor::from_slice(&log_probs).view([shape[0], shape[1], trained as i64]),
        values: matrix(&values),
        next_values: matrix(&next_values),
    }
}
