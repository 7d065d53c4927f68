//! The post-norm block of which H and L are stacks.

use hrm_common::model::{BlockTensors, MixerTensors, ModelConfig};
use tch::{Device, Kind, Tensor};

use super::{attention::Attention, context::Context, conv::Conv, swiglu::SwiGlu};

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
    pub(super) fn forward(&self, context: Context<'_>, x: &Tensor) -> Tensor {
        let Context { weights, rows, .. } = context;
        let mixed = match &self.mixer {
            Mixer::Attention(attention) => attention.forward(context, x),
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

/// The number under RMSNorm's root that keeps it from dividing by zero.
const EPSILON: f64 = 1e-5;

/// Returns `x / sqrt(mean(x^2) + 1e-5)` over the last dimension, in 32-bit arithmetic and without a weight.
fn rms_norm(x: &Tensor) -> Tensor {
    match x.device() {
        Device::Cpu => composed_rms_norm(x),
        // One kernel of a GPU, which a CPU does not have.
        _ => fused_rms_norm(x),
    }
}

fn fused_rms_norm(x: &Tensor) -> Tensor {
    x.rms_norm([x.size()[1]], None::<&Tensor>, EPSILON)
}

fn composed_rms_norm(x: &Tensor) -> Tensor {
    let mean_square = match x.kind() {
        Kind::Float => x.square().mean_dim(-1, true, Kind::Float),
        // Reduces in 32 bits without a 32-bit copy of `x`.
        _ => {
            let norm = x.norm_scalaropt_dim_dtype(2, [-1].as_slice(), true, Kind::Float);
            norm.square() / x.size()[1] as f64
        }
    };
    (x * (mean_square + EPSILON).rsqrt()).to_kind(x.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two differ by the last bit of the activations' kind at most.
    #[test]
    fn both_forms_of_rms_norm_agree() {
        for (kind, bound) in [(Kind::Float, 1e-6), (Kind::BFloat16, 0.008)] {
            let x = Tensor::arange(96, (Kind::Float, Device::Cpu));
            let x = ((x + 1.0).sin() * 3.0).view([6, 16]).to_kind(kind);
            let ratio = fused_rms_norm(&x).to_kind(Kind::Double)
                / composed_rms_norm(&x).to_kind(Kind::Double);
            let error = (ratio - 1.0).abs().max().double_value(&[]);
            assert!(error <= bound, "{error:e} in {kind:?}");
        }
    }
}
