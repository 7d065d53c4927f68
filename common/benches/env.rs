//! Environment steps per second on one core: random actions, auto-reset, observations written.

#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hrm_common::env::{ACTIONS, Curriculum, DoorProcess, EnvConfig, VecEnv, env_seed};

/// Ticks of actions, drawn beforehand so that no policy's dice are measured, and used in turn. Far
/// more than an episode lasts, so that no processor learns them by heart.
const TICKS: usize = 1024;

fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("env-step");
    let independent = |base| EnvConfig {
        door_process: DoorProcess::Independent,
        ..base
    };
    let cases = [
        (
            "four-rooms",
            EnvConfig::four_rooms(),
            64,
            Curriculum::default(),
        ),
        (
            "four-rooms",
            EnvConfig::four_rooms(),
            1024,
            Curriculum::default(),
        ),
        (
            "random-maze",
            EnvConfig::random_maze(),
            64,
            Curriculum::default(),
        ),
        (
            "random-maze",
            EnvConfig::random_maze(),
            1024,
            Curriculum::default(),
        ),
        (
            "random-maze-independent",
            independent(EnvConfig::random_maze()),
            64,
            Curriculum::default(),
        ),
        // Short episodes: what resets cost.
        (
            "random-maze-curriculum-3",
            EnvConfig::random_maze(),
            64,
            Curriculum {
                max_distance: 3,
                uniform_share: 0.25,
            },
        ),
    ];
    for (name, config, n, curriculum) in cases {
        let actions: Vec<u8> = (0..TICKS * n)
            .map(|i| (env_seed(1, i as u64) % ACTIONS as u64) as u8)
            .collect();
        let mut ticks = actions.chunks_exact(n).cycle();
        let mut env = VecEnv::new(&config, n, 2).expect("a valid config");
        env.set_curriculum(curriculum);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(BenchmarkId::new(name, n), |bencher| {
            bencher.iter(|| {
                if let Some(actions) = ticks.next() {
                    env.step(actions);
                }
                black_box((
                    env.observations(),
                    env.rewards(),
                    env.flags(),
                    env.finished(),
                ));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
