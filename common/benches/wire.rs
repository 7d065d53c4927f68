//! An unroll through the wire contract: domain type to protobuf bytes, and protobuf bytes to a checked unroll.
//! The default configuration on both mazes, random actions; elements are frames.

#![allow(clippy::print_stdout, reason = "the measurements are the output")]

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hrm_common::{
    config::Config,
    env::{ACTIONS, EnvConfig, VecEnv, env_seed, flag},
    model::{Dtype, Parameters},
    trajectory::{Unroll, UnrollShape, float_bytes},
    wire::{self, Expectation},
};
use hrm_proto::v1::UnrollBatch;
use prost::Message as _;

/// Ticks that are played before the unroll: enough for episodes to end within it.
const WARM_UP: usize = 200;

/// Returns the unroll that the learner of this configuration expects.
fn expectation(config: &Config, carry_dtype: Dtype) -> Expectation {
    let model = Parameters::new(&config.model, config.env.grid(), 0).expect("the small preset");
    Expectation {
        segments: config.model.segments,
        shape: UnrollShape {
            ticks: config.rollout.unroll_length,
            envs: config.rollout.envs,
            tokens: config.env.grid().len(),
            carry: config.model.carry_elements(config.env.grid().len()),
        },
        carry_dtype,
        model_fingerprint: model.fingerprint(),
        max_steps: config.env.max_steps,
    }
}

/// A sound unroll: mazes walked at random, with logits and a carry of that size.
fn unroll(env: &EnvConfig, expected: &Expectation) -> Unroll {
    let UnrollShape {
        ticks, envs, carry, ..
    } = expected.shape;
    let mut mazes = VecEnv::new(env, envs, 1).expect("a valid config");
    let (mut tokens, mut actions, mut flags) = (vec![], vec![], vec![]);
    let (mut rewards, mut final_tokens, mut episodes) = (vec![], BytesMut::new(), vec![]);
    for tick in 0..WARM_UP + ticks {
        let drawn: Vec<u8> = (0..envs)
            .map(|i| (env_seed(2, (tick * envs + i) as u64) % ACTIONS as u64) as u8)
            .collect();
        if tick >= WARM_UP {
            tokens.extend_from_slice(mazes.observations());
        }
        mazes.step(&drawn);
        if tick < WARM_UP {
            continue;
        }
        actions.extend(drawn);
        flags.extend_from_slice(mazes.flags());
        rewards.extend_from_slice(mazes.rewards());
        for (finished, (_, observation)) in mazes.finished().iter().zip(mazes.final_observations())
        {
            if !finished.summary.success {
                final_tokens.extend_from_slice(observation);
            }
            episodes.push(finished.summary);
        }
    }
    tokens.extend_from_slice(mazes.observations());
    assert!(
        flags.contains(&flag::TRUNCATED),
        "an unroll with every kind of field"
    );
    let wave = |elements: usize| (0..elements).map(|i| (i as f32).sin());
    Unroll {
        session: 1,
        thread: 0,
        model_fingerprint: expected.model_fingerprint,
        sequence: 0,
        shape: expected.shape.clone(),
        tokens: tokens.into(),
        segments: expected.segments.deepest(ticks * envs).into(),
        halt_log_probs: Bytes::new(),
        actions: actions.into(),
        rewards: float_bytes(rewards),
        flags: flags.into(),
        behaviour_logits: float_bytes(wave(ticks * envs * ACTIONS)),
        carry_dtype: expected.carry_dtype,
        carry: match expected.carry_dtype {
            Dtype::F32 => float_bytes(wave(envs * carry)),
            Dtype::Bf16 => wave(envs * carry)
                .flat_map(|x| half::bf16::from_f32(x).to_le_bytes())
                .collect(),
        },
        policy_versions: vec![1; ticks],
        final_tokens: final_tokens.freeze(),
        episodes,
        running_distances: mazes.curriculum_distances().collect(),
    }
}

fn wire(criterion: &mut Criterion) {
    let random_maze = Config {
        env: EnvConfig::random_maze(),
        ..Config::default()
    };
    let cases = [
        ("four-rooms/f32", Config::default(), Dtype::F32),
        ("four-rooms/bf16", Config::default(), Dtype::Bf16),
        ("random-maze/f32", random_maze, Dtype::F32),
    ];
    for (name, config, carry_dtype) in cases {
        let expected = expectation(&config, carry_dtype);
        let unroll = unroll(&config.env, &expected);
        let bytes = Bytes::from(wire::encode(&unroll).encode_to_vec());
        let frames = expected.shape.frames();
        println!(
            "wire/{name}: {} bytes per unroll of {frames} frames, {:.0} per frame",
            bytes.len(),
            bytes.len() as f64 / frames as f64
        );
        let mut group = criterion.benchmark_group("wire");
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| wire::encode(&unroll).encode_to_vec());
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| {
                let message = UnrollBatch::decode(bytes.clone()).expect("what was encoded");
                wire::decode(message, &expected, 1).expect("a sound unroll")
            });
        });
        group.finish();
    }
}

criterion_group!(benches, wire);
criterion_main!(benches);
