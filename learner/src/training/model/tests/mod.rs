//! Tests of the model beyond the published arithmetic, which `learner/tests/training/golden.rs` checks.

mod carry;
mod decision;
mod gradients;
mod literal;
mod native;
mod native_gradient;
mod shapes;
mod sharing;

use hrm_common::{
    env::{Grid, tile},
    model::{CarryMode, Dtype, Mixing, ModelConfig, Readout, Segments},
};
use tch::{Device, Kind, Tensor, no_grad};

use super::*;

const GRID: Grid = Grid {
    height: 3,
    width: 4,
};
const CELLS: i64 = 12;
const BATCH: i64 = 3;
/// The cells of the agents in [`tokens`].
const AGENTS: [i64; 3] = [0, 5, 11];

fn small() -> ModelConfig {
    ModelConfig {
        hidden: 8,
        ..ModelConfig::small()
    }
}

/// The published form with smaller sizes, in 32 bits.
fn paper() -> ModelConfig {
    ModelConfig {
        hidden: 8,
        h_layers: 1,
        l_layers: 2,
        segments: Segments::new(3),
        inter_multiple: 8,
        dtype: Dtype::F32,
        ..ModelConfig::paper()
    }
}

fn model(config: &ModelConfig) -> Hrm {
    Hrm::new(config, GRID, 7, Device::Cpu).expect("a valid configuration")
}

/// Returns three observations with random tokens and one agent each.
fn tokens() -> Tensor {
    let others = [
        tile::FLOOR,
        tile::WALL,
        tile::CLOSED_DOOR,
        tile::GOAL,
        tile::UNKNOWN,
    ];
    let mut codes: Vec<u8> = (0..36).map(|at| others[at * 7 % 5]).collect();
    for (sequence, cell) in AGENTS.iter().enumerate() {
        codes[sequence * CELLS as usize + *cell as usize] = tile::AGENT;
    }
    Tensor::from_slice(&codes).view([BATCH, CELLS])
}

/// Returns a carry that differs from the initial one, the same in every call.
fn some_carry(model: &Hrm) -> Tensor {
    let shape = model.carry_shape(BATCH as usize);
    let count: i64 = shape.iter().product();
    (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.7)
        .sin()
        .view(shape.as_slice())
        .to_kind(model.kind())
}

/// Returns a scalar that depends on all heads of these segments.
fn loss(segments: &[Heads]) -> Tensor {
    segments
        .iter()
        .map(|heads| heads.logits.square().sum(Kind::Float) + heads.value.cos().sum(Kind::Float))
        .sum()
}

fn gradients(model: &Hrm, loss: Tensor) -> Vec<Tensor> {
    Tensor::run_backward(&[loss], model.parameters(), false, false)
}

fn max_error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Float) - b.to_kind(Kind::Float))
        .abs()
        .max()
        .double_value(&[])
}

fn assert_close(what: &str, a: &Tensor, b: &Tensor) {
    let error = max_error(a, b);
    assert!(error < 1e-5, "{what}: {error:e}");
}

fn assert_same_gradients(model: &Hrm, a: &[Tensor], b: &[Tensor]) {
    for ((name, _), (a, b)) in model.named_tensors().iter().zip(a.iter().zip(b)) {
        let size = a.abs().max().double_value(&[]).max(1e-3);
        assert!(max_error(a, b) < 1e-4 * size, "{name}");
    }
}

fn assert_same_decision(a: &Decision, b: &Decision) {
    assert_eq!(a.segments.len(), b.segments.len());
    for (a, b) in a.segments.iter().zip(&b.segments) {
        assert_close("logits", &a.logits, &b.logits);
        assert_close("value", &a.value, &b.value);
    }
}
