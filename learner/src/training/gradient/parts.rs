//! The parts of a minibatch's gradient that shards compute, and their sum.

use tch::{Kind, Tensor};

/// The gradient of a minibatch, or one shard's part of it.
pub(crate) struct Gradients {
    /// f32 `[n]`, in the order of the flat parameters.
    pub(crate) flat: Tensor,
    pub(crate) policy: f64,
    pub(crate) value: f64,
    pub(crate) entropy: f64,
}

impl Gradients {
    /// Sums the parts in order, so that the result is reproducible.
    pub(super) fn sum(parts: &[Self]) -> Self {
        let flat: Vec<_> = parts.iter().map(|part| part.flat.shallow_clone()).collect();
        let sum = |field: fn(&Self) -> f64| parts.iter().map(field).sum::<f64>();
        Self {
            flat: Tensor::stack(&flat, 0).sum_dim_intlist(0, false, Kind::Float),
            policy: sum(|part| part.policy),
            value: sum(|part| part.value),
            entropy: sum(|part| part.entropy),
        }
    }
}
