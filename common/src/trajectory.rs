//! An unroll: T ticks of N environments, as actor and learner hold it in memory.
//!
//! Arrays are time-major and contiguous, so that one copy makes a tensor of each. [`crate::wire`] converts them to and
//! from the wire, with checks.

use bytes::Bytes;

use crate::{env::EpisodeSummary, model::Dtype};

/// The sizes that determine the shapes of an unroll's arrays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnrollShape {
    /// T: ticks.
    pub ticks: usize,
    /// N: environments.
    pub envs: usize,
    /// S: tokens per observation.
    pub tokens: usize,
    /// Elements of one environment's carry: `2 * P * d`, `2 * d` or 0.
    pub carry: usize,
}

impl UnrollShape {
    /// Returns the number of frames, T times N.
    pub fn frames(&self) -> usize {
        self.ticks * self.envs
    }
}

/// A rollout thread of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RolloutId {
    /// The session of the actor.
    pub session: u64,
    /// The thread's number in its session, from 0.
    pub thread: u32,
}

/// T ticks of N environments, played by one rollout thread with the weights of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Unroll {
    /// The session of the actor.
    pub session: u64,
    /// The rollout thread of the session.
    pub thread: u32,
    /// The fingerprint of the model that acted.
    pub model_fingerprint: u64,
    /// The number of earlier unrolls of the thread.
    pub sequence: u64,
    /// The sizes of the arrays below.
    pub shape: UnrollShape,
    /// u8 `[T + 1, N, S]`: the observation at every tick, and the observation after the last tick.
    pub tokens: Bytes,
    /// u8 `[T, N]`: the segments of each decision.
    pub segments: Bytes,
    /// f32 `[T, N]`, little-endian: the log-probability of each decision's number of segments. Empty unless decisions
    /// halt by chance.
    pub halt_log_probs: Bytes,
    /// u8 `[T, N]`.
    pub actions: Bytes,
    /// f32 `[T, N]`, little-endian.
    pub rewards: Bytes,
    /// u8 `[T, N]`, bits of [`crate::env::flag`].
    pub flags: Bytes,
    /// f32 `[T, N, A]`, little-endian: logits of the behaviour policy.
    pub behaviour_logits: Bytes,
    /// The dtype of `carry`, little-endian. An actor that sends a narrower dtype than its own continues from the
    /// rounded values, so that both sides start from the same bits.
    pub carry_dtype: Dtype,
    /// The carry before the first tick: `[2, N, P, d]`, `[2, N, d]` or empty.
    pub carry: Bytes,
    /// `[T]`: the version of the weights at each tick.
    pub policy_versions: Vec<u64>,
    /// u8 `[K, S]`: the final observation of each truncated episode, in the order of `flags`.
    pub final_tokens: Bytes,
    /// The episodes that ended, in the order of `flags`.
    pub episodes: Vec<EpisodeSummary>,
    /// `[N]`: the curriculum's distance limit of the episode that runs in each environment after the last tick, in
    /// steps; 0 for a uniform episode.
    pub running_distances: Vec<u32>,
}

impl Unroll {
    /// Returns the rollout thread that played it.
    pub fn rollout(&self) -> RolloutId {
        RolloutId {
            session: self.session,
            thread: self.thread,
        }
    }

    /// Returns the oldest version of the weights that acted in the unroll.
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
