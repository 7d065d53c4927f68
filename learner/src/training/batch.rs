//! Stacks the unrolls of several actors into one training batch of tensors `[T, B]`.

use hrm_common::{
    env::{ACTIONS, flag},
    trajectory::{Unroll, floats},
};
use tch::{Device, Kind, Tensor};

use crate::training::{cohorts::Played, log_softmax::log_softmax, model::kind};

/// Unrolls of several actors side by side: T ticks of B environments.
#[derive(Debug)]
pub struct Batch {
    /// T.
    pub ticks: usize,
    /// B: environments of all unrolls.
    pub envs: usize,
    /// u8 `[T + 1, B, S]`.
    pub tokens: Tensor,
    /// u8 `[T, B]`: the segments of each decision.
    pub segments: Vec<u8>,
    /// `[T, B]`: log mu of each decision's number of segments; empty unless decisions halt by chance.
    pub halt_log_probs: Vec<f32>,
    /// i64 `[T, B]`.
    pub actions: Tensor,
    /// `[T, B]`.
    pub rewards: Vec<f32>,
    /// `[T, B]`, bits of [`flag`].
    pub flags: Vec<u8>,
    /// `[T, B]`: log mu(a|x) of the actions taken.
    pub behaviour_log_probs: Vec<f32>,
    /// The carry before the first tick, axis 1 is B; f32 or bf16 as it was sent.
    pub carry: Tensor,
    /// u8 `[K, S]`: final observations of the truncated episodes.
    pub final_tokens: Tensor,
    /// `[K]`: flat index in `[T, B]` at which each of these episodes was truncated; ascending.
    pub final_indices: Vec<usize>,
    /// The episodes of each unroll.
    pub played: Vec<Played>,
    /// Policy lag of each unroll, in versions.
    pub lags: Vec<u64>,
}

impl Batch {
    /// Returns the number of frames in the batch.
    pub fn frames(&self) -> usize {
        self.ticks * self.envs
    }

    /// Stacks unrolls of equal shape along the environment axis.
    ///
    /// # Panics
    ///
    /// Panics when `unrolls` is empty or their shapes differ; admission accepts only one shape.
    pub fn stack(unrolls: &[Unroll], newest_version: u64, device: Device) -> Self {
        let shape = unrolls[0].shape.clone();
        assert!(
            unrolls.iter().all(|u| u.shape == shape),
            "unrolls of one run have one shape"
        );
        let (ticks, n, envs) = (shape.ticks, shape.envs, shape.envs * unrolls.len());
        let tokens = concatenate(unrolls, ticks + 1, n * shape.tokens, |u| &u.tokens);
        let segments = concatenate(unrolls, ticks, n, |u| &u.segments);
        let chances = if unrolls[0].halt_log_probs.is_empty() {
            0
        } else {
            n * 4
        };
        let halt_log_probs = concatenate(unrolls, ticks, chances, |u| &u.halt_log_probs);
        let actions = concatenate(unrolls, ticks, n, |u| &u.actions);
        let logits = concatenate(unrolls, ticks, n * ACTIONS * 4, |u| &u.behaviour_logits);
        let rewards = concatenate(unrolls, ticks, n * 4, |u| &u.rewards);
        let flags = concatenate(unrolls, ticks, n, |u| &u.flags);
        let logits: Vec<f32> = floats(&logits).collect();
        let behaviour_log_probs = logits
            .chunks_exact(ACTIONS)
            .zip(&actions)
            .map(|(logits, &action)| log_softmax(logits)[usize::from(action)])
            .collect();

        let carries: Vec<Tensor> = unrolls.iter().map(carry_tensor).collect();
        // Each unroll lists its final observations by tick. Those of several unrolls must be merged, because a reader
        // passes through the ticks once.
        let mut finals: Vec<(usize, &[u8])> = Vec::new();
        for (index, unroll) in unrolls.iter().enumerate() {
            let truncated = unroll
                .flags
                .iter()
                .enumerate()
                .filter(|(_, f)| **f == flag::TRUNCATED)
                .map(|(i, _)| i / n * envs + index * n + i % n);
            finals.extend(truncated.zip(unroll.final_tokens.chunks_exact(shape.tokens)));
        }
        finals.sort_unstable_by_key(|(index, _)| *index);
        let final_indices: Vec<usize> = finals.iter().map(|(index, _)| *index).collect();
        let final_tokens: Vec<u8> = finals.iter().flat_map(|(_, row)| *row).copied().collect();
        let size = shape.tokens as i64;
        Self {
            ticks,
            envs,
            tokens: Tensor::from_data_size(
                &tokens,
                &[ticks as i64 + 1, envs as i64, size],
                Kind::Uint8,
            )
            .to_device(device),
            segments,
            halt_log_probs: floats(&halt_log_probs).collect(),
            actions: Tensor::from_data_size(&actions, &[ticks as i64, envs as i64], Kind::Uint8)
                .to_kind(Kind::Int64)
                .to_device(device),
            rewards: floats(&rewards).collect(),
            flags,
            behaviour_log_probs,
            carry: Tensor::cat(&carries, 1).to_device(device),
            final_tokens: Tensor::from_data_size(
                &final_tokens,
                &[final_indices.len() as i64, size],
                Kind::Uint8,
            )
            .to_device(device),
            final_indices,
            played: unrolls.iter().map(Played::new).collect(),
            lags: unrolls
                .iter()
                .map(|u| newest_version.saturating_sub(u.oldest_version()))
                .collect(),
        }
    }
}

