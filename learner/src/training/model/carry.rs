//! The carry, which one decision passes to the next, in its four forms.
//!
//! | mode | shape | content |
//! |---|---|---|
//! | full | `[2, B, P, d]` | `zH` and `zL` of every token |
//! | last | `[2, B, d]` | `zH` and `zL` of the last token, broadcast over all positions |
//! | output | `[2, B, P, d]` | as full, but `zL` is not read: its initial vector is broadcast |
//! | reset | `[2, B, 0]` | nothing; the initial vectors are broadcast |
//!
//! Index 0 of the first dimension is `zH`, 1 is `zL`. The kind is that of the activations.

use hrm_common::{model::CarryMode, policy::stacked};
use tch::Tensor;

use super::rows::Rows;
use crate::training::host::host;

/// The tensors of each mode.
pub(super) trait CarryTensors {
    /// Returns the shape of the carry of `batch` environments, for sequences of `positions` vectors of width `d`.
    fn shape(self, batch: i64, positions: i64, d: i64) -> Vec<i64>;

    /// Returns the initial vectors `[2, d]` in a shape that broadcasts to the carry's.
    fn broadcastable(self, initial: &Tensor) -> Tensor;

    /// Returns the rows `[B * P, d]` of `zH` and `zL` at the start of a decision.
    fn open(self, rows: &Rows, carry: &Tensor, initial: &Tensor) -> [Tensor; 2];

    /// Returns the carry at the end of a decision, from the rows `[B * P, d]` of `zH` and `zL`.
    fn close(self, rows: &Rows, z: [&Tensor; 2]) -> Tensor;
}

impl CarryTensors for CarryMode {
    fn shape(self, batch: i64, positions: i64, d: i64) -> Vec<i64> {
        match self {
            Self::Full | Self::Output => vec![2, batch, positions, d],
            Self::Last => vec![2, batch, d],
            Self::Reset => vec![2, batch, 0],
        }
    }

    fn broadcastable(self, initial: &Tensor) -> Tensor {
        match self {
            Self::Full | Self::Output => initial.unsqueeze(1).unsqueeze(1),
            Self::Last => initial.unsqueeze(1),
            Self::Reset => initial.unsqueeze(1).narrow(2, 0, 0),
        }
    }

    fn open(self, rows: &Rows, carry: &Tensor, initial: &Tensor) -> [Tensor; 2] {
        let (batch, cells, d) = (rows.batch, rows.cells(), initial.size()[1]);
        const Z_H: i64 = 0;
        [0, 1].map(|which| match self {
            Self::Full => rows.pack(&carry.get(which)),
            Self::Output if which == Z_H => rows.pack(&carry.get(which)),
            Self::Last => {
                let vectors = carry.get(which);
                rows.join(
                    &vectors.unsqueeze(1).expand([batch, cells, d], false),
                    &vectors,
                )
            }
            Self::Output | Self::Reset => initial
                .get(which)
                .unsqueeze(0)
                .expand([batch * rows.positions(), d], false),
        })
    }

    fn close(self, rows: &Rows, z: [&Tensor; 2]) -> Tensor {
        match self {
            Self::Full | Self::Output => Tensor::stack(&z.map(|z| rows.unpack(z)), 0),
            Self::Last => Tensor::stack(&z.map(|z| rows.last(z)), 0),
            Self::Reset => Tensor::empty([2, rows.batch, 0], (z[0].kind(), z[0].device())),
        }
    }
}

/// Returns the carry of each environment, `zH` before `zL`, from a carry `[2, B, ...]`.
pub(crate) fn carries_of(carry: &Tensor) -> Vec<Vec<f32>> {
    let envs = carry.size()[1];
    (0..envs).map(|env| host(&carry.select(1, env))).collect()
}

/// Returns a carry of this shape, f32 `[2, B, ...]`, from the carry of each environment.
pub(crate) fn carry_tensor(carries: &[Vec<f32>], shape: &[i64]) -> Tensor {
    let numbers = stacked(carries).collect::<Vec<_>>().concat();
    Tensor::from_slice(&numbers).view(shape)
}
