//! Self-attention, as published except for the choice of positions.

use hrm_common::model::TensorIndex;
use tch::Tensor;

use super::{context::Context, linear::linear};

/// Multi-head self-attention over the whole sequence: not causal, no biases.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    pub(super) heads: i64,
    pub(super) qkv: TensorIndex,
    pub(super) out: TensorIndex,
}

impl Attention {
    /// Maps rows `[B * P, d]`, sequence after sequence, to rows of the same shape.
    pub(super) fn forward(&self, context: Context<'_>, x: &Tensor) -> Tensor {
        let Context {
            weights,
            rows,
            places,
            bias,
        } = context;
        let d = x.size()[1];
        // [3, B, heads, P, d / heads]
        let qkv = linear(rows, x, self.qkv.of(weights))
            .view([rows.batch, rows.positions(), 3, self.heads, d / self.heads])
            .permute([2, 0, 3, 1, 4]);
        let (query, key) = (places.turn(qkv.get(0)), places.turn(qkv.get(1)));
        let mixed = Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &qkv.get(2),
            bias,
            0.0,
            false,
            None,
            false,
        );
        linear(
            rows,
            &mixed.transpose(1, 2).reshape([-1, d]),
            self.out.of(weights),
        )
    }
}
