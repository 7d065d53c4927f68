//! The recurrent modules H and L.

use hrm_common::model::{BlockTensors, ModelConfig};
use tch::Tensor;

use super::{block::Block, context::Context};

/// A recurrent module, H or L: an injection followed by a stack of blocks.
#[derive(Debug, Clone)]
pub(super) struct Module {
    blocks: Vec<Block>,
}

impl Module {
    pub(super) fn new(blocks: &[BlockTensors], config: &ModelConfig) -> Self {
        Self {
            blocks: blocks
                .iter()
                .map(|tensors| Block::new(tensors, config))
                .collect(),
        }
    }

    /// Returns the next `z` from `z` and `injection`, all of them rows `[B * P, d]`.
    pub(super) fn forward(&self, context: Context<'_>, z: &Tensor, injection: &Tensor) -> Tensor {
        let blocks = self.blocks.iter();
        blocks.fold(z + injection, |x, block| block.forward(context, &x))
    }
}
