//! Acting: one decision in every environment with its carry, then one action per environment.

use bytes::{BufMut as _, Bytes, BytesMut};
use half::bf16;
use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    env::ACTIONS,
    model::{Depth, Dtype, Segments},
    weights::WeightsError,
};

/// A recurrent network that acts in N environments, whose carry it holds. The model's
/// [`Lanes`](crate::model::native::Lanes) implement it for mazes; a test implements it with counters.
pub trait RecurrentNetwork {
    /// Returns N.
    fn envs(&self) -> usize;

    /// Returns the segments that a decision can have.
    fn segments(&self) -> Segments;

    /// Makes one decision in each environment and advances the carry: tokens u8 `[N, S]` give logits f32 `[N, A]`.
    ///
    /// A decision has as many segments as its depth says. If [`RecurrentNetwork::segments`] have a rule, it has at least
    /// as many, and ends as soon as the rule is met. `depths`, `[N]`, then says what the decisions were.
    fn decide(&mut self, tokens: &[u8], depths: &mut [Depth], logits: &mut [f32]);

    /// Resets the carry of an environment whose episode ended to the initial vectors.
    fn reset(&mut self, env: usize);

    /// Returns the carry of an environment: its elements of `zH`, then as many of `zL`.
    fn carry(&self, env: usize) -> Vec<f32>;

    /// Becomes a network of as many environments as `carries`, each with its carry.
    fn set_carries(&mut self, carries: &[Vec<f32>]);

    /// Loads published weights, all of them or none, and keeps the carry.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are not weights of this network.
    fn load(&mut self, body: &[u8]) -> Result<(), WeightsError>;

    /// Keeps only these environments, in this order.
    fn retain(&mut self, envs: &[usize]) {
        let carries: Vec<_> = envs.iter().map(|&env| self.carry(env)).collect();
        self.set_carries(&carries);
    }

    /// Returns the carry as little-endian bytes: `[2, N, ...]`, `zH` first. With a narrower dtype than the network's,
    /// the network continues from the rounded values, so that the learner starts from the same bits.
    fn carry_bytes(&mut self, dtype: Dtype) -> Bytes {
        let mut carries: Vec<_> = (0..self.envs()).map(|env| self.carry(env)).collect();
        if dtype == Dtype::Bf16 {
            for number in carries.iter_mut().flatten() {
                *number = bf16::from_f32(*number).to_f32();
            }
            self.set_carries(&carries);
        }
        let elements = carries.iter().map(Vec::len).sum::<usize>();
        let mut bytes = BytesMut::with_capacity(elements * dtype.size());
        for &number in stacked(&carries).flatten() {
            match dtype {
                Dtype::F32 => bytes.put_f32_le(number),
                Dtype::Bf16 => bytes.put_u16_le(bf16::from_f32(number).to_bits()),
            }
        }
        bytes.freeze()
    }
}

impl<N: RecurrentNetwork + ?Sized> RecurrentNetwork for Box<N> {
    fn envs(&self) -> usize {
        (**self).envs()
    }

    fn segments(&self) -> Segments {
        (**self).segments()
    }

    fn decide(&mut self, tokens: &[u8], depths: &mut [Depth], logits: &mut [f32]) {
        (**self).decide(tokens, depths, logits);
    }

    fn reset(&mut self, env: usize) {
        (**self).reset(env);
    }

    fn carry(&self, env: usize) -> Vec<f32> {
        (**self).carry(env)
    }

    fn set_carries(&mut self, carries: &[Vec<f32>]) {
        (**self).set_carries(carries);
    }

    fn load(&mut self, body: &[u8]) -> Result<(), WeightsError> {
        (**self).load(body)
    }

    fn retain(&mut self, envs: &[usize]) {
        (**self).retain(envs);
    }

    fn carry_bytes(&mut self, dtype: Dtype) -> Bytes {
        (**self).carry_bytes(dtype)
    }
}

