//! Frames per second of the learner: one batch of the default configuration (two unrolls of the small model, two passes
//! of minibatches), recomputed and trained on by the native kernels, by these with a cached prefix, and by libtorch
//! side by side, with one thread and with two. A frame counts once whatever the number of passes. On four rooms, the
//! same batch is then trained on in minibatches of several sizes: what a minibatch costs beside its frames.

#![allow(clippy::print_stdout, reason = "the measurements are the output")]

mod support;

use std::{hint::black_box, time::Duration};

use hrm_actor::rollout::Rollout;
use hrm_common::{
    config::{Config, LossConfig, Prefix},
    env::{EnvConfig, MazeKind, VecEnv},
    model::{Dtype, native::Lanes},
    policy::{Policy, action_rng},
    stage::{ActorStage, LearnerStage, StageClock},
    telemetry::names,
    trajectory::RolloutId,
};
use hrm_kernels::Instructions;
use hrm_learner::training::{backend::Backend, batch::Batch, model::Hrm, update::Updater};
use support::{Case, gradient_share, operations};
use tch::Device;

/// Unrolls that are played before those of the batch: enough for episodes to end within it.
const WARM_UP: usize = 8;

fn model(config: &Config) -> Hrm {
    Hrm::new(&config.model, config.env.grid(), 0, Device::Cpu).expect("the small preset")
}

/// The unrolls of as many actors as a batch holds, played on the weights that it is then trained from.
fn batch(config: &Config) -> Batch {
    let unrolls: Vec<_> = (0..config.learner.batch_range().least as u64)
        .map(|seed| {
            let (model, envs) = (model(config), config.rollout.envs);
            let (shape, fingerprint) = (config.spec().unroll_shape(), model.fingerprint());
            let mut rollout = Rollout::new(
                VecEnv::new(&config.env, envs, seed).expect("a valid config"),
                Policy::for_rollouts(Lanes::new(model.to_parameters(), envs)),
                action_rng(seed),
                shape,
                config.rollout.carry_dtype,
                RolloutId {
                    session: seed,
                    thread: 0,
                },
                fingerprint,
            );
            let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Encode);
            let mut play = || rollout.unroll(0, &mut clock, || false);
            (0..WARM_UP).for_each(|_| drop(play()));
            play().expect("nobody stops it")
        })
        .collect();
    Batch::stack(&unrolls, 0, Device::Cpu)
}

fn updater(config: &Config, threads: usize, backend: Backend, prefix: Prefix) -> Updater {
    let loss = LossConfig {
        prefix,
        ..config.loss.clone()
    };
    Updater::new(model(config), loss, config.optimizer.clone(), threads, 0)
        .expect("one or two threads")
        .with_backend(backend)
}

fn update(updater: &mut Updater, batch: &Batch) {
    let mut clock = StageClock::new(names::LEARNER_STAGE_SECONDS, LearnerStage::Wait);
    black_box(updater.update(batch, 0.0, &mut clock));
}

fn compare(name: &str, config: &Config, batch: &Batch, threads: usize) {
    let dtype = format!("{:?}", config.model.dtype).to_lowercase();
    let forward = operations(&config.model, config.env.grid());
    let case = |stage: &str, operations| Case {
        name: format!("learner/{name}/{dtype}, {stage}, threads {threads}"),
        unit: "frames",
        units: batch.frames(),
        operations,
        bf16: config.model.dtype == Dtype::Bf16,
        cores: threads,
        rounds: 7,
        round: Duration::from_millis(500),
    };
    let updaters = [
        (Backend::Native, Prefix::Fresh),
        (Backend::Native, Prefix::Cached),
        (Backend::Libtorch, Prefix::Fresh),
    ];
    let [mut native, mut cached, mut libtorch] =
        updaters.map(|(backend, prefix)| updater(config, threads, backend, prefix));

    let mut natively = || drop(black_box(native.recompute(batch)));
    let mut by_libtorch = || drop(black_box(libtorch.recompute(batch)));
    support::compare(
        &case("recompute", forward),
        &mut [("native", &mut natively), ("libtorch", &mut by_libtorch)],
    );

    let mut natively = || update(&mut native, batch);
    let mut with_cached = || update(&mut cached, batch);
    let mut by_libtorch = || update(&mut libtorch, batch);
    let passes = config.loss.passes as f64 * (1.0 + gradient_share(&config.model));
    support::compare(
        &case("update", forward * (1.0 + passes)),
        &mut [
            ("native", &mut natively),
            ("cached prefix", &mut with_cached),
            ("libtorch", &mut by_libtorch),
        ],
    );
}

/// Trains on the same batch in minibatches of several sizes.
fn minibatches(config: &Config, batch: &Batch, threads: usize) {
    let passes = config.loss.passes;
    let named = [16, 32, 64, 128, 256, 512].map(|frames| {
        let mut config = config.clone();
        config.loss.updates_per_batch = passes * (batch.frames() / frames);
        let updater = updater(&config, threads, Backend::Native, Prefix::Fresh);
        (format!("minibatches of {frames}"), updater)
    });
    let mut runs = named.map(|(name, mut updater)| (name, move || update(&mut updater, batch)));
    let mut cases: Vec<(&str, &mut dyn FnMut())> = runs
        .iter_mut()
        .map(|(name, run)| (name.as_str(), run as &mut dyn FnMut()))
        .collect();
    let dtype = format!("{:?}", config.model.dtype).to_lowercase();
    let forward = operations(&config.model, config.env.grid());
    let per_pass = 1.0 + gradient_share(&config.model);
    let case = Case {
        name: format!("learner/minibatches/{dtype}, update, threads {threads}"),
        unit: "frames",
        units: batch.frames(),
        operations: forward * (1.0 + passes as f64 * per_pass),
        bf16: config.model.dtype == Dtype::Bf16,
        cores: threads,
        rounds: 7,
        round: Duration::from_millis(500),
    };
    support::compare(&case, &mut cases);
}

fn main() {
    // As `hrm-learner` does: its threads are its own.
    tch::set_num_threads(1);
    println!("learner: kernels {}", Instructions::chosen());
    for (name, env) in [
        ("four-rooms", EnvConfig::four_rooms()),
        ("random-maze", EnvConfig::random_maze()),
    ] {
        for dtype in [Dtype::Bf16, Dtype::F32] {
            // Without the instructions, libtorch takes minutes for a batch in bfloat16, and nobody trains so.
            if dtype == Dtype::Bf16 && Instructions::chosen() != Instructions::Avx512Bf16 {
                continue;
            }
            let mut config = Config {
                env: env.clone(),
                ..Config::default()
            };
            config.model.dtype = dtype;
            let batch = batch(&config);
            for threads in [1, 2] {
                compare(name, &config, &batch, threads);
                if env.maze == MazeKind::FourRooms {
                    minibatches(&config, &batch, threads);
                }
            }
        }
    }
}
