//! The small preset on four rooms' grid, one intra-op thread: what a thread of an actor (forward) and of
//! the learner (forward and backward through the one-step gradient) gets through. Elements are frames.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hrm_common::{
    env::{Grid, VOCABULARY, token},
    model::{Dtype, ModelConfig},
};
use hrm_learner::training::model::{Gradient, Hrm};
use tch::{Device, Kind, Tensor};

const GRID: Grid = Grid {
    height: 11,
    width: 11,
};

/// Observations of random tokens with one agent each, u8 `[batch, S]`.
fn observations(batch: usize) -> Tensor {
    let cells = GRID.len();
    let codes: Vec<u8> = (0..batch * cells)
        .map(|at| {
            if at % cells == at / cells {
                token::AGENT
            } else {
                (at * 7 % 3) as u8
            }
        })
        .collect();
    debug_assert!(codes.iter().all(|&code| usize::from(code) < VOCABULARY));
    Tensor::from_slice(&codes).view([batch as i64, cells as i64])
}

fn model(c: &mut Criterion) {
    tch::set_num_threads(1);
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let config = ModelConfig {
            dtype,
            ..ModelConfig::small()
        };
        let model = Hrm::new(&config, GRID, 0, Device::Cpu).expect("the preset");
        let mut group = c.benchmark_group(format!("model/small/{dtype:?}").to_lowercase());
        group.sample_size(10);
        for batch in [32, 64, 128] {
            let (tokens, carry) = (observations(batch), model.initial_carry(batch));
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(BenchmarkId::new("forward", batch), |b| {
                b.iter(|| model.forward(&tokens, &carry, Gradient::None));
            });
            group.bench_function(BenchmarkId::new("forward+backward", batch), |b| {
                b.iter(|| {
                    let decision = model.forward(&tokens, &carry, Gradient::OneStep);
                    let heads = &decision.segments[0];
                    let loss = heads.logits.square().sum(Kind::Float)
                        + heads.value.square().sum(Kind::Float);
                    Tensor::run_backward(&[loss], model.parameters(), false, false)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, model);
criterion_main!(benches);
