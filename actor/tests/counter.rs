//! Recurrent state at unroll boundaries, after resets and after weight swaps: a counter environment
//! whose observation says how many steps its episode has run, and a counter network whose carry says
//! how many decisions it made since its last reset. They must agree at every tick.
//! (The idea: torchbeast, `tests/core_agent_state_test.py`.)

use std::cell::Cell;

use half::bf16;

use hrm_actor::rollout::{Environments, Rollout};
use hrm_common::{
    env::{ACTIONS, Curriculum, EpisodeSummary, flag},
    model::{Depth, Dtype, Halt, Segments},
    policy::{Policy, RecurrentNetwork, action_rng},
    stage::{ActorStage, StageClock},
    telemetry::names,
    trajectory::{RolloutId, Unroll, UnrollShape, floats},
    weights::WeightsError,
};
use proptest::prelude::*;

/// Tokens of an observation: steps of the episode so far, the environment, the episode's number.
const SIZE: usize = 3;

/// Elements of one environment's carry: [`WIDTH`] numbers for zH and as many for zL.
const WIDTH: usize = 3;

/// The place of an environment on its fixed timetable.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    env: usize,
    episode: usize,
    age: usize,
}

impl Place {
    fn start(env: usize) -> Self {
        Self {
            env,
            episode: 0,
            age: 0,
        }
    }

    /// Environments end at different ticks, one after a single step and some of them together.
    fn length(self) -> usize {
        1 + (3 * self.env + 5 * self.episode) % 7
    }

    /// Both ends, in turn but not in step.
    fn end(self) -> u8 {
        if (self.env + self.episode).is_multiple_of(3) {
            flag::TERMINATED
        } else {
            flag::TRUNCATED
        }
    }

    fn tokens(self) -> [u8; SIZE] {
        [self.age as u8, self.env as u8, self.episode as u8]
    }

    /// Returns the reward of a step from here with `action`.
    fn reward(self, action: u8) -> f32 {
        f32::from(action) + self.env as f32 / 8.0 + self.age as f32 / 128.0
    }

    fn summary(self) -> EpisodeSummary {
        EpisodeSummary {
            episode_return: (self.env * 100 + self.episode) as f32,
            length: self.length() as u32,
            shortest_path: 1 + self.env as u32,
            success: self.end() == flag::TERMINATED,
            curriculum_distance: self.episode as u32,
        }
    }

    /// The place after one step, before any reset, and whether the episode ended there.
    fn step(self) -> (Self, bool) {
        let next = Self {
            age: self.age + 1,
            ..self
        };
        (next, next.age == self.length())
    }

    fn next_episode(self) -> Self {
        Self {
            age: 0,
            episode: self.episode + 1,
            ..self
        }
    }
}

#[derive(Debug)]
struct CounterEnvs {
    places: Vec<Place>,
    observations: Vec<u8>,
    rewards: Vec<f32>,
    flags: Vec<u8>,
    ended: Vec<(EpisodeSummary, [u8; SIZE])>,
}

impl CounterEnvs {
    fn new(envs: usize) -> Self {
        let places: Vec<Place> = (0..envs).map(Place::start).collect();
        Self {
            observations: places.iter().flat_map(|p| p.tokens()).collect(),
            rewards: vec![0.0; envs],
            flags: vec![0; envs],
            ended: Vec::new(),
            places,
        }
    }
}

impl Environments for CounterEnvs {
    fn observations(&self) -> &[u8] {
        &self.observations
    }

    fn step(&mut self, actions: &[u8]) {
        self.ended.clear();
        for (env, place) in self.places.iter_mut().enumerate() {
            self.rewards[env] = place.reward(actions[env]);
            let (next, ended) = place.step();
            self.flags[env] = if ended { next.end() } else { 0 };
            *place = if ended {
                self.ended.push((next.summary(), next.tokens()));
                next.next_episode()
            } else {
                next
            };
        }
        self.observations = self.places.iter().flat_map(|p| p.tokens()).collect();
    }

    fn rewards(&self) -> &[f32] {
        &self.rewards
    }

    fn flags(&self) -> &[u8] {
        &self.flags
    }

    fn ended(&self) -> impl Iterator<Item = (EpisodeSummary, &[u8])> {
        self.ended
            .iter()
            .map(|(summary, tokens)| (*summary, &tokens[..]))
    }