/// Joins `[rows, columns]` byte arrays of several unrolls side by side: `[rows, unrolls * columns]`.
fn concatenate(
    unrolls: &[Unroll],
    rows: usize,
    columns: usize,
    field: impl Fn(&Unroll) -> &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows * columns * unrolls.len());
    for row in 0..rows {
        for unroll in unrolls {
            out.extend_from_slice(&field(unroll)[row * columns..(row + 1) * columns]);
        }
    }
    out
}

/// Returns the carry as `[2, N, carry / 2]`. The model's shape has the same layout; see [`crate::training::recompute`].
fn carry_tensor(unroll: &Unroll) -> Tensor {
    let (envs, elements) = (unroll.shape.envs as i64, unroll.shape.carry as i64);
    Tensor::from_data_size(
        &unroll.carry,
        &[2, envs, elements / 2],
        kind(unroll.carry_dtype),
    )
}

#[cfg(test)]
mod tests {
    use hrm_common::{
        model::Dtype,
        trajectory::{UnrollShape, float_bytes},
    };
    use proptest::prelude::*;

    use super::*;

    const TOKENS: usize = 3;
    const CARRY: usize = 4;

    /// Builds an unroll in which each number encodes its position: unroll `u`, tick and environment.
    fn unroll(u: usize, ticks: usize, envs: usize, flags: Vec<u8>, dtype: Dtype) -> Unroll {
        let code = |tick: usize, env: usize| (40 * u + 8 * tick + env) as u8;
        let places = |ticks| (0..ticks).flat_map(move |t| (0..envs).map(move |n| (t, n)));
        let truncated = places(ticks)
            .zip(&flags)
            .filter(|(_, f)| **f == flag::TRUNCATED);
        let carry = (0..envs * CARRY).map(|i| (60 * u + i) as f32);
        Unroll {
            session: u as u64,
            thread: 0,
            model_fingerprint: 0,
            sequence: 0,
            shape: UnrollShape {
                ticks,
                envs,
                tokens: TOKENS,
                carry: CARRY,
            },
            tokens: places(ticks + 1)
                .flat_map(|(t, n)| [code(t, n); TOKENS])
                .collect(),
            segments: places(ticks).map(|(t, n)| code(t, n)).collect(),
            halt_log_probs: float_bytes(places(ticks).map(|(t, n)| -f32::from(code(t, n)))),
            actions: places(ticks)
                .map(|(t, n)| code(t, n) % ACTIONS as u8)
                .collect(),
            rewards: float_bytes(places(ticks).map(|(t, n)| f32::from(code(t, n)))),
            behaviour_logits: float_bytes(places(ticks).flat_map(|(t, n)| {
                (0..ACTIONS).map(move |a| (code(t, n) as usize * a) as f32 / 90.0)
            })),
            carry_dtype: dtype,
            carry: match dtype {
                Dtype::F32 => float_bytes(carry),
                // The lower half of an integer of this size is zero, so bf16 holds it exactly.
                Dtype::Bf16 => carry
                    .flat_map(|z| ((z.to_bits() >> 16) as u16).to_le_bytes())
                    .collect(),
            },
            policy_versions: vec![10 - u as u64; ticks],
            final_tokens: truncated
                .flat_map(|((t, n), _)| [code(t, n) + 1; TOKENS])
                .collect(),
            episodes: Vec::new(),
            running_distances: vec![0; envs],
            flags: flags.into(),
        }
    }

