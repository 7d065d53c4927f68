//! Real mazes walked by a real model, as the learner gets them; and the same walked again by hand.

// Each test program uses its own part of it.

use hrm_actor::rollout::Rollout;
use hrm_common::{
    env::{ACTIONS, EnvConfig, VecEnv, flag},
    model::{
        CarryMode, Dtype, Halt, Mixing, ModelConfig, PositionEncoding, Readout, Segments,
        native::{HeadOutputs, Lanes},
        state,
    },
    policy::{Policy, RecurrentNetwork as _, action_rng},
    stage::{ActorStage, LearnerStage, StageClock},
    telemetry::names,
    trajectory::{RolloutId, Unroll, UnrollShape, floats},
    wire::{self, Expectation},
};
use hrm_learner::training::model::{Hrm, kind};
use hrm_proto::v1::UnrollBatch;
use prost::Message as _;
use tch::{Device, Kind, Tensor, no_grad};

/// Episodes so short that every few ticks one is cut off, and goals so near that chance finds them.
pub fn short_episodes(maze: EnvConfig) -> EnvConfig {
    EnvConfig {
        max_steps: 7,
        max_distance: 2,
        p_change: 0.3,
        ..maze
    }
}

/// The form that learns fastest on a CPU, narrower, and with one cycle: a recurrence twice as deep lets
/// rounding grow to the size of the smallest mistakes.
pub fn conv(carry: CarryMode) -> ModelConfig {
    ModelConfig {
        hidden: 16,
        h_cycles: 1,
        carry,
        ..ModelConfig::small()
    }
}

/// [`conv`], whose decisions end by a rule.
pub fn halting(halt: Halt, carry: CarryMode) -> ModelConfig {
    ModelConfig {
        segments: Segments {
            halt: Some(halt),
            ..Segments::range(1, 3)
        },
        halt_head: true,
        ..conv(carry)
    }
}

/// The published form in 32 bits with less of everything.
pub fn attention(carry: CarryMode) -> ModelConfig {
    ModelConfig {
        hidden: 8,
        h_layers: 1,
        l_layers: 1,
        h_cycles: 1,
        segments: Segments::new(2),
        inter_multiple: 8,
        position: PositionEncoding::Rotary,
        mixing: Mixing::Attention,
        readout: Readout::Prefix,
        carry,
        dtype: Dtype::F32,
        halt_head: false,
        ..ModelConfig::paper()
    }
}

/// A model that already prefers some moves, values and numbers of segments: fresh heads are so small that most mistakes
/// would hide in the tolerance.
pub fn opinionated(config: &ModelConfig, env: &EnvConfig, seed: u64) -> Hrm {
    let model = Hrm::new(config, env.grid(), seed, Device::Cpu).expect("a valid model");
    no_grad(|| {
        for (name, mut tensor) in model.named_tensors() {
            if name == "policy" || name == "value" {
                let _ = tensor.g_mul_scalar_(25.0);
            }
            if name == "halt.weight" {
                let wave = Tensor::arange(tensor.numel() as i64, (Kind::Float, Device::Cpu)) * 0.9;
                tensor.copy_(&(wave.sin() * 0.5).view_as(&tensor));
            }
        }
    });
    model
}

/// Changes every parameter by about a hundredth of its tensor's size; the same change for the same `seed`.
pub fn nudge(model: &Hrm, seed: f64, by: f64) {
    no_grad(|| {
        let mut flat = model.flat_parameters().shallow_clone();
        let wave =
            (Tensor::arange(flat.numel() as i64, (Kind::Float, Device::Cpu)) * 0.7 + seed).sin();
        let _ = flat.g_add_(&(wave * by));
    });
}

/// Some actors with models of their own.
pub struct Actors {
    rollouts: Vec<Rollout<VecEnv, Lanes>>,
    expectation: Expectation,
}

impl Actors {
    /// `actors` actors with the weights of `model`, each with environments `[T, N]` of its own.
    pub fn new(
        actors: u64,
        model: &Hrm,
        env: &EnvConfig,
        [ticks, envs]: [usize; 2],
        carry_dtype: Dtype,
    ) -> Self {
        let shape = UnrollShape {
            ticks,
            envs,
            tokens: env.grid().len(),
            carry: model.carry_shape(1).iter().product::<i64>() as usize,
        };
        let rollout = |seed| {
            Rollout::new(
                VecEnv::new(env, envs, seed).expect("a valid maze"),
                Policy::for_rollouts(Lanes::new(model.to_parameters(), envs)),
                action_rng(seed),
                shape.clone(),
                carry_dtype,
                RolloutId {
                    session: seed,
                    thread: 0,
                },
                model.fingerprint(),
            )
        };
        Self {
            rollouts: (1..=actors).map(rollout).collect(),
            expectation: Expectation {
                segments: model.config().segments,
                carry_dtype,
                model_fingerprint: model.fingerprint(),
                max_steps: env.max_steps,
                shape,
            },
        }
    }

    /// Swaps in the model's present weights, as an actor does between unrolls.
    pub fn load(&mut self, model: &Hrm) {
        let body = state::encode(&model.to_parameters());
        for rollout in &mut self.rollouts {
            rollout.network().load(&body).expect("the same shape");
        }
    }

