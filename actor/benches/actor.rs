//! Frames per second of one actor: whole unrolls of the default configuration, small model, on both mazes, and
//! the share of that time that is spent in libtorch. Elements are frames.

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
    model::Hrm,
    policy::{Policy, PolicyNetwork, action_rng},
    stage::{ActorStage, StageClock},
    telemetry::names,
    weights::WeightsError,
};
use tch::{Device, Tensor};

/// The model, with the time that its decisions take.
#[derive(Debug)]
struct Timed {
    model: Hrm,
    spent: Rc<Cell<Duration>>,
}

impl PolicyNetwork for Timed {
    fn initial_carry(&self, batch: usize) -> Tensor {
        self.model.initial_carry(batch)
    }

    fn decide(&self, tokens: &Tensor, carry: &Tensor) -> (Tensor, Tensor) {
        let began = Instant::now();
        let decided = PolicyNetwork::decide(&self.model, tokens, carry);
        self.spent.set(self.spent.get() + began.elapsed());
        decided
    }

    fn reset_carry(&self, carry: &Tensor, ended: &Tensor) -> Tensor {
        self.model.reset_carry(carry, ended)
    }

    fn load(&mut self, body: &[u8]) -> Result<(), WeightsError> {
        PolicyNetwork::load(&mut self.model, body)
    }
}

fn rollout(config: &Config, spent: Rc<Cell<Duration>>) -> Rollout<VecEnv, Timed> {
    let model =
        Hrm::new(&config.model, config.env.grid(), 0, Device::Cpu).expect("the small preset");
    let (envs, seed) = (config.rollout.envs, 1);
    let (shape, fingerprint) = (config.spec().unroll_shape(), model.fingerprint());
    Rollout::new(
        VecEnv::new(&config.env, envs, seed).expect("a valid config"),
        Policy::new(Timed { model, spent }, envs),
        action_rng(seed),
        shape,
        config.rollout.carry_dtype,
        1,
        fingerprint,
    )
}

fn actor(criterion: &mut Criterion) {
    // As `hrm-actor` does.
    tch::set_num_threads(1);
    let random_maze = Config {
        env: EnvConfig::random_maze(),
        ..Config::default()
    };
    let mut group = criterion.benchmark_group("actor");
    for (name, config) in [
        ("four-rooms", Config::default()),
        ("random-maze", random_maze),
    ] {
        let (whole, in_libtorch) = (Cell::new(Duration::ZERO), Rc::default());
        let mut rollout = rollout(&config, Rc::clone(&in_libtorch));
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
        let share = in_libtorch.get().as_secs_f64() / whole.get().as_secs_f64();
        if share.is_finite() {
            println!(
                "actor/unroll/{name}: {:.1}% of the time in libtorch",
                100.0 * share
            );
        }
    }
    group.finish();
}

criterion_group!(benches, actor);
criterion_main!(benches);
