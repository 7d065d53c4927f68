//! H and L.

use tch::Tensor;

use super::block::Block;
use super::config::ModelConfig;
use super::parameters::Declaration;
use super::places::Places;
use super::rows::Rows;

/// One of the two recurrent modules: a stack of blocks behind an injection.
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

    /// The next `z` from `z` and what is injected, all rows `[B * P, d]`.
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
