//! Self-attention with rotary positions, as published.

use tch::{Device, Kind, Tensor};

use super::config::ModelConfig;
use super::init::Init;
use super::linear::linear;
use super::parameters::{Declaration, Index};
use super::rows::Rows;

const ROTARY_BASE: f64 = 10_000.0;

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

    /// Rows `[B * P, d]`, sequence after sequence, to rows of the same shape.
    pub(super) fn forward(
        &self,
        weights: &[Tensor],
        rows: &Rows,
        rotary: Option<&Rotary>,
        x: &Tensor,
    ) -> Tensor {
        let d = x.size()[1];
        // [3, B, heads, P, d / heads]
        let qkv = linear(rows, x, self.qkv.of(weights))
            .view([rows.batch, rows.positions(), 3, self.heads, d / self.heads])
            .permute([2, 0, 3, 1, 4]);
        let turn = |x: Tensor| rotary.map_or_else(|| x.shallow_clone(), |rotary| rotary.turn(&x));
        let (query, key) = (turn(qkv.get(0)), turn(qkv.get(1)));
        let mixed = Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &qkv.get(2),
            None::<Tensor>,
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

/// Rotary position embedding (Su et al. 2021) in the half-rotation layout: dimension `i` is paired with
/// `i + half`. The position is the flat one; the prefix is position 0.
#[derive(Debug)]
pub(super) struct Rotary {
    /// `[P, d / heads]` each, f32.
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    pub(super) fn new(positions: usize, dimensions: usize, device: Device) -> Self {
        let angles: Vec<f32> = (0..positions)
            .flat_map(|position| {
                (0..dimensions).map(move |i| {
                    let pair = (i % (dimensions / 2)) as f64;
                    let frequency = ROTARY_BASE.powf(-2.0 * pair / dimensions as f64);
                    (position as f64 * frequency) as f32
                })
            })
            .collect();
        let angles = Tensor::from_slice(&angles)
            .view([positions as i64, dimensions as i64])
            .to_device(device);
        Self {
            cos: angles.cos(),
            sin: angles.sin(),
        }
    }

    pub(super) fn share(&self) -> Self {
        Self {
            cos: self.cos.shallow_clone(),
            sin: self.sin.shallow_clone(),
        }
    }

    /// Turns the pairs of `x` `[.., P, d / heads]` by their position's angles, in 32-bit arithmetic.
    fn turn(&self, x: &Tensor) -> Tensor {
        let wide = x.to_kind(Kind::Float);
        let halves = wide.chunk(2, -1);
        let swapped = Tensor::cat(&[&-&halves[1], &halves[0]], -1);
        (wide * &self.cos + swapped * &self.sin).to_kind(x.kind())
    }
}
