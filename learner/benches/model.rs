//! The forward pass of both presets and the one-step gradient of `small`, on four rooms' grid and one core: the native
//! kernels and libtorch side by side.

#![allow(clippy::print_stdout, reason = "the measurements are the output")]

mod support;

use std::{hint::black_box, time::Duration};

use hrm_common::{
    env::{Grid, tile},
    model::{
        Dtype, ModelConfig, Parameters,
        native::{HeadGradients, Lanes, OneStepGradient},
    },
    policy::RecurrentNetwork as _,
};
use hrm_kernels::Instructions;
use hrm_learner::training::model::{Gradient, Hrm};
use support::{Case, gradient_share, operations};
use tch::{Device, Kind, Tensor};

const GRID: Grid = Grid {
    height: 11,
    width: 11,
};

/// A model in both forms, and the input of a batch.
struct Both {
    config: ModelConfig,
    parameters: Parameters,
    model: Hrm,
    /// u8 `[batch, S]`.
    codes: Vec<u8>,
    tokens: Tensor,
    carry: Tensor,
}

impl Both {
    fn new(preset: ModelConfig, dtype: Dtype, batch: usize) -> Self {
        let config = ModelConfig { dtype, ..preset };
        let parameters = Parameters::new(&config, GRID, 0).expect("a preset");
        let model = Hrm::from_parameters(parameters.clone(), Device::Cpu);
        let codes = observations(batch);
        Self {
            tokens: Tensor::from_slice(&codes).view([batch as i64, GRID.len() as i64]),
            carry: model.initial_carry(batch),
            config,
            parameters,
            model,
            codes,
        }
    }

    fn case(&self, name: String, batch: usize) -> Case {
        Case {
            name: format!(
                "model/{name}/{} batch {batch:>2}",
                format!("{:?}", self.config.dtype).to_lowercase()
            ),
            unit: "decisions",
            units: batch,
            operations: operations(&self.config, GRID),
            bf16: self.config.dtype == Dtype::Bf16,
            cores: 1,
            rounds: 9,
            round: Duration::from_millis(300),
        }
    }
}

/// Observations of random tokens with one agent each, u8 `[batch, S]`.
fn observations(batch: usize) -> Vec<u8> {
    let cells = GRID.len();
    let code = |at: usize| match at % cells == at / cells {
        true => tile::AGENT,
        false => (at * 7 % 3) as u8,
    };
    (0..batch * cells).map(code).collect()
}

fn compare_forward(name: &str, preset: ModelConfig, dtype: Dtype, batch: usize) {
    let both = Both::new(preset, dtype, batch);
    let mut lanes = Lanes::new(both.parameters.clone(), batch);
    let segments = lanes.segments().deepest(batch);
    let mut native = || {
        lanes.decide_all(&both.codes, &segments, |_, _, heads| {
            black_box(heads);
        });
    };
    let mut libtorch = || {
        drop(
            both.model
                .forward(&both.tokens, &both.carry, Gradient::None),
        );
    };
    support::compare(
        &both.case(name.to_owned(), batch),
        &mut [("native", &mut native), ("libtorch", &mut libtorch)],
    );
}

/// Compares the forward pass together with the one-step gradient, from weights that are packed for each batch as they
/// are for each minibatch of the learner.
fn compare_gradients(name: &str, preset: ModelConfig, dtype: Dtype, batch: usize) {
    const LOSS: HeadGradients = HeadGradients {
        logits: [0.1, -0.2, 0.3, -0.2],
        value: 0.1,
        halt: [0.0; 2],
    };
    let both = Both::new(preset, dtype, batch);
    let carries = Lanes::new(both.parameters.clone(), 1).carry(0);
    let segments = both.parameters.config().segments.most;
    let mut native = || {
        let mut gradient = OneStepGradient::new(&both.parameters);
        for codes in both.codes.chunks_exact(GRID.len()) {
            let carry = carries.split_at(carries.len() / 2).into();
            gradient.add(codes, segments, carry, |_, _| Some(LOSS));
        }
        black_box(gradient.finish());
    };
    let mut libtorch = || {
        let decision = both
            .model
            .forward(&both.tokens, &both.carry, Gradient::OneStep);
        let heads = decision.segments.last().expect("a segment");
        let logits = &heads.logits * Tensor::from_slice(&LOSS.logits);
        let loss = logits.sum(Kind::Float) + heads.value.sum(Kind::Float) * f64::from(LOSS.value);
        drop(both.model.gradient(&loss));
    };
    let case = both.case(name.to_owned(), batch);
    support::compare(
        &Case {
            name: format!("{}, gradient", case.name),
            operations: case.operations * (1.0 + gradient_share(&both.config)),
            ..case
        },
        &mut [("native", &mut native), ("libtorch", &mut libtorch)],
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
            compare_forward("small", ModelConfig::small(), dtype, batch);
        }
        compare_gradients("small", ModelConfig::small(), dtype, 64);
        compare_forward("paper", ModelConfig::paper(), dtype, 8);
    }
}