    /// One unroll of each actor, as the learner reads it off the wire.
    pub fn play(&mut self, version: u64) -> Vec<Unroll> {
        let expectation = &self.expectation;
        self.rollouts
            .iter_mut()
            .map(|rollout| {
                let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
                let unroll = rollout.unroll(version, &mut clock, || false);
                let unroll = unroll.expect("nobody says stop");
                let bytes = wire::encode(&unroll).encode_to_vec();
                let message = UnrollBatch::decode(&bytes[..]).expect("protobuf");
                wire::decode(message, expectation, version).expect("a valid unroll")
            })
            .collect()
    }
}

/// One tick of one environment, with the outputs of a model.
pub struct Frame {
    /// u8 `[1, S]`.
    pub tokens: Tensor,
    /// Before the tick, of this environment alone.
    pub carry: Tensor,
    /// The segments of the decision.
    pub segments: u8,
    /// The action taken.
    pub action: i64,
    /// Its reward.
    pub reward: f64,
    /// Bits of `env::flag`.
    pub flags: u8,
    /// log mu(a|x) by the logits that travelled.
    pub log_mu: f64,
    /// log pi(a|x).
    pub log_pi: f64,
    /// The value before the tick.
    pub value: f64,
    /// Of what follows in the same episode.
    pub next_value: f64,
    /// Of the first observation of the next episode, where one begins: never to be bootstrapped from.
    pub value_of_next_episode: Option<f64>,
}

/// Walks every environment of some unrolls again, one at a time and a tick at a time; the columns are
/// those of the batch that the unrolls are stacked to.
pub fn walk(model: &Hrm, unrolls: &[Unroll]) -> Vec<Vec<Frame>> {
    unrolls
        .iter()
        .flat_map(|unroll| (0..unroll.shape.envs).map(|env| column(model, unroll, env)))
        .collect()
}

fn column(model: &Hrm, unroll: &Unroll, env: usize) -> Vec<Frame> {
    let UnrollShape {
        ticks,
        envs,
        tokens: size,
        ..
    } = unroll.shape;
    let observation = |tick: usize| &unroll.tokens[(tick * envs + env) * size..][..size];
    let rewards: Vec<f32> = floats(&unroll.rewards).collect();
    let logits: Vec<f32> = floats(&unroll.behaviour_logits).collect();
    let mut lanes = Lanes::new(model.to_parameters(), 1);
    let fresh = lanes.carry(0);
    // The heads of the last segment, and the carry afterwards.
    let most = model.config().segments.deepest(1)[0];
    let mut say = |tokens: &[u8], carry: &[f32], segments: u8| {
        lanes.set_carries(&[carry.to_vec()]);
        let mut last = HeadOutputs::default();
        lanes.decide_all(tokens, &[segments], |_, _, heads| last = heads);
        (last, lanes.carry(0))
    };
    let tensor = |carry: &[f32]| {
        let carry = Tensor::from_slice(carry).view(model.carry_shape(1).as_slice());
        carry.to_kind(model.kind())
    };

    let sent = Tensor::from_data_size(
        &unroll.carry,
        &[2, envs as i64, unroll.shape.carry as i64 / 2],
        kind(unroll.carry_dtype),
    );
    let sent = sent.select(1, env as i64).to_kind(Kind::Float).reshape(-1);
    let mut carry = Vec::<f32>::try_from(sent).expect("floats");
    let mut frames: Vec<Frame> = Vec::new();
    for tick in 0..ticks {
        let frame = tick * envs + env;
        let action = usize::from(unroll.actions[frame]);
        let (heads, after) = say(observation(tick), &carry, unroll.segments[frame]);
        let flags = unroll.flags[frame];
        let first = (flags != 0).then(|| say(observation(tick + 1), &fresh, most).0.value);
        let next_value = match flags {
            flag::TERMINATED => 0.0,
            flag::TRUNCATED => {
                let before = unroll.flags[..frame].iter();
                let rank = before.filter(|&&f| f == flag::TRUNCATED).count();
                let last = &unroll.final_tokens[rank * size..][..size];
                say(last, &after, most).0.value.into()
            }
            // Known only when the next tick was walked, below.
            _ => f64::NAN,
        };
        frames.push(Frame {
            tokens: Tensor::from_slice(observation(tick)).view([1, size as i64]),
            carry: tensor(&carry),
            segments: unroll.segments[frame],
            action: action as i64,
            reward: rewards[frame].into(),
            flags,
            log_mu: log_softmax(&logits[frame * ACTIONS..][..ACTIONS])[action],
            log_pi: log_softmax(&heads.logits)[action],
            value: heads.value.into(),
            next_value,
            value_of_next_episode: first.map(f64::from),
        });
        carry = if flags == 0 { after } else { fresh.clone() };
    }
    let mut following = f64::from(say(observation(ticks), &carry, most).0.value);
    for frame in frames.iter_mut().rev() {
        if frame.flags == 0 {
            frame.next_value = following;
        }
        following = frame.value;
    }
    frames
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    logits.iter().map(|&l| f64::from(l) - total.ln()).collect()
}

/// A clock for the stages of an update.
pub fn learner_clock() -> StageClock<LearnerStage> {
    StageClock::new(names::LEARNER_STAGE_SECONDS, LearnerStage::Wait)
}