    fn curriculum_distances(&self) -> impl Iterator<Item = u32> {
        self.places.iter().map(|_| 0)
    }

    fn set_curriculum(&mut self, _: Curriculum) {}
}

/// Its carry `[2, N, WIDTH]`: how far it counted, and the environment and the episode that it saw last, all
/// negated in zL. Its logits: how far it had counted before the decision, the age and the environment that
/// it sees, and its weights plus the segments of the decision divided by 100.
#[derive(Debug)]
struct CounterNetwork {
    segments: Segments,
    /// By how much a decision counts on.
    stride: f32,
    /// The only weight: one byte.
    weights: u8,
    /// zH of each environment; zL is its negation.
    carry: Vec<[f32; WIDTH]>,
}

/// Decisions that draw their segments.
const DRAWN: Segments = Segments {
    least: 2,
    most: 4,
    halt: None,
    explore: 0.0,
};

/// Decisions that halt by chance.
const BY_CHANCE: Segments = Segments {
    halt: Some(Halt::Policy),
    ..DRAWN
};

/// Where decisions halt by chance, the segments of one that sees this.
fn halts_after(age: u8, env: u8) -> u8 {
    BY_CHANCE.least as u8 + (age + env) % 3
}

/// The log-probability of so many segments; another one for each number.
fn halt_log_prob(segments: u8) -> f32 {
    -f32::from(segments) / 8.0
}

/// The first carry: nothing counted, nothing seen.
const INITIAL: [f32; WIDTH] = [0.0, -1.0, -1.0];

impl RecurrentNetwork for CounterNetwork {
    fn envs(&self) -> usize {
        self.carry.len()
    }

    fn segments(&self) -> Segments {
        self.segments
    }

    fn decide(&mut self, tokens: &[u8], depths: &mut [Depth], logits: &mut [f32]) {
        let seen = tokens.chunks_exact(SIZE).zip(depths);
        let rows = logits.chunks_exact_mut(ACTIONS);
        for ((carry, (seen, depth)), row) in self.carry.iter_mut().zip(seen).zip(rows) {
            let [age, env, episode] = [0, 1, 2].map(|i| f32::from(seen[i]));
            if self.segments.halts_by_chance() {
                depth.segments = halts_after(seen[0], seen[1]);
                depth.log_prob = halt_log_prob(depth.segments);
            }
            let last = f32::from(self.weights) + f32::from(depth.segments) / 100.0;
            row.copy_from_slice(&[carry[0], age, env, last]);
            *carry = [carry[0] + self.stride, env, episode];
        }
    }

    fn reset(&mut self, env: usize) {
        self.carry[env] = INITIAL;
    }

    fn carry(&self, env: usize) -> Vec<f32> {
        let z_h = self.carry[env];
        [z_h, z_h.map(|x| -x)].concat()
    }

    fn set_carries(&mut self, carries: &[Vec<f32>]) {
        let z_h = carries.iter().map(|carry| [carry[0], carry[1], carry[2]]);
        self.carry = z_h.collect();
    }

    fn load(&mut self, body: &[u8]) -> Result<(), WeightsError> {
        match body {
            [weights] => {
                self.weights = *weights;
                Ok(())
            }
            _ => Err(WeightsError::Order("one byte is all this network has")),
        }
    }
}

type CounterRollout = Rollout<CounterEnvs, CounterNetwork>;

const SESSION: u64 = 11;
const FINGERPRINT: u64 = 12;

fn rollout(ticks: usize, envs: usize, dtype: Dtype, stride: f32) -> CounterRollout {
    rollout_with(DRAWN, [ticks, envs], dtype, stride)
}

fn rollout_with(
    segments: Segments,
    [ticks, envs]: [usize; 2],
    dtype: Dtype,
    stride: f32,
) -> CounterRollout {
    let shape = UnrollShape {
        ticks,
        envs,
        tokens: SIZE,
        carry: 2 * WIDTH,
    };
    let network = CounterNetwork {
        segments,
        stride,
        weights: 0,
        carry: vec![INITIAL; envs],
    };
    Rollout::new(
        CounterEnvs::new(envs),
        Policy::for_rollouts(network),
        action_rng(5),
        shape,
        dtype,
        RolloutId {
            session: SESSION,
            thread: 0,
        },
        FINGERPRINT,
    )
}

