//! Token mixing by convolution: what learns on a CPU.

use tch::{Kind, Tensor};

use super::config::ModelConfig;
use super::init::Init;
use super::parameters::{Declaration, Index};
use super::rows::Rows;

/// A 3 x 3 convolution over the grid, zero padding, no bias. The prefix token gets the mean of its result.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    kernel: Index,
}

impl Conv {
    pub(super) fn declare(
        prefix: &str,
        config: &ModelConfig,
        declaration: &mut Declaration,
    ) -> Self {
        let d = config.hidden;
        let kernel = declaration.trainable(
            format!("{prefix}.conv.kernel"),
            &[d, d, 3, 3],
            Init::lecun(9 * d),
        );
        Self { kernel }
    }

    /// Rows `[B * P, d]`, grids then prefixes, to rows of the same shape.
    pub(super) fn forward(&self, weights: &[Tensor], rows: &Rows, x: &Tensor) -> Tensor {
        let d = x.size()[1];
        let mixed = rows
            .grids(x)
            .view([rows.batch, rows.height, rows.width, d])
            .permute([0, 3, 1, 2])
            .conv2d(self.kernel.of(weights), None::<Tensor>, 1, 1, 1, 1)
            .permute([0, 2, 3, 1])
            .reshape([rows.batch, rows.cells(), d]);
        let mean = mixed.mean_dim(1, false, Kind::Float).to_kind(x.kind());
        rows.join(&mixed, &mean)
    }
}
