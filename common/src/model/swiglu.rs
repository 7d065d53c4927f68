//! The token-wise half of a block.

use tch::Tensor;

use super::config::ModelConfig;
use super::init::Init;
use super::parameters::{Declaration, Index};

/// `down(silu(gate(x)) * up(x))` (Shazeer 2020), gate and up fused into one matrix, no biases.
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

    /// Rows `[n, d]` to rows of the same shape.
    pub(super) fn forward(&self, weights: &[Tensor], x: &Tensor) -> Tensor {
        let gate_up = x
            .linear(self.gate_up.of(weights), None::<Tensor>)
            .chunk(2, -1);
        (gate_up[0].silu() * &gate_up[1]).linear(self.down.of(weights), None::<Tensor>)
    }
}
