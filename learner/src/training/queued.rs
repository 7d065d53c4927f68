//! Numbers that a device may still be computing.

use tch::{Device, Kind, Tensor};

/// A tensor whose numbers the device may not have computed yet.
///
/// The operations of a GPU wait in a queue, and reading a number waits for all of them. The passes over a batch compute
/// with this type, which has no method that reads. [`host::read`](super::host::read) reads what they keep, once a
/// batch.
#[derive(Debug)]
pub(crate) struct Queued(Tensor);

impl Queued {
    /// Takes a tensor over.
    pub(crate) fn new(tensor: Tensor) -> Self {
        Self(tensor)
    }

    /// Returns the same storage under another handle: operations in place change both.
    pub(crate) fn share(tensor: &Tensor) -> Self {
        Self(tensor.shallow_clone())
    }

    /// Returns an f64 number on a device.
    pub(crate) fn number(value: f64, device: Device) -> Self {
        Self(Tensor::full([0; 0], value, (Kind::Double, device)))
    }

    /// Returns the tensors as f64, flattened one after the other.
    pub(crate) fn cat<'a>(tensors: impl IntoIterator<Item = &'a Self>) -> Self {
        let tensors = tensors.into_iter();
        let flat = tensors.map(|t| t.0.to_kind(Kind::Double).view(-1));
        Self(Tensor::cat(&flat.collect::<Vec<_>>(), 0))
    }

    /// Returns the sum of tensors of one shape and kind, added in order.
    pub(crate) fn sum(tensors: &[&Self]) -> Self {
        let tensors: Vec<&Tensor> = tensors.iter().map(|t| &t.0).collect();
        let kind = tensors.first().map_or(Kind::Float, |tensor| tensor.kind());
        Self(Tensor::stack(&tensors, 0).sum_dim_intlist(0, false, kind))
    }

    /// Returns the row of a matrix with a number as its index, as the numbers in it.
    pub(crate) fn row<const N: usize>(&self, index: &Self) -> [Self; N] {
        let row = self.0.index_select(0, &index.0.view(1)).select(0, 0);
        std::array::from_fn(|column| Self(row.select(0, column as i64)))
    }

    /// Returns the number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.0.numel()
    }

    /// Returns the Euclidean norm, f64.
    pub(crate) fn norm(&self) -> Self {
        Self(self.0.norm().to_kind(Kind::Double))
    }

    /// Returns the sum of the squares, f64.
    pub(crate) fn squared_norm(&self) -> Self {
        Self(self.0.square().sum(Kind::Double))
    }

    /// Returns whether a number is finite, bool.
    pub(crate) fn is_finite(&self) -> Self {
        Self(self.0.isfinite())
    }

    /// Returns `self` where a bool is true, and `other` where it is false.
    pub(crate) fn if_true(&self, condition: &Self, other: &Self) -> Self {
        Self(self.0.where_self(&condition.0, &other.0))
    }

    /// Returns this tensor if a bool is true, and zeros, even in place of NaN, if it is false.
    pub(crate) fn or_zeros(&self, condition: &Self) -> Self {
        Self(self.0.masked_fill(&condition.0.logical_not(), 0.0))
    }

    /// Returns the smaller of each element and a constant.
    pub(crate) fn at_most(&self, most: f64) -> Self {
        Self(self.0.clamp_max(most))
    }

    /// Returns the product with a tensor that broadcasts.
    pub(crate) fn times(&self, other: &Self) -> Self {
        Self(&self.0 * &other.0)
    }

    /// Returns the product with a constant.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self(&self.0 * factor)
    }

    /// Returns the quotient by a tensor that broadcasts.
    pub(crate) fn over(&self, divisor: &Self) -> Self {
        Self(&self.0 / &divisor.0)
    }

    /// Returns the square root plus a constant.
    pub(crate) fn sqrt_plus(&self, constant: f64) -> Self {
        Self(self.0.sqrt() + constant)
    }

    /// Multiplies in place by a tensor that broadcasts.
    pub(crate) fn multiply(&mut self, factor: &Self) {
        let _ = self.0.g_mul_(&factor.0);
    }

    /// Adds in place.
    pub(crate) fn add(&mut self, other: &Self) {
        let _ = self.0.g_add_(&other.0.to_kind(self.0.kind()));
    }

    /// Subtracts in place.
    pub(crate) fn subtract(&mut self, other: &Self) {
        let _ = self.0.g_sub_(&other.0);
    }

    /// Gives the tensor to [`host::read`](super::host::read).
    pub(super) fn into_read(self) -> Tensor {
        self.0
    }
}
