//! Matrix products on rows.

use tch::{Device, Kind, Tensor};

use super::rows::Rows;

/// `x w^T` for rows `[B * P, inputs]` and a weight `[outputs, inputs]`: rows `[B * P, outputs]`.
///
/// In 32 bits on a CPU this is written as a 1 x 1 convolution. oneDNN runs that with every vector unit the
/// machine has, where the BLAS behind `linear` stays with half of them on some: forward and backward take
/// half the time on a Zen 5.
pub(super) fn linear(rows: &Rows, x: &Tensor, weight: &Tensor) -> Tensor {
    if x.kind() != Kind::Float || x.device() != Device::Cpu {
        return x.linear(weight, None::<Tensor>);
    }
    let (outputs, inputs) = weight.size2().expect("a weight is a matrix");
    // libtorch hands 1 x 1 convolutions to oneDNN from 16 images on, so positions play the images.
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
