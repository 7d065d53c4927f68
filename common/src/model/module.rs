//! The recurrent modules H and L.

use tch::Tensor;

use super::block::Block;
use super::config::ModelConfig;
use super::parameters::Declaration;
use super::places::Places;
use super::rows::Rows;

/// A recurrent module, H or L: an injection followed by a stack of blocks.
#[derive(Clone, Debug)]
pub(super) struct Module {
    blocks: Vec<Block>,
}

impl Module {
    pub(super) fn declare(
        name: &str,
        layers: usize,
        config: &ModelConfig,
        declaration: &mut Declaration,
    ) -> Self {
        let blocks = (0..layers)
            .map(|layer| Block::declare(&format!("{name}.{layer}"), config, declaration))
            .collect();
        Self { blocks }
    }

    /// Returns the next `z` from `z` and `injection`, all of them rows `[B * P, d]`.
    pub(super) fn forward(
        &self,
        weights: &[Tensor],
        rows: &Rows,
        places: &Places,
        z: &Tensor,
        injection: &Tensor,
    ) -> Tensor {
        self.blocks.iter().fold(z + injection, |x, block| {
            block.forward(weights, rows, places, &x)
        })
    }
}
