//! Plays T ticks of N environments and records them as one unroll.
//!
//! ```text
//!   a tick:  observations --act--> actions, logits, z'
//!                         --step-> rewards, flags, next observations (auto-reset)
//!            z' of ended episodes is reset to the initial vectors before the next tick
//! ```

use bytes::{BufMut as _, Bytes, BytesMut};
use hrm_common::{
    env::{ACTIONS, Curriculum, EpisodeSummary, VecEnv, flag},
    model::Dtype,
    policy::{Choice, Policy, RecurrentNetwork},
    stage::{ActorStage, StageClock},
    trajectory::{RolloutId, Unroll, UnrollShape},
};
use rand_xoshiro::Xoshiro256PlusPlus;

/// The environments of a rollout. [`VecEnv`] implements it with mazes; a test implements it with counters.
pub trait Environments {
    /// The observations, u8 `[N, S]`, after auto-reset.
    fn observations(&self) -> &[u8];
    /// Steps every environment with `actions`, u8 `[N]`, and resets those whose episode ended.
    fn step(&mut self, actions: &[u8]);
    /// The rewards of the last step, f32 `[N]`.
    fn rewards(&self) -> &[f32];
    /// The [`flag`]s of the last step, u8 `[N]`.
    fn flags(&self) -> &[u8];
    /// The summary and the final observation, u8 `[S]`, of each episode that ended in the last step, in the order of
    /// the environments.
    fn ended(&self) -> impl Iterator<Item = (EpisodeSummary, &[u8])>;
    /// The curriculum's distance limit of each environment's running episode, `[N]`, in steps; 0 for a uniform episode.
    fn curriculum_distances(&self) -> impl Iterator<Item = u32>;
    /// Sets the curriculum of the episodes that start from now on.
    fn set_curriculum(&mut self, curriculum: Curriculum);
}

impl Environments for VecEnv {
    fn observations(&self) -> &[u8] {
        VecEnv::observations(self)
    }
    fn step(&mut self, actions: &[u8]) {
        VecEnv::step(self, actions);
    }
    fn rewards(&self) -> &[f32] {
        VecEnv::rewards(self)
    }
    fn flags(&self) -> &[u8] {
        VecEnv::flags(self)
    }
    fn ended(&self) -> impl Iterator<Item = (EpisodeSummary, &[u8])> {
        self.finished()
            .iter()
            .zip(self.final_observations())
            .map(|(finished, (_, observation))| (finished.summary, observation))
    }
    fn curriculum_distances(&self) -> impl Iterator<Item = u32> {
        VecEnv::curriculum_distances(self)
    }
    fn set_curriculum(&mut self, curriculum: Curriculum) {
        VecEnv::set_curriculum(self, curriculum);
    }
}

/// N environments, the policy that acts in them, and the number of unrolls so far.
#[derive(Debug)]
pub struct Rollout<E, N> {
    envs: E,
    policy: Policy<N>,
    rng: [Xoshiro256PlusPlus; 1],
    shape: UnrollShape,
    carry_dtype: Dtype,
    id: RolloutId,
    model_fingerprint: u64,
    sequence: u64,
}

impl<E: Environments, N: RecurrentNetwork> Rollout<E, N> {
    /// Returns a rollout whose environments are all at the start of an episode.
    pub fn new(
        envs: E,
        policy: Policy<N>,
        rng: Xoshiro256PlusPlus,
        shape: UnrollShape,
        carry_dtype: Dtype,
        id: RolloutId,
        model_fingerprint: u64,
    ) -> Self {
        let (rng, sequence) = ([rng], 0);
        Self {
            envs,
            policy,
            rng,
            shape,
            carry_dtype,
            id,
            model_fingerprint,
            sequence,
        }
    }

    /// The network, which takes new weights between unrolls.
    pub fn network(&mut self) -> &mut N {
        self.policy.network()
    }

    /// The environments, which take a new curriculum between unrolls.
    pub fn envs(&mut self) -> &mut E {
        &mut self.envs
    }

    /// Plays T ticks with the weights of `version`. Returns `None` when `stop` becomes true: the unroll is abandoned.
    pub fn unroll(
        &mut self,
        version: u64,
        clock: &mut StageClock<ActorStage>,
        stop: impl Fn() -> bool,
    ) -> Option<Unroll> {
        let UnrollShape {
            ticks,
            envs,
            tokens: size,
            ..
        } = self.shape;
        let frames = self.shape.frames();
        clock.enter(ActorStage::Encode);
        let carry = self.policy.network().carry_bytes(self.carry_dtype);
        let mut tokens = BytesMut::with_capacity((ticks + 1) * envs * size);
        let mut segments = BytesMut::with_capacity(frames);
        let by_chance = self.policy.network().segments().halts_by_chance();
        let mut halt_log_probs = BytesMut::with_capacity(if by_chance { frames * 4 } else { 0 });
        let mut actions = BytesMut::with_capacity(frames);
        let mut rewards = BytesMut::with_capacity(frames * 4);
        let mut flags = BytesMut::with_capacity(frames);
        let mut behaviour_logits = BytesMut::with_capacity(frames * ACTIONS * 4);
        let mut final_tokens = BytesMut::new();
        let mut episodes = Vec::new();

        for _ in 0..ticks {
            if stop() {
                return None;
            }
            tokens.extend_from_slice(self.envs.observations());
            clock.enter(ActorStage::Infer);
            let acted = self
                .policy
                .act(self.envs.observations(), Choice::Sampled, &mut self.rng);
            segments.extend(acted.depths.iter().map(|depth| depth.segments));
            if by_chance {
                let log_probs = acted.depths.iter().map(|depth| depth.log_prob);
                log_probs.for_each(|log_prob| halt_log_probs.put_f32_le(log_prob));
            }
            actions.extend_from_slice(acted.actions);
            acted
                .logits
                .iter()
                .for_each(|&l| behaviour_logits.put_f32_le(l));
            clock.enter(ActorStage::Step);
            self.envs.step(acted.actions);
            for (env, _) in (0..).zip(self.envs.flags()).filter(|&(_, &flag)| flag != 0) {
                self.policy.network().reset(env);
            }

            clock.enter(ActorStage::Encode);
            self.envs
                .rewards()
                .iter()
                .for_each(|&r| rewards.put_f32_le(r));
            flags.extend_from_slice(self.envs.flags());
            for (summary, observation) in self.envs.ended() {
                // An episode without success was truncated, so the learner bootstraps from its final observation.
                if !summary.success {
                    final_tokens.extend_from_slice(observation);
                }
                episodes.push(summary);
            }
        }
        tokens.extend_from_slice(self.envs.observations());
        debug_assert_eq!(
            final_tokens.len(),
            flags.iter().filter(|&&f| f == flag::TRUNCATED).count() * size
        );

        let sequence = self.sequence;
        self.sequence += 1;
        Some(Unroll {
            session: self.id.session,
            thread: self.id.thread,
            model_fingerprint: self.model_fingerprint,
            sequence,
            shape: self.shape.clone(),
            tokens: tokens.freeze(),
            segments: segments.freeze(),
            halt_log_probs: halt_log_probs.freeze(),
            actions: actions.freeze(),
            rewards: rewards.freeze(),
            flags: flags.freeze(),
            behaviour_logits: behaviour_logits.freeze(),
            carry_dtype: self.carry_dtype,
            carry,
            policy_versions: vec![version; ticks],
            final_tokens: Bytes::from(final_tokens),
            episodes,
            running_distances: self.envs.curriculum_distances().collect(),
        })
    }
}