fn play(rollout: &mut CounterRollout, version: u64) -> Unroll {
    let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
    rollout
        .unroll(version, &mut clock, || false)
        .expect("nobody says stop")
}

/// The carry of an unroll as f32 `[2, N, WIDTH]`.
fn carry(unroll: &Unroll) -> Vec<f32> {
    match unroll.carry_dtype {
        Dtype::F32 => floats(&unroll.carry).collect(),
        Dtype::Bf16 => {
            let (pairs, _) = unroll.carry.as_chunks();
            let pairs = pairs.iter();
            pairs
                .map(|&pair| bf16::from_le_bytes(pair).to_f32())
                .collect()
        }
    }
}

/// Compares the segments of an unroll's decisions with what they saw.
fn check_segments(unroll: &Unroll, segments: Segments) {
    let log_probs: Vec<f32> = floats(&unroll.halt_log_probs).collect();
    if !segments.halts_by_chance() {
        assert!(log_probs.is_empty(), "nothing was chosen");
        assert!(unroll.segments.iter().all(|&n| segments.contains(n)));
        return;
    }
    let seen = unroll.tokens.chunks_exact(SIZE);
    let expected: Vec<u8> = seen
        .take(unroll.shape.frames())
        .map(|seen| halts_after(seen[0], seen[1]))
        .collect();
    assert_eq!(unroll.segments, expected);
    let expected: Vec<f32> = expected.into_iter().map(halt_log_prob).collect();
    assert_eq!(log_probs, expected);
}

