//! The position encodings that act inside attention.

use hrm_common::{
    env::Grid,
    model::{ModelConfig, PositionTables},
};
use tch::{Device, Kind, Tensor};

/// The part of [`PositionEncoding`](hrm_common::model::PositionEncoding) that acts on queries and keys. The learned
/// part is in the embedding.
#[derive(Debug)]
pub(super) enum Places {
    /// No encoding inside attention.
    Unseen,
    Turned(Rotary),
    /// A bias that is added to the scores, `[heads, P, P]`, f32.
    Biased(Tensor),
}

impl Places {
    pub(super) fn new(config: &ModelConfig, grid: Grid, device: Device) -> Self {
        let positions = grid.len() as i64 + 1;
        match PositionTables::new(config, grid) {
            PositionTables::Unseen => Self::Unseen,
            PositionTables::Turned { cos, sin } => {
                // Both dimensions of a pair turn by the same angle.
                let table = |half: &[f32]| {
                    let half = Tensor::from_slice(half).view([positions, -1]);
                    Tensor::cat(&[&half, &half], 1).to_device(device)
                };
                Self::Turned(Rotary {
                    cos: table(&cos),
                    sin: table(&sin),
                })
            }
            PositionTables::Biased(bias) => {
                let bias = Tensor::from_slice(&bias).view([-1, positions, positions]);
                Self::Biased(bias.to_device(device))
            }
        }
    }

    pub(super) fn share(&self) -> Self {
        match self {
            Self::Unseen => Self::Unseen,
            Self::Turned(rotary) => Self::Turned(rotary.share()),
            Self::Biased(bias) => Self::Biased(bias.shallow_clone()),
        }
    }

    /// Encodes positions into queries or keys `[B, heads, P, d / heads]`.
    pub(super) fn turn(&self, x: Tensor) -> Tensor {
        match self {
            Self::Turned(rotary) => rotary.turn(&x),
            Self::Unseen | Self::Biased(_) => x,
        }
    }

    /// Returns the bias of the scores, `[1, heads, P, P]` of `kind`, if there is one.
    pub(super) fn bias(&self, kind: Kind) -> Option<Tensor> {
        match self {
            Self::Biased(bias) => Some(bias.to_kind(kind).unsqueeze(0)),
            Self::Unseen | Self::Turned(_) => None,
        }
    }
}

/// Rotary position embedding (Su et al. 2021) in the half-rotation layout: dimension `i` is paired with `i + half`.
/// The position is the index in the flat sequence; the prefix is at position 0.
#[derive(Debug)]
pub(super) struct Rotary {
    /// `[P, d / heads]` each, f32.
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    fn share(&self) -> Self {
        Self {
            cos: self.cos.shallow_clone(),
            sin: self.sin.shallow_clone(),
        }
    }

    /// Rotates the pairs of `x` `[.., P, d / heads]` by the angles of their position, in 32-bit arithmetic.
    fn turn(&self, x: &Tensor) -> Tensor {
        let wide = x.to_kind(Kind::Float);
        let halves = wide.chunk(2, -1);
        let swapped = Tensor::cat(&[&-&halves[1], &halves[0]], -1);
        (wide * &self.cos + swapped * &self.sin).to_kind(x.kind())
    }
}