    /// Generates the flags of some unrolls of one shape.
    fn flags() -> impl Strategy<Value = (usize, usize, Vec<Vec<u8>>)> {
        (1_usize..5, 1_usize..4, 1_usize..5).prop_flat_map(|(ticks, envs, unrolls)| {
            let flags = prop::collection::vec(0_u8..3, ticks * envs);
            (
                Just(ticks),
                Just(envs),
                prop::collection::vec(flags, unrolls),
            )
        })
    }

    fn bytes(tensor: &Tensor) -> Vec<u8> {
        Vec::try_from(tensor.contiguous().view(-1)).expect("bytes")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn unrolls_lie_side_by_side((ticks, envs, flags) in flags(), half: bool) {
            let dtype = if half { Dtype::Bf16 } else { Dtype::F32 };
            let unrolls: Vec<Unroll> = flags
                .iter()
                .enumerate()
                .map(|(u, flags)| unroll(u, ticks, envs, flags.clone(), dtype))
                .collect();
            let batch = Batch::stack(&unrolls, 12, Device::Cpu);
            let width = envs * unrolls.len();
            prop_assert_eq!((batch.ticks, batch.envs, batch.frames()), (ticks, width, ticks * width));
            prop_assert_eq!(batch.tokens.size(), [ticks as i64 + 1, width as i64, TOKENS as i64]);
            let tokens = bytes(&batch.tokens);
            let actions: Vec<i64> = Vec::try_from(batch.actions.view(-1)).expect("whole numbers");
            for (i, place) in tokens.chunks_exact(TOKENS).enumerate() {
                let (tick, u, env) = (i / width, i % width / envs, i % envs);
                let code = (40 * u + 8 * tick + env) as u8;
                prop_assert_eq!(place, [code; TOKENS]);
                if tick == ticks {
                    continue;
                }
                prop_assert_eq!(actions[i], i64::from(code) % 4);
                prop_assert_eq!(batch.segments[i], code);
                prop_assert_eq!(batch.halt_log_probs[i], -f32::from(code));
                prop_assert_eq!(batch.rewards[i], f32::from(code));
                prop_assert_eq!(batch.flags[i], flags[u][tick * envs + env]);
                let logits: Vec<f64> = (0..ACTIONS).map(|a| f64::from(code) * a as f64 / 90.0).collect();
                let total: f64 = logits.iter().map(|l| l.exp()).sum();
                let log_prob = logits[usize::from(code) % 4] - total.ln();
                prop_assert!((f64::from(batch.behaviour_log_probs[i]) - log_prob).abs() < 1e-5);
            }

            prop_assert_eq!(batch.carry.size(), [2, width as i64, CARRY as i64 / 2]);
            let carry: Vec<f32> = Vec::try_from(batch.carry.to_kind(Kind::Float).view(-1)).expect("floats");
            let row = CARRY / 2;
            for (i, z) in carry.iter().enumerate() {
                let (half, b, k) = (i / (width * row), i / row % width, i % row);
                let expected = 60 * (b / envs) + (half * envs + b % envs) * row + k;
                let expected = Tensor::from(expected as f32).to_kind(kind(dtype));
                prop_assert_eq!(f64::from(*z), expected.double_value(&[]));
            }

            // Each truncation occurs once, in tick order, with its own observation.
            let truncated: Vec<usize> = (0..batch.frames())
                .filter(|&i| batch.flags[i] == flag::TRUNCATED)
                .collect();
            prop_assert_eq!(&batch.final_indices, &truncated);
            let finals = bytes(&batch.final_tokens);
            for (&i, observation) in truncated.iter().zip(finals.chunks_exact(TOKENS)) {
                prop_assert_eq!(observation, [tokens[i * TOKENS] + 1; TOKENS]);
            }
            prop_assert_eq!(finals.len(), truncated.len() * TOKENS);
            let lags: Vec<u64> = (0..unrolls.len() as u64).map(|u| 2 + u).collect();
            prop_assert_eq!(batch.lags, lags);
        }
    }
}
