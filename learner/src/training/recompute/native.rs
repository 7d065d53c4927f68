//! The recomputation with the kernels that act, for CPUs.

use hrm_common::{
    config::{LossConfig, Prefix},
    env::flag,
    model::{
        Parameters,
        native::{HeadOutputs, Lanes},
    },
    policy::RecurrentNetwork as _,
};
use tch::Tensor;

use super::episodes::{Episodes, Recomputed, keeps_carry};
use crate::training::{
    host::{bytes, host},
    log_softmax::log_softmax,
    model::carries_of,
    states::{HostStates, States},
};

/// Runs the model over the ticks of `episodes`, and keeps what the passes start from.
pub(super) fn recompute(
    parameters: &Parameters,
    episodes: &Episodes,
    config: &LossConfig,
) -> Recomputed {
    let envs = episodes.tokens.size()[1] as usize;
    let ticks = episodes.flags.len() / envs;
    let segments = parameters.config().segments;
    let first = config.first_trained_segment(segments);
    let trained = segments.most - first;
    let tokens = bytes(&episodes.tokens);
    let actions = host(&episodes.actions);
    let observed = envs * parameters.grid().len();
    let mut lanes = Lanes::new(parameters.clone(), envs);
    lanes.set_carries(&carries_of(&episodes.carry));

    let (mut carries, mut prefixes) = (Vec::new(), Vec::new());
    let mut log_probs = vec![0.0; ticks * envs * trained];
    let mut values = vec![0.0; (ticks + 1) * envs];
    let mut thoughts = (segments.reads_halt_head()).then(|| vec![vec![]; ticks * envs]);
    let mut cut = Vec::new();
    for tick in 0..ticks {
        if keeps_carry(config, tick) {
            carries.extend((0..envs).map(|env| lanes.carry(env)));
        }
        let frames = tick * envs;
        let outputs = |env: usize, segment, heads: HeadOutputs| {
            let frame = frames + env;
            if segment >= first {
                let log_prob = log_softmax(&heads.logits)[actions[frame] as usize];
                log_probs[frame * trained + segment - first] = log_prob;
            }
            values[frame] = heads.value;
            if let Some(thoughts) = &mut thoughts {
                thoughts[frame].push(heads);
            }
        };
        let tokens = &tokens[tick * observed..][..observed];
        let segments = &episodes.segments[frames..][..envs];
        match config.prefix {
            Prefix::Fresh => lanes.decide_all(tokens, segments, outputs),
            Prefix::Cached => {
                lanes.decide_with_prefixes(tokens, segments, first, &mut prefixes, outputs);
            }
        }
        for (env, &flags) in episodes.flags[frames..][..envs].iter().enumerate() {
            if flags == flag::TRUNCATED {
                cut.push(lanes.carry(env));
            }
            if flags != 0 {
                lanes.reset(env);
            }
        }
    }
    // The actor had not yet drawn the segments of its next decision. The most give the best value.
    let after = &tokens[ticks * observed..];
    lanes.decide_all(after, &segments.deepest(envs), |env, _, heads| {
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
        let deepest = segments.deepest(cut.len());
        lanes.decide_all(&bytes(&episodes.final_tokens), &deepest, |row, _, heads| {
            next_values[episodes.truncated[row]] = heads.value;
        });
    }
    let shape = [ticks as i64, envs as i64];
    let matrix = |numbers: &[f32]| Tensor::from_slice(numbers).view(shape);
    Recomputed {
        states: States::Host(HostStates {
            carries,
            prefixes: (config.prefix == Prefix::Cached).then_some(prefixes),
        }),
        log_probs: Tensor::from_slice(&log_probs).view([shape[0], shape[1], trained as i64]),
        thoughts,
        values: matrix(&values),
        next_values: matrix(&next_values),
    }
}