/// A network whose model several rollout threads share.
pub trait SharedNetwork: RecurrentNetwork + Send + 'static {
    /// Returns `envs` environments at the start of an episode, which share this model's memory.
    fn with_envs(&self, envs: usize) -> Self;

    /// Acts with the model of `other` from now on, and shares its memory. Keeps the carry. Weights that `other` loads
    /// later change nothing here.
    ///
    /// # Panics
    ///
    /// Panics when `other` has another form.
    fn share_model(&mut self, other: &Self);
}

/// Returns the halves of carries, each with `zH` before `zL`, in the order of one array `[2, N, ...]`: every `zH`, then
/// every `zL`.
pub fn stacked(carries: &[Vec<f32>]) -> impl Iterator<Item = &[f32]> {
    [0, 1].into_iter().flat_map(move |part| {
        carries.iter().map(move |carry| {
            let half = carry.len() / 2;
            &carry[part * half..(part + 1) * half]
        })
    })
}

/// The way to choose an action from the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The most probable action.
    Greedy,
    /// An action drawn from the policy.
    Sampled,
}

impl Choice {
    /// Returns what a decision with these segments is asked. Draws from the generator only where decisions can differ.
    pub fn depth(self, segments: Segments, rng: &mut Xoshiro256PlusPlus) -> Depth {
        let asked = Depth::at_least(segments.draw(rng));
        match (self, segments.halts_by_chance()) {
            (Self::Sampled, true) => Depth {
                draw: rng.random(),
                ..asked
            },
            _ => asked,
        }
    }

    /// Returns an action for the logits. Only a sampled one draws from the generator.
    pub fn choose(self, logits: &[f32], rng: &mut Xoshiro256PlusPlus) -> u8 {
        match self {
            Self::Greedy => greedy(logits),
            Self::Sampled => sample(logits, rng),
        }
    }
}

/// The actions of one tick, and the logits from which they were chosen.
#[derive(Debug)]
pub struct Acted<'a> {
    /// The actions, `[N]`.
    pub actions: &'a [u8],
    /// The depth of each decision, `[N]`.
    pub depths: &'a [Depth],
    /// The logits, `[N, A]`.
    pub logits: &'a [f32],
}

/// A network, and the actions that it chose last.
#[derive(Debug)]
pub struct Policy<N> {
    network: N,
    /// The segments from which every decision draws its depth.
    segments: Segments,
    actions: Vec<u8>,
    depths: Vec<Depth>,
    logits: Vec<f32>,
}

impl<N: RecurrentNetwork> Policy<N> {
    /// Returns a policy for the network's environments. Its decisions have the most segments, or follow the rule that
    /// ends them.
    pub fn new(network: N) -> Self {
        let segments = network.segments().without_draws();
        Self::with_segments(network, segments)
    }

    /// Returns a policy for rollouts, whose decisions also draw the number of their segments.
    pub fn for_rollouts(network: N) -> Self {
        let segments = network.segments();
        Self::with_segments(network, segments)
    }

    fn with_segments(network: N, segments: Segments) -> Self {
        let envs = network.envs();
        Self {
            network,
            segments,
            actions: vec![0; envs],
            depths: segments.depths(envs),
            logits: vec![0.0; envs * ACTIONS],
        }
    }

    /// The network, with the carry of its environments.
    pub fn network(&mut self) -> &mut N {
        &mut self.network
    }

