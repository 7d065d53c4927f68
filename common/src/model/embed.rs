//! From token codes to the vectors that are injected into L.

use tch::{Kind, Tensor};

use super::config::{ModelConfig, Position};
use super::init::Init;
use super::parameters::{Declaration, Index};
use super::rows::Rows;
use crate::env::{Grid, VOCABULARY};

/// `e = sqrt(d) * token`, or `e = sqrt(d) * (token + position) / sqrt(2)` with learned positions, as in
/// the original HRM (arXiv 2506.21734). The prefix token has a vector of its own in place of a code's.
#[derive(Clone, Debug)]
pub(super) struct Embedding {
    token: Index,
    prefix: Index,
    position: Option<Index>,
    scale: f64,
}

impl Embedding {
    pub(super) fn declare(config: &ModelConfig, grid: Grid, declaration: &mut Declaration) -> Self {
        let d = config.hidden;
        let learned = config.position == Position::Learned;
        Self {
            token: declaration.trainable("embed.token", &[VOCABULARY, d], Init::lecun(d)),
            prefix: declaration.trainable("embed.prefix", &[1, d], Init::Constant(0.0)),
            position: learned.then(|| {
                declaration.trainable("embed.position", &[grid.len() + 1, d], Init::lecun(d))
            }),
            scale: (if learned { d as f64 / 2.0 } else { d as f64 }).sqrt(),
        }
    }

    /// Codes u8 `[B, S]` to rows `[B * P, d]`.
    pub(super) fn forward(&self, weights: &[Tensor], rows: &Rows, tokens: &Tensor) -> Tensor {
        let token = self.token.of(weights);
        let d = token.size()[1];
        let codes = tokens.to_kind(Kind::Int64);
        let mut cells = Tensor::embedding(token, &codes, -1, false, false);
        let mut prefix = self.prefix.of(weights).shallow_clone();
        if let Some(position) = self.position {
            let position = position.of(weights);
            cells = cells + position.narrow(0, 1, rows.cells());
            prefix = prefix + position.narrow(0, 0, 1);
        }
        rows.join(&cells, &prefix.expand([rows.batch, d], false)) * self.scale
    }
}
