//! The post-norm block of which H and L are stacks.

use hrm_common::model::{BlockTensors, MixerTensors, ModelConfig};
use tch::{Kind, Tensor};

use super::attention::Attention;
use super::conv::Conv;
use super::places::Places;
use super::rows::Rows;
use super::swiglu::SwiGlu;

/// A block: `x = rmsnorm(x + mix(x)); x = rmsnorm(x + swiglu(x))`.
#[derive(Debug, Clone)]
pub(super) struct Block {
    mixer: Mixer,
    swiglu: SwiGlu,
}

#[derive(Debug, Clone)]
enum Mixer {
    Attention(Attention),
    Conv(Conv),
}

impl Block {
    pub(super) fn new(tensors: &BlockTensors, config: &ModelConfig) -> Self {
        let BlockTensors {
            mixer,
            gate_up,
            down,
        } = *tensors;
        Self {
            mixer: match mixer {
                MixerTensors::Attention { qkv, out } => Mixer::Attention(Attention {
                    heads: config.heads as i64,
                    qkv,
                    out,
                }),
                MixerTensors::Conv { kernel, prefix } => Mixer::Conv(Conv { kernel, prefix }),
            },
            swiglu: SwiGlu { gate_up, down },
        }
    }

    /// Maps rows `[B * P, d]` to rows of the same shape.
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

/// Returns the sum. Reuses the storage of `fresh` where no graph needs it.
fn add(mut fresh: Tensor, x: &Tensor) -> Tensor {
    if fresh.requires_grad() {
        fresh + x
    } else {
        fresh.g_add_(x)
    }
}

/// Returns `x / sqrt(mean(x^2) + 1e-5)` over the last dimension, in 32-bit arithmetic and without a weight.
fn rms_norm(x: &Tensor) -> Tensor {
    let mean_square = match x.kind() {
        Kind::Float => x.square().mean_dim(-1, true, Kind::Float),
        // Reduces in 32 bits without a 32-bit copy of `x`.
        _ => {
            let norm = x.norm_scalaropt_dim_dtype(2, [-1].as_slice(), true, Kind::Float);
            norm.square() / x.size()[1] as f64
        }
    };
    (x * (mean_square + 1e-5).rsqrt()).to_kind(x.kind())
}
