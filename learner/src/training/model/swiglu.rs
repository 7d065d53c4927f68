//! SwiGLU, the token-wise half of a block.

use hrm_common::model::TensorIndex;
use tch::Tensor;

use super::{linear::linear, rows::Rows};

/// SwiGLU: `down(silu(gate(x)) * up(x))` (Shazeer 2020), with gate and up in one matrix and without biases.
#[derive(Debug, Clone)]
pub(super) struct SwiGlu {
    pub(super) gate_up: TensorIndex,
    pub(super) down: TensorIndex,
}

impl SwiGlu {
    /// Maps rows `[B * P, d]` to rows of the same shape.
    pub(super) fn forward(&self, weights: &[Tensor], rows: &Rows, x: &Tensor) -> Tensor {
        let gate_up = linear(rows, x, self.gate_up.of(weights)).chunk(2, -1);
        linear(
            rows,
            &(gate_up[0].silu() * &gate_up[1]),
            self.down.of(weights),
        )
    }
}
