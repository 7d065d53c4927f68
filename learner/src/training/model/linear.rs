//! Matrix products on rows.

use tch::{Device, Kind, Tensor};

use super::rows::Rows;

/// Returns `x w^T`, rows `[B * P, outputs]`, for rows `[B * P, inputs]` and a weight `[outputs, inputs]`.
///
/// In 32 bits on a CPU it is computed as a 1 x 1 convolution, for which oneDNN uses all vector units of the machine.
/// The BLAS behind `linear` uses half of them on some machines. On a Zen 5, forward and backward take half the
/// time.
pub(super) fn linear(rows: &Rows, x: &Tensor, weight: &Tensor) -> Tensor {
    if x.kind() != Kind::Float || x.device() != Device::Cpu {
        return x.linear(weight, None::<Tensor>);
    }
    let (outputs, inputs) = weight.size2().expect("a weight is a matrix");
    // libtorch uses oneDNN for 1 x 1 convolutions of 16 images or more, so positions take the place of images.
    x.view([rows.positions(), rows.batch, 1, inputs])
        .permute([0, 3, 1, 2])
        .conv2d(
            &weight.view([outputs, inputs, 1, 1]),
            None::<Tensor>,
            1,
            0,
            1,
            1,
        )
        .permute([0, 2, 3, 1])
        .reshape([-1, outputs])
}
