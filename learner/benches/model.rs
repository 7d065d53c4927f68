//! The forward pass of both presets on four rooms' grid, on one core: the native kernels and libtorch side by side, and
//! the ratio of the two.
//!
//! The two alternate, a short round each, and the ratio is the median of the rounds' ratios: other work on the machine
//! slows both alike. The share of the measured peak is the arithmetic of the products over what this core reaches on
//! products alone.

#![allow(clippy::print_stdout, reason = "the measurements are the output")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use hrm_common::{
    env::{Grid, token},
    model::{Dtype, Mixing, ModelConfig, Parameters, native::Lanes},
};
use hrm_kernels::{Instructions, peak};
use hrm_learner::training::model::{Gradient, Hrm};
use tch::{Device, Tensor};

const GRID: Grid = Grid {
    height: 11,
    width: 11,
};

/// Rounds, each of which times both.
const ROUNDS: usize = 9;

/// Time of one side in a round; at least one decision is made.
const ROUND: Duration = Duration::from_millis(300);

/// Observations of random tokens with one agent each, u8 `[batch, S]`.
fn observations(batch: usize) -> Vec<u8> {
    let cells = GRID.len();
    let code = |at: usize| match at % cells == at / cells {
        true => token::AGENT,
        false => (at * 7 % 3) as u8,
    };
    (0..batch * cells).map(code).collect()
}

/// Returns the multiplications and additions of the products of one decision.
fn operations(config: &ModelConfig) -> f64 {
    let (d, inner, positions) = (config.hidden, config.inter(), GRID.len() + 1);
    let swiglu = 3 * d * inner * positions;
    let mixing = match config.mixing {
        Mixing::Conv => 9 * d * d * GRID.len() + d * d,
        Mixing::Attention => 4 * d * d * positions + 2 * positions * positions * d,
    };
    let blocks =
        config.segments * config.h_cycles * (config.h_layers + config.l_cycles * config.l_layers);
    2.0 * (blocks * (swiglu + mixing)) as f64
}

/// Returns decisions per second.
fn rate(batch: usize, mut decide: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut decisions = 0;
    while decisions == 0 || began.elapsed() < ROUND {
        decide();
        decisions += batch;
    }
    decisions as f64 / began.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(name: &str, preset: ModelConfig, dtype: Dtype, batch: usize) {
    let config = ModelConfig { dtype, ..preset };
    let parameters = Parameters::new(&config, GRID, 0).expect("a preset");
    let model = Hrm::from_parameters(parameters.clone(), Device::Cpu);
    let mut lanes = Lanes::new(parameters, batch);
    let codes = observations(batch);
    let tokens = Tensor::from_slice(&codes).view([batch as i64, GRID.len() as i64]);
    let carry = model.initial_carry(batch);
    let mut native = || {
        lanes.decide_all(&codes, |_, _, heads| {
            black_box(heads);
        });
    };
    let mut libtorch = || drop(model.forward(&tokens, &carry, Gradient::None));
    native();
    libtorch();
    let rounds: Vec<[f64; 3]> = (0..ROUNDS)
        .map(|_| {
            [
                rate(batch, &mut native),
                rate(batch, &mut libtorch),
                peak(dtype == Dtype::Bf16),
            ]
        })
        .collect();
    let of = |value: fn(&[f64; 3]) -> f64| median(rounds.iter().map(value).collect());
    let share = operations(&config) * of(|[native, _, peak]| native / peak);
    println!(
        "model/{name}/{} batch {batch:>2}: native {:>8.1} decisions/s, libtorch {:>8.1}; ratio {:.2}; {:.0}% of the \
         measured peak, {:.0} GFLOP/s",
        format!("{dtype:?}").to_lowercase(),
        of(|round| round[0]),
        of(|round| round[1]),
        of(|[native, libtorch, _]| native / libtorch),
        100.0 * share,
        of(|round| round[2]) / 1e9,
    );
}

fn main() {
    // libtorch is faster on a thread than on the main one, and the programs use threads.
    std::thread::scope(|scope| scope.spawn(compare_all).join().expect("no panic"));
}

fn compare_all() {
    // One thread, as each thread of an actor and of the learner has it.
    tch::set_num_threads(1);
    println!("model: kernels {}, one core", Instructions::chosen());
    for dtype in [Dtype::Bf16, Dtype::F32] {
        for batch in [1, 64] {
            compare("small", ModelConfig::small(), dtype, batch);
        }
        compare("paper", ModelConfig::paper(), dtype, 8);
    }
}
