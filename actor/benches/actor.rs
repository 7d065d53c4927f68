//! Frames per second of one actor: whole unrolls of the default configuration, small model, on both mazes, and
//! the share of that time that is spent in the kernels. Then of agents that end their decisions early: frames per second
//! against the mean segments of a decision. Elements are frames.

#![allow(clippy::print_stdout, reason = "the measurements are the output")]

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hrm_actor::rollout::Rollout;
use hrm_common::{
    config::Config,
    env::{EnvConfig, VecEnv},
    model::{Depth, Halt, Parameters, Segments, native::Lanes},
    policy::{Policy, RecurrentNetwork, action_rng},
    stage::{ActorStage, StageClock},
    telemetry::names,
    trajectory::RolloutId,
    weights::WeightsError,
};

/// The model, with the time that its decisions take.
#[derive(Debug)]
struct Timed {
    lanes: Lanes,
    spent: Rc<Cell<Duration>>,
}

impl RecurrentNetwork for Timed {
    fn envs(&self) -> usize {
        self.lanes.envs()
    }

    fn segments(&self) -> Segments {
        self.lanes.segments()
    }

    fn decide(&mut self, tokens: &[u8], depths: &mut [Depth], logits: &mut [f32]) {
        let began = Instant::now();
        self.lanes.decide(tokens, depths, logits);
        self.spent.set(self.spent.get() + began.elapsed());
    }

    fn reset(&mut self, env: usize) {
        self.lanes.reset(env);
    }

    fn carry(&self, env: usize) -> Vec<f32> {
        self.lanes.carry(env)
    }

    fn set_carries(&mut self, carries: &[Vec<f32>]) {
        self.lanes.set_carries(carries);
    }

    fn load(&mut self, body: &[u8]) -> Result<(), WeightsError> {
        self.lanes.load(body)
    }
}

fn rollout(config: &Config, spent: Rc<Cell<Duration>>) -> Rollout<VecEnv, Timed> {
    let parameters =
        Parameters::new(&config.model, config.env.grid(), 0).expect("the small preset");
    let (envs, seed) = (config.rollout.envs, 1);
    let (shape, fingerprint) = (config.spec().unroll_shape(), parameters.fingerprint());
    let lanes = Lanes::new(parameters, envs);
    Rollout::new(
        VecEnv::new(&config.env, envs, seed).expect("a valid config"),
        Policy::for_rollouts(Timed { lanes, spent }),
        action_rng(seed),
        shape,
        config.rollout.carry_dtype,
        RolloutId {
            session: 1,
            thread: 0,
        },
        fingerprint,
    )
}

fn actor(criterion: &mut Criterion) {
    let random_maze = Config {
        env: EnvConfig::random_maze(),
        ..Config::default()
    };
    let mut group = criterion.benchmark_group("actor");
    for (name, config) in [
        ("four-rooms", Config::default()),
        ("random-maze", random_maze),
    ] {
        let (whole, in_kernels) = (Cell::new(Duration::ZERO), Rc::default());
        let mut rollout = rollout(&config, Rc::clone(&in_kernels));
        let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Encode);
        group.throughput(Throughput::Elements(config.rollout.frames() as u64));
        group.bench_function(BenchmarkId::new("unroll", name), |bencher| {
            bencher.iter(|| {
                let began = Instant::now();
                let unroll = rollout.unroll(0, &mut clock, || false);
                whole.set(whole.get() + began.elapsed());
                unroll
            });
        });
        let share = in_kernels.get().as_secs_f64() / whole.get().as_secs_f64();
        if share.is_finite() {
            println!(
                "actor/unroll/{name}: {:.1}% of the time in the kernels",
                100.0 * share
            );
        }
    }
    group.finish();
}

/// Unrolls of agents of one to four segments, which an entropy that every policy is below ends after the first. Some
/// decisions explore: they follow the rule only from a number on that they draw, which is 2.5 on average. So a share of
/// `explore` gives a mean of `1 + 1.5 explore` segments. Each agent is measured beside one that always runs four.
fn halting(criterion: &mut Criterion) {
    let agent = |segments| {
        let mut config = Config::default();
        config.model.segments = segments;
        rollout(&config, Rc::default())
    };
    let ends_at_once = |explore| Segments {
        halt: Some(Halt::Entropy(2.0)),
        explore,
        ..Segments::range(1, 4)
    };
    let frames = Config::default().rollout.frames();
    let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Encode);
    let mut group = criterion.benchmark_group("actor/halting");
    group.throughput(Throughput::Elements(frames as u64));
    for (name, explore) in [
        ("1 segment", 0.0),
        ("1.5 segments", 1.0 / 3.0),
        ("2.5 segments", 1.0),
    ] {
        let (mut halts, mut runs_four) = (agent(ends_at_once(explore)), agent(Segments::new(4)));
        let mut play = |rollout: &mut Rollout<VecEnv, Timed>| {
            let began = Instant::now();
            let unroll = rollout.unroll(0, &mut clock, || false);
            (began.elapsed(), unroll.expect("nobody stops it").segments)
        };
        let (mut of_halting, mut of_four) = (Duration::ZERO, Duration::ZERO);
        let (mut segments, mut decisions) = (0, 0);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let (time, numbers) = play(&mut halts);
                    spent += time;
                    segments += numbers.iter().map(|&n| u64::from(n)).sum::<u64>();
                    decisions += numbers.len();
                    of_four += play(&mut runs_four).0;
                }
                of_halting += spent;
                spent
            });
        });
        let faster = of_four.as_secs_f64() / of_halting.as_secs_f64();
        if faster.is_finite() {
            let mean = segments as f64 / decisions as f64;
            println!(
                "actor/halting: {mean:.2} segments, {faster:.2} times the frames per second of 4"
            );
        }
    }
    group.finish();
}

criterion_group!(benches, actor, halting);
criterion_main!(benches);
