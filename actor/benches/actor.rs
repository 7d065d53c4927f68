//! Frames per second of one actor: whole unrolls of the default configuration, small model, on both mazes, and
//! the share of that time that is spent in the kernels. Elements are frames.

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
    model::{Depth, Parameters, Segments, native::Lanes},
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

criterion_group!(benches, actor);
criterion_main!(benches);
