//! Token mixing by convolution, which learns fastest on a CPU.

use hrm_common::model::TensorIndex;
use tch::{Kind, Tensor};

use super::rows::Rows;

/// A GPU may not multiply float32 numbers with a mantissa of 10 bits. libtorch allows it by default for convolutions,
/// but not for matrix products. V-trace compares these outputs with the actors', which CPUs computed.
const ALLOW_TF32: bool = false;

/// A 3 x 3 convolution over the grid with zero padding and without a bias. Every cell also gets the same linear map of
/// the prefix token. The prefix token gets the mean of the result. It passes information between cells that are many
/// convolutions apart.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    pub(super) kernel: TensorIndex,
    pub(super) prefix: TensorIndex,
}

impl Conv {
    /// Maps rows `[B * P, d]`, grids then prefixes, to rows of the same shape.
    pub(super) fn forward(&self, weights: &[Tensor], rows: &Rows, x: &Tensor) -> Tensor {
        let d = x.size()[1];
        let everywhere = rows
            .prefixes(x)
            .linear(self.prefix.of(weights), None::<Tensor>);
        let near = rows
            .grids(x)
            .view([rows.batch, rows.height, rows.width, d])
            .permute([0, 3, 1, 2])
            .internal_convolution(
                self.kernel.of(weights),
                None::<&Tensor>,
                [1, 1],
                [1, 1],
                [1, 1],
                false,
                [0, 0],
                1,
                false,
                false,
                true,
                ALLOW_TF32,
            )
            .permute([0, 2, 3, 1])
            .reshape([rows.batch, rows.cells(), d]);
        let mixed = near + everywhere.unsqueeze(1);
        let mean = mixed.mean_dim(1, false, Kind::Float).to_kind(x.kind());
        rows.join(&mixed, &mean)
    }
}
