//! The embedding: token codes to the vectors that are injected into L.

use hrm_common::model::{EmbeddingTensors, ModelConfig};
use tch::{Kind, Tensor};

use super::rows::Rows;

/// `e = sqrt(d) * token`, or `e = sqrt(d) * (token + position) / sqrt(2)` with learned positions, as in
/// the original HRM (arXiv 2506.21734). The prefix token has its own vector.
#[derive(Debug, Clone)]
pub(super) struct Embedding {
    tensors: EmbeddingTensors,
    scale: f64,
}

impl Embedding {
    pub(super) fn new(tensors: EmbeddingTensors, config: &ModelConfig) -> Self {
        let d = config.hidden as f64;
        let scale = match tensors.position {
            Some(_) => (d / 2.0).sqrt(),
            None => d.sqrt(),
        };
        Self { tensors, scale }
    }

    /// Returns the scaled vectors of every code at every position (or of every code, without positions), then the
    /// prefix's, f32. `parameters` must be in 32 bits. The sum and the scaling are computed once, not once per token.
    pub(super) fn table(&self, parameters: &[Tensor], cells: i64) -> Tensor {
        let token = self.tensors.token.of(parameters);
        let prefix = self.tensors.prefix.of(parameters);
        let (codes, d) = (token.size()[0], token.size()[1]);
        let table = match self.tensors.position {
            None => Tensor::cat(&[token, prefix], 0),
            Some(position) => {
                let position = position.of(parameters);
                let everywhere = token.unsqueeze(1) + position.narrow(0, 1, cells);
                let prefix = prefix + position.narrow(0, 0, 1);
                Tensor::cat(&[everywhere.view([codes * cells, d]), prefix], 0)
            }
        };
        table * self.scale
    }

    /// Maps codes u8 `[B, S]` to rows `[B * P, d]` of `kind`. Rows are cast after the look-up in the table, so that its
    /// gradient is summed in 32 bits.
    pub(super) fn look_up(
        &self,
        table: &Tensor,
        rows: &Rows,
        tokens: &Tensor,
        kind: Kind,
    ) -> Tensor {
        let mut cells = tokens.to_kind(Kind::Int64);
        if self.tensors.position.is_some() {
            let place = Tensor::arange(rows.cells(), (Kind::Int64, tokens.device()));
            cells = cells * rows.cells() + place;
        }
        let last = table.size()[0] - 1;
        let prefixes = Tensor::full([rows.batch, 1], last, (Kind::Int64, tokens.device()));
        let index = rows.join(&cells.unsqueeze(2), &prefixes).view(-1);
        table.index_select(0, &index).to_kind(kind)
    }
}
