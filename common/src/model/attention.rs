//! Self-attention, as published except for the choice of positions.

use tch::Tensor;

use super::config::ModelConfig;
use super::init::Init;
use super::linear::linear;
use super::parameters::{Declaration, Index};
use super::places::Places;
use super::rows::Rows;

/// Multi-head self-attention over the whole sequence: not causal, no biases.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    heads: i64,
    qkv: Index,
    out: Index,
}

impl Attention {
    pub(super) fn declare(
        prefix: &str,
        config: &ModelConfig,
        declaration: &mut Declaration,
    ) -> Self {
        let d = config.hidden;
        let mut linear = |name: &str, outputs| {
            declaration.trainable(
                format!("{prefix}.attention.{name}"),
                &[outputs, d],
                Init::lecun(d),
            )
        };
        Self {
            heads: config.heads as i64,
            qkv: linear("qkv", 3 * d),
            out: linear("out", d),
        }
    }

    /// Maps rows `[B * P, d]`, sequence after sequence, to rows of the same shape.
    pub(super) fn forward(
        &self,
        weights: &[Tensor],
        rows: &Rows,
        places: &Places,
        x: &Tensor,
    ) -> Tensor {
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
            places.bias(query.kind()),
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
