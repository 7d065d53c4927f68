//! SwiGLU, the token-wise half of a block.

use tch::Tensor;

use super::config::ModelConfig;
use super::init::Init;
use super::linear::linear;
use super::parameters::{Declaration, Index};
use super::rows::Rows;

/// SwiGLU: `down(silu(gate(x)) * up(x))` (Shazeer 2020), with gate and up in one matrix and without biases.
#[derive(Clone, Debug)]
pub(super) struct SwiGlu {
    gate_up: Index,
    down: Index,
}

impl SwiGlu {
    pub(super) fn declare(
        prefix: &str,
        config: &ModelConfig,
        declaration: &mut Declaration,
    ) -> Self {
        let (d, inter) = (config.hidden, config.inter());
        Self {
            gate_up: declaration.trainable(
                format!("{prefix}.mlp.gate_up"),
                &[2 * inter, d],
                Init::lecun(d),
            ),
            down: declaration.trainable(
                format!("{prefix}.mlp.down"),
                &[d, inter],
                Init::lecun(inter),
            ),
        }
    }

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
