//! Frames per second of the learner: one batch of the default configuration (two unrolls of the small model,
//! two passes of minibatches), recomputed by either backend, traced and trained on, by one thread and by two.
//! Elements are frames of the batch, each counted once whatever the number of passes.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hrm_actor::rollout::Rollout;
use hrm_common::{
    config::Config,
    env::{EnvConfig, VecEnv},
    model::native::Lanes,
    policy::{Policy, action_rng},
    stage::{ActorStage, LearnerStage, StageClock},
    telemetry::names,
};
use hrm_learner::training::{backend::Backend, batch::Batch, model::Hrm, update::Updater};
use tch::Device;

/// Unrolls that are played before those of the batch: enough for episodes to end within it.
const WARM_UP: usize = 8;

fn model(config: &Config) -> Hrm {
    Hrm::new(&config.model, config.env.grid(), 0, Device::Cpu).expect("the small preset")
}

/// The unrolls of as many actors as a batch holds, played on the weights that it is then trained from.
fn batch(config: &Config) -> Batch {
    let unrolls: Vec<_> = (0..config.learner.batch_unrolls as u64)
        .map(|seed| {
            let (model, envs) = (model(config), config.rollout.envs);
            let (shape, fingerprint) = (config.spec().unroll_shape(), model.fingerprint());
            let mut rollout = Rollout::new(
                VecEnv::new(&config.env, envs, seed).expect("a valid config"),
                Policy::new(Lanes::new(model.to_parameters(), envs)),
                action_rng(seed),
                shape,
                config.rollout.carry_dtype,
                seed,
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

fn learner(criterion: &mut Criterion) {
    // As `hrm-learner` does: its threads are its own.
    tch::set_num_threads(1);
    let random_maze = Config {
        env: EnvConfig::random_maze(),
        ..Config::default()
    };
    let mut group = criterion.benchmark_group("learner");
    group.sample_size(10);
    for (name, config) in [
        ("four-rooms", Config::default()),
        ("random-maze", random_maze),
    ] {
        let batch = batch(&config);
        group.throughput(Throughput::Elements(batch.frames() as u64));
        let backends = [Backend::Native, Backend::Libtorch];
        for (threads, backend) in [1, 2].into_iter().flat_map(|n| backends.map(|b| (n, b))) {
            let updater = Updater::new(
                model(&config),
                config.loss.clone(),
                config.optimizer.clone(),
                threads,
                0,
            );
            let mut updater = updater.expect("one or two threads").with_backend(backend);
            let mut clock = StageClock::new(names::LEARNER_STAGE_SECONDS, LearnerStage::Wait);
            let case = format!("{name}/{threads}-threads/{backend}");
            group.bench_function(BenchmarkId::new("recompute", &case), |bencher| {
                bencher.iter(|| updater.recompute(&batch));
            });
            group.bench_function(BenchmarkId::new("update", case), |bencher| {
                bencher.iter(|| updater.update(&batch, 0.0, &mut clock));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, learner);
criterion_main!(benches);
