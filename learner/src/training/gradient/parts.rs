//! The parts of a minibatch's gradient that shards compute, and their sum.

use tch::{Kind, Tensor};

use crate::training::noise_scale::SquaredNorms;

/// The gradient of a minibatch, or one shard's part of it.
pub(crate) struct Gradients {
    /// Frames of this part.
    pub(crate) frames: usize,
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
            frames: parts.iter().map(|part| part.frames).sum(),
            flat: Tensor::stack(&flat, 0).sum_dim_intlist(0, false, Kind::Float),
            policy: sum(|part| part.policy),
            value: sum(|part| part.value),
            entropy: sum(|part| part.entropy),
        }
    }

    /// Returns the norms of the sum of `parts`, `self`, and of the parts; `None` for a single part. A part holds its
    /// share of the minibatch's mean.
    pub(super) fn norms(&self, parts: &[Self]) -> Option<SquaredNorms> {
        if parts.len() < 2 {
            return None;
        }
        let square = |flat: &Tensor| flat.square().sum(Kind::Double).double_value(&[]);
        let mean =
            |of: &dyn Fn(&Self) -> f64| parts.iter().map(of).sum::<f64>() / parts.len() as f64;
        let frames = self.frames as f64;
        Some(SquaredNorms {
            whole: square(&self.flat),
            inverse_frames: 1.0 / frames,
            shard: mean(&|part| square(&part.flat) * (frames / part.frames as f64).powi(2)),
            inverse_shard_frames: mean(&|part| 1.0 / part.frames as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norms_are_those_of_mean_gradients() {
        // Mean gradients (3, 4) of one frame and (1, 0) of three, each as its share of four frames.
        let part = |frames, flat: [f32; 2]| Gradients {
            frames,
            flat: Tensor::from_slice(&flat),
            policy: 0.0,
            value: 0.0,
            entropy: 0.0,
        };
        let parts = [part(1, [0.75, 1.0]), part(3, [0.75, 0.0])];
        let sum = Gradients::sum(&parts);
        assert_eq!(sum.frames, 4);
        let expected = SquaredNorms {
            whole: 1.5 * 1.5 + 1.0,
            inverse_frames: 0.25,
            shard: f64::midpoint(25.0, 1.0),
            inverse_shard_frames: f64::midpoint(1.0, 1.0 / 3.0),
        };
        assert_eq!(sum.norms(&parts), Some(expected));
        assert_eq!(sum.norms(&parts[..1]), None);
    }
}
