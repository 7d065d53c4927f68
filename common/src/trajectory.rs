//! An unroll: T ticks of N environments, as both sides hold it in memory.
//!
//! Arrays are time-major and contiguous, so that a tensor is made of each by one copy. Checked
//! conversion to and from the wire is [`crate::wire`].

use crate::{env::EpisodeSummary, model::Dtype};
use bytes::Bytes;

/// The sizes that every array of an unroll follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnrollShape {
    /// T: ticks.
    pub ticks: usize,
    /// N: environments.
    pub envs: usize,
    /// S: tokens of an observation.
    pub tokens: usize,
    /// Elements of one environment's carry: `2 * P * d`, `2 * d` or 0.
    pub carry: usize,
}

impl UnrollShape {
    /// Environment steps in the unroll.
    pub fn frames(&self) -> usize {
        self.ticks * self.envs
    }
}

/// T ticks of N environments, acted by one actor between two looks at the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Unroll {
    /// The session that made it.
    pub session: u64,
    /// The model whose policy acted.
    pub model_fingerprint: u64,
    /// Counts the session's unrolls from 0.
    pub sequence: u64,
    /// The sizes of everything below.
    pub shape: UnrollShape,
    /// u8 `[T + 1, N, S]`: the observation at every tick, and the one after the last.
    pub tokens: Bytes,
    /// u8 `[T, N]`.
    pub actions: Bytes,
    /// f32 `[T, N]`, little-endian.
    pub rewards: Bytes,
    /// u8 `[T, N]`, bits of [`crate::env::flag`].
    pub flags: Bytes,
    /// f32 `[T, N, A]`, little-endian: logits of the behaviour policy.
    pub behaviour_logits: Bytes,
    /// How `carry` is written, little-endian. An actor that sends it narrower than its own goes on from
    /// the rounded values itself, so that both sides start from the same bits.
    pub carry_dtype: Dtype,
    /// The carry before the first tick: `[2, N, P, d]`, `[2, N, d]` or empty.
    pub carry: Bytes,
    /// `[T]`: the version of the weights at each tick.
    pub policy_versions: Vec<u64>,
    /// u8 `[K, S]`: the final observation of each truncated episode, in the order of `flags`.
    pub final_tokens: Bytes,
    /// The episodes that ended, in the order of `flags`.
    pub episodes: Vec<EpisodeSummary>,
    /// `[N]`: the curriculum's distance limit of the episode that each environment is in after the last tick,
    /// 0 for a uniform one.
    pub running_distances: Vec<u32>,
}

impl Unroll {
    /// The oldest version of the weights that acted in it.
    pub fn oldest_version(&self) -> u64 {
        self.policy_versions.iter().copied().min().unwrap_or(0)
    }
}

/// Reads a little-endian f32 array.
pub fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Writes a little-endian f32 array.
pub fn float_bytes(values: impl IntoIterator<Item = f32>) -> Bytes {
    values
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect::<Vec<u8>>()
        .into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_are_little_endian() {
        assert_eq!(
            float_bytes([1.0, -2.5])[..],
            [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn floats_survive_bit_for_bit(bits: Vec<u32>) {
            let bytes = float_bytes(bits.iter().copied().map(f32::from_bits));
            prop_assert_eq!(bytes.len(), 4 * bits.len());
            let found: Vec<u32> = floats(&bytes).map(f32::to_bits).collect();
            prop_assert_eq!(found, bits);
        }
    }
}
