//! The post-norm block that H and L are stacks of.

use tch::{Kind, Tensor};

use super::attention::Attention;
use super::config::{Mixing, ModelConfig};
use super::conv::Conv;
use super::parameters::Declaration;
use super::places::Places;
use super::rows::Rows;
use super::swiglu::SwiGlu;

/// `x = rmsnorm(x + mix(x)); x = rmsnorm(x + swiglu(x))`.
#[derive(Clone, Debug)]
pub(super) struct Block {
    mixer: Mixer,
    swiglu: SwiGlu,
}

#[derive(Clone, Debug)]
enum Mixer {
    Attention(Attention),
    Conv(Conv),
}

impl Block {
    pub(super) fn declare(
        prefix: &str,
        config: &ModelConfig,
        declaration: &mut Declaration,
    ) -> Self {
        let mixer = match config.mixing {
            Mixing::Attention => Mixer::Attention(Attention::declare(prefix, config, declaration)),
            Mixing::Conv => Mixer::Conv(Conv::declare(prefix, config, declaration)),
        };
        Self {
            mixer,
            swiglu: SwiGlu::declare(prefix, config, declaration),
        }
    }

    /// Rows `[B * P, d]` to rows of the same shape.
    pub(super) fn forward(
        &self,
        weights: &[Tensor],
        rows: &Rows,
        places: &Places,
        x: &Tensor,
    ) -> Tensor {
        let mixed = match &self.mixer {
            Mixer::Attention(attention) => attention.forward(weights, rows, places, x),
            Mixer::Conv(conv) => conv.forward(weights, rows, x),
        };
        let x = rms_norm(&add(mixed, x));
        rms_norm(&add(self.swiglu.forward(weights, rows, &x), &x))
    }
}

/// The sum, in the storage of `fresh` where no graph remembers it.
fn add(mut fresh: Tensor, x: &Tensor) -> Tensor {
    if fresh.requires_grad() {
        fresh + x
    } else {
        fresh.g_add_(x)
    }
}

/// `x / sqrt(mean(x^2) + 1e-5)` over the last dimension, in 32-bit arithmetic; no weight.
fn rms_norm(x: &Tensor) -> Tensor {
    let mean_square = match x.kind() {
        Kind::Float => x.square().mean_dim(-1, true, Kind::Float),
        // Reduces in 32 bits without a copy of `x` in 32 bits.
        _ => {
            let norm = x.norm_scalaropt_dim_dtype(2, [-1].as_slice(), true, Kind::Float);
            norm.square() / x.size()[1] as f64
        }
    };
    (x * (mean_square + 1e-5).rsqrt()).to_kind(x.kind())
}