/// Compares a whole unroll with the timetable from `places` on, which it moves along.
fn check(unroll: &Unroll, places: &mut [Place], version: u64) {
    let (ticks, envs) = (unroll.shape.ticks, places.len());
    let z = carry(unroll);
    assert_eq!(z.len(), 2 * envs * WIDTH);
    for (env, place) in places.iter().enumerate() {
        let seen = if place.age == 0 {
            INITIAL
        } else {
            [place.age as f32, env as f32, place.episode as f32]
        };
        let row = |half: usize| &z[(half * envs + env) * WIDTH..][..WIDTH];
        assert_eq!(row(0), seen, "zH at {place:?}");
        assert_eq!(row(1), seen.map(|v| -v), "zL at {place:?}");
    }

    let rewards: Vec<f32> = floats(&unroll.rewards).collect();
    let logits: Vec<f32> = floats(&unroll.behaviour_logits).collect();
    assert_eq!(unroll.tokens.len(), (ticks + 1) * envs * SIZE);
    assert_eq!(logits.len(), ticks * envs * ACTIONS);
    let (mut final_tokens, mut episodes) = (Vec::new(), Vec::new());
    for tick in 0..ticks {
        for place in places.iter_mut() {
            let frame = tick * envs + place.env;
            let tokens = &unroll.tokens[frame * SIZE..][..SIZE];
            assert_eq!(tokens, place.tokens(), "tick {tick} at {place:?}");
            let (age, env) = (place.age as f32, place.env as f32);
            let segments = unroll.segments[frame];
            assert_eq!(
                logits[frame * ACTIONS..][..ACTIONS],
                [age, age, env, version as f32 + f32::from(segments) / 100.0],
                "tick {tick} at {place:?}: carry, observation, environment, weights and segments"
            );
            assert_eq!(rewards[frame], place.reward(unroll.actions[frame]));
            let (next, ended) = place.step();
            assert_eq!(unroll.flags[frame], if ended { next.end() } else { 0 });
            if ended {
                episodes.push(next.summary());
                if next.end() == flag::TRUNCATED {
                    final_tokens.extend(next.tokens());
                }
            }
            *place = if ended { next.next_episode() } else { next };
        }
    }
    let last: Vec<u8> = places.iter().flat_map(|place| place.tokens()).collect();
    assert_eq!(unroll.tokens[ticks * envs * SIZE..], last);
    assert_eq!(unroll.final_tokens[..], final_tokens);
    assert_eq!(unroll.episodes, episodes);
    assert_eq!(unroll.policy_versions, vec![version; ticks]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn carry_and_episode_agree_at_every_tick(
        ticks in 1_usize..12,
        envs in 1_usize..8,
        dtype in prop_oneof![Just(Dtype::F32), Just(Dtype::Bf16)],
        segments in prop_oneof![Just(DRAWN), Just(BY_CHANCE)],
        swaps in prop::collection::vec(any::<bool>(), 1..8),
    ) {
        let mut rollout = rollout_with(segments, [ticks, envs], dtype, 1.0);
        let mut places: Vec<Place> = (0..envs).map(Place::start).collect();
        let mut version = 0;
        for (sequence, swap) in swaps.into_iter().enumerate() {
            if swap {
                version += 1;
                rollout.network().load(&[version as u8]).expect("one byte");
            }
            let unroll = play(&mut rollout, version);
            check(&unroll, &mut places, version);
            check_segments(&unroll, segments);
            prop_assert_eq!(unroll.sequence, sequence as u64);
            prop_assert_eq!((unroll.session, unroll.model_fingerprint), (SESSION, FINGERPRINT));
        }
    }
}

/// The timetable has what the property above is about: both ends, several of them in one tick and in one
/// environment within an unroll, and episodes that span unrolls.
#[test]
fn the_timetable_covers_every_kind_of_end() {
    let unroll = play(&mut rollout(11, 7, Dtype::F32, 1.0), 0);
    let ticks: Vec<&[u8]> = unroll.flags.chunks_exact(7).collect();
    let count = |flags: &[u8], of: u8| flags.iter().filter(|f| **f == of).count();
    for end in [flag::TERMINATED, flag::TRUNCATED] {
        assert!(count(&unroll.flags, end) > 3);
    }
    assert!(
        ticks
            .iter()
            .any(|t| count(t, flag::TERMINATED) > 0 && count(t, flag::TRUNCATED) > 0)
    );
    let first: Vec<u8> = ticks.iter().map(|tick| tick[0]).collect();
    assert!(count(&first, 0) < first.len() - 1, "{first:?}");
    assert!(
        unroll.tokens[11 * 7 * SIZE..]
            .chunks_exact(SIZE)
            .any(|t| t[0] > 0)
    );
}

#[test]
fn refused_weights_leave_the_old_ones_and_the_carry() {
    let mut rollout = rollout(5, 3, Dtype::F32, 1.0);
    let mut places: Vec<Place> = (0..3).map(Place::start).collect();
    check(&play(&mut rollout, 0), &mut places, 0);
    assert!(rollout.network().load(&[]).is_err());
    check(&play(&mut rollout, 0), &mut places, 0);
}

/// With a carry that travels as bf16, the actor itself continues from the carry that it sent.
#[test]
fn the_actor_continues_from_the_rounded_carry_that_it_sent() {
    let stride = 0.3_f32;
    let mut rollout = rollout(4, 5, Dtype::Bf16, stride);
    let mut rounded = 0;
    let mut before: Option<Unroll> = None;
    for _ in 0..6 {
        let unroll = play(&mut rollout, 0);
        let sent = carry(&unroll);
        for env in 0..5 {
            let at_first_tick = floats(&unroll.behaviour_logits)
                .nth(env * ACTIONS)
                .expect("a logit");
            assert_eq!(at_first_tick.to_bits(), sent[env * WIDTH].to_bits());
            // What the last unroll counted to, had nothing been rounded since its last tick.
            if let Some(before) = &before {
                let last = 3 * 5 + env;
                let counted = floats(&before.behaviour_logits)
                    .nth(last * ACTIONS)
                    .expect("a logit")
                    + stride;
                let went_on = before.flags[last] == 0;
                rounded += usize::from(went_on && counted != at_first_tick);
            }
        }
        before = Some(unroll);
    }
    assert!(rounded > 5, "only {rounded} carries were rounded");
}

#[test]
fn an_abandoned_unroll_checks_for_a_stop_every_tick_and_returns_nothing() {
    let mut rollout = rollout(6, 2, Dtype::F32, 1.0);
    let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() == 4
    };
    assert!(rollout.unroll(0, &mut clock, stop).is_none());
    assert_eq!(asked.get(), 4);
    assert_eq!(play(&mut rollout, 0).sequence, 0);
}
