//! Acting: one batched forward pass over all environments with their carry, then one action per environment.

use crate::{
    env::ACTIONS,
    model::{Dtype, Gradient, Hrm},
    weights::{self, WeightsError},
};
use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{Kind, Tensor};

/// A recurrent policy network that can act. [`Hrm`] implements it for training; a test implements it with counters.
pub trait PolicyNetwork {
    /// Returns the carry of `batch` environments at the start of an episode; axis 1 is the environment.
    fn initial_carry(&self, batch: usize) -> Tensor;

    /// Makes one decision. Tokens u8 `[N, S]` and the carry give logits f32 `[N, A]` and the next carry.
    fn decide(&self, tokens: &Tensor, carry: &Tensor) -> (Tensor, Tensor);

    /// Returns the carry with the rows of ended episodes (bool `[N]`) reset to the initial vectors.
    fn reset_carry(&self, carry: &Tensor, ended: &Tensor) -> Tensor;

    /// Loads published weights, all of them or none.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are not weights of this network.
    fn load(&mut self, body: &[u8]) -> Result<(), WeightsError>;
}

impl PolicyNetwork for Hrm {
    fn initial_carry(&self, batch: usize) -> Tensor {
        Hrm::initial_carry(self, batch)
    }

    fn decide(&self, tokens: &Tensor, carry: &Tensor) -> (Tensor, Tensor) {
        let mut decision = self.forward(tokens, carry, Gradient::None);
        // The last segment gives the action. Every decision has one.
        let last = decision
            .segments
            .pop()
            .expect("a validated model runs at least one segment");
        (last.logits, decision.carry)
    }

    fn reset_carry(&self, carry: &Tensor, ended: &Tensor) -> Tensor {
        Hrm::reset_carry(self, carry, ended)
    }

    fn load(&mut self, body: &[u8]) -> Result<(), WeightsError> {
        weights::load(self, body)
    }
}

/// The way to choose an action from the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The most probable action.
    Greedy,
    /// An action drawn from the policy.
    Sampled,
}

/// The actions of one tick, and the logits from which they were chosen.
#[derive(Debug)]
pub struct Acted {
    /// The actions, `[N]`.
    pub actions: Vec<u8>,
    /// The logits, `[N, A]`.
    pub logits: Vec<f32>,
}

/// A network, and the carry of N environments.
#[derive(Debug)]
pub struct Policy<N> {
    network: N,
    carry: Tensor,
}

impl<N: PolicyNetwork> Policy<N> {
    /// Returns a policy for `envs` environments that are at the start of an episode.
    pub fn new(network: N, envs: usize) -> Self {
        let carry = network.initial_carry(envs);
        Self { network, carry }
    }

    /// Loads published weights, and keeps the carry.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are not weights of this network, which then keeps the old ones.
    pub fn load(&mut self, body: &[u8]) -> Result<(), WeightsError> {
        self.network.load(body)
    }

    /// Decides for every environment, with tokens u8 `[N, S]`, and advances the carry. `rngs` holds one generator per
    /// environment, or one for all.
    pub fn act(&mut self, tokens: &[u8], choice: Choice, rngs: &mut [Xoshiro256PlusPlus]) -> Acted {
        let envs = self.carry.size()[1] as usize;
        let tokens = Tensor::from_data_size(
            tokens,
            &[envs as i64, (tokens.len() / envs) as i64],
            Kind::Uint8,
        )
        .to_device(self.carry.device());
        let (logits, carry) = self.network.decide(&tokens, &self.carry);
        self.carry = carry;
        let mut values = vec![0.0_f32; envs * ACTIONS];
        logits
            .to_kind(Kind::Float)
            .copy_data(&mut values, envs * ACTIONS);
        let shared = rngs.len() == 1;
        let actions = values
            .chunks_exact(ACTIONS)
            .enumerate()
            .map(|(env, logits)| match choice {
                Choice::Greedy => greedy(logits),
                Choice::Sampled => sample(logits, &mut rngs[if shared { 0 } else { env }]),
            })
            .collect();
        Acted {
            actions,
            logits: values,
        }
    }

    /// Resets the carry of the environments whose episode ended (`[N]`) to the initial vectors.
    pub fn reset(&mut self, ended: &[bool]) {
        if ended.contains(&true) {
            let ended = Tensor::from_slice(ended).to_device(self.carry.device());
            self.carry = self.network.reset_carry(&self.carry, &ended);
        }
    }

    /// Keeps only the environments of the given rows, in that order.
    pub fn retain(&mut self, rows: &[i64]) {
        let rows = Tensor::from_slice(rows).to_device(self.carry.device());
        self.carry = self.carry.index_select(1, &rows);
    }

    /// Returns the carry as little-endian bytes. With a narrower dtype than the network's, the policy continues from
    /// the rounded values, so that the learner starts from the same bits.
    pub fn carry_bytes(&mut self, dtype: Dtype) -> Bytes {
        let kind = self.carry.kind();
        let written = self.carry.to_kind(dtype.kind()).contiguous();
        self.carry = written.to_kind(kind);
        let elements = written.numel();
        let mut bytes = vec![0; elements * dtype.size()];
        if elements > 0 {
            written.copy_data_u8(&mut bytes, elements);
        }
        bytes.into()
    }
}

/// Returns the most probable action; the first one of equals.
pub fn greedy(logits: &[f32]) -> u8 {
    let mut best = 0;
    for (action, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = action;
        }
    }
    best as u8
}

/// Draws an action from softmax(logits), by inversion.
fn sample(logits: &[f32], rng: &mut Xoshiro256PlusPlus) -> u8 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = logits.iter().map(|l| (l - highest).exp());
    let mut left = rng.random::<f32>() * weights.clone().sum::<f32>();
    for (action, weight) in weights.enumerate() {
        left -= weight;
        if left < 0.0 {
            return action as u8;
        }
    }
    // Reached only through rounding.
    greedy(logits)
}

/// Returns the random generator for actions, which is independent of the environments' generator.
pub fn action_rng(seed: u64) -> Xoshiro256PlusPlus {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    rng.long_jump();
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_follow_the_softmax() {
        let logits = [0.0, 1.0, -1.0, 0.5];
        let total: f32 = logits.iter().map(|l: &f32| l.exp()).sum();
        let mut rng = action_rng(3);
        let draws = 40_000;
        let mut counts = [0_u32; ACTIONS];
        for _ in 0..draws {
            counts[usize::from(sample(&logits, &mut rng))] += 1;
        }
        for (count, logit) in counts.iter().zip(logits) {
            let p = f64::from(logit.exp() / total);
            let sigma = (f64::from(draws) * p * (1.0 - p)).sqrt();
            let off = (f64::from(*count) - f64::from(draws) * p).abs();
            assert!(off < 5.0 * sigma, "{count} draws of an action with p = {p}");
        }
    }

    #[test]
    fn a_certain_policy_is_followed() {
        let mut rng = action_rng(1);
        for _ in 0..1000 {
            assert_eq!(sample(&[-200.0, 0.0, -200.0, -200.0], &mut rng), 1);
        }
        assert_eq!(greedy(&[0.0, 3.0, 3.0, -1.0]), 1);
    }
}