    /// Decides for every environment, with tokens u8 `[N, S]`, and advances the carry. `rngs` holds one generator per
    /// environment, or one for all. Allocates nothing.
    pub fn act(
        &mut self,
        tokens: &[u8],
        choice: Choice,
        rngs: &mut [Xoshiro256PlusPlus],
    ) -> Acted<'_> {
        let rng_of = rng_of(rngs);
        for (env, depth) in self.depths.iter_mut().enumerate() {
            *depth = choice.depth(self.segments, &mut rngs[rng_of(env)]);
        }
        self.decide(tokens, choice, rngs)
    }

    /// Decides as [`Policy::act`] does, but with at least so many segments, `[N]`: exactly so many if no rule ends the
    /// network's decisions.
    pub fn act_with(
        &mut self,
        tokens: &[u8],
        segments: &[u8],
        choice: Choice,
        rngs: &mut [Xoshiro256PlusPlus],
    ) -> Acted<'_> {
        for (depth, &segments) in self.depths.iter_mut().zip(segments) {
            *depth = Depth::at_least(segments);
        }
        self.decide(tokens, choice, rngs)
    }

    /// Decides with the depths that are asked for.
    fn decide(
        &mut self,
        tokens: &[u8],
        choice: Choice,
        rngs: &mut [Xoshiro256PlusPlus],
    ) -> Acted<'_> {
        let rng_of = rng_of(rngs);
        self.network
            .decide(tokens, &mut self.depths, &mut self.logits);
        let logits = self.logits.chunks_exact(ACTIONS);
        for (env, (action, logits)) in self.actions.iter_mut().zip(logits).enumerate() {
            *action = choice.choose(logits, &mut rngs[rng_of(env)]);
        }
        Acted {
            actions: &self.actions,
            depths: &self.depths,
            logits: &self.logits,
        }
    }

    /// Keeps only these environments, in this order.
    pub fn retain(&mut self, envs: &[usize]) {
        self.network.retain(envs);
        self.actions.truncate(envs.len());
        self.depths.truncate(envs.len());
        self.logits.truncate(envs.len() * ACTIONS);
    }
}

/// Returns the number of each environment's generator, among one for each or one for all.
fn rng_of(rngs: &[Xoshiro256PlusPlus]) -> impl Fn(usize) -> usize + use<> {
    let shared = rngs.len() == 1;
    move |env| if shared { 0 } else { env }
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
    let weights = relative_probabilities(logits);
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

/// Returns softmax(logits).
pub fn probabilities(logits: &[f32]) -> Vec<f32> {
    let weights = relative_probabilities(logits);
    let total = weights.clone().sum::<f32>();
    weights.map(|weight| weight / total).collect()
}

/// Returns the entropy of softmax(logits) in nats.
pub fn entropy(logits: &[f32]) -> f32 {
    let weights = relative_probabilities(logits);
    let total = weights.clone().sum::<f32>();
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // -sum p ln p, where ln p is the distance to the highest logit less the logarithm of the sum.
    let distances = logits.iter().map(|logit| highest - logit);
    let mean: f32 = weights.zip(distances).map(|(w, below)| w * below).sum();
    mean / total + total.ln()
}

/// The probabilities over that of the most probable action.
fn relative_probabilities(logits: &[f32]) -> impl Iterator<Item = f32> + Clone {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().map(move |logit| (logit - highest).exp())
}

/// Returns the random generator for actions, which is independent of the environments' generator.
pub fn action_rng(seed: u64) -> Xoshiro256PlusPlus {
    thread_action_rng(seed, 0)
}

/// Returns the random generator for the actions of one of several threads that share `seed`. It is independent of the
/// environments' generators and of the other threads'.
pub fn thread_action_rng(seed: u64, thread: u32) -> Xoshiro256PlusPlus {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..=thread).for_each(|_| rng.long_jump());
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_follow_the_softmax() {
        let logits = [0.0, 1.0, -1.0, 0.5];
        let total: f32 = logits.iter().map(|l: &f32| l.exp()).sum();
        for (p, logit) in probabilities(&logits).into_iter().zip(logits) {
            assert!((p - logit.exp() / total).abs() < 1e-6, "{p}");
        }
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
    fn entropy_is_that_of_the_probabilities() {
        for logits in [[0.0; 4], [0.0, 1.0, -1.0, 0.5], [30.0, 2.0, 1.0, 29.0]] {
            let terms = probabilities(&logits).into_iter().map(|p| -p * p.ln());
            let expected: f32 = terms.sum();
            let found = entropy(&logits);
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        }
        assert_eq!(entropy(&[0.0, 200.0, -200.0, -200.0]), 0.0);
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
