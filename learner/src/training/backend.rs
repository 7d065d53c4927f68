//! The choice between the kernels that act and libtorch, for what the learner computes.

use std::fmt;

use hrm_common::{
    config::LossConfig,
    model::{ModelConfig, native::OneStepGradient},
};
use tch::Device;

/// The implementation of the model that the learner computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The kernels that act. At policy lag 0 the learner then computes the same bits as an actor on the same kind of
    /// processor.
    Native,
    /// The kernels that act for the recomputation, and libtorch for gradients that they do not have: of attention, and
    /// through time.
    Mixed,
    /// libtorch, for GPUs.
    Libtorch,
}

impl Backend {
    /// Returns the backend that trains a model on `device`.
    pub(crate) fn new(device: Device, model: &ModelConfig, loss: &LossConfig) -> Self {
        match device {
            Device::Cpu if loss.bptt_ticks == 1 && OneStepGradient::supports(model.mixing) => {
                Self::Native
            }
            Device::Cpu => Self::Mixed,
            _ => Self::Libtorch,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Mixed => "mixed",
            Self::Libtorch => "libtorch",
        })
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::model::Mixing;

    use super::*;

    #[test]
    fn the_name_of_a_backend_states_what_computes_the_gradient() {
        let name = |device, mixing, bptt_ticks| {
            let model = ModelConfig {
                mixing,
                ..ModelConfig::small()
            };
            let loss = LossConfig {
                bptt_ticks,
                ..LossConfig::default()
            };
            Backend::new(device, &model, &loss).to_string()
        };
        assert_eq!(name(Device::Cpu, Mixing::Conv, 1), "native");
        assert_eq!(name(Device::Cpu, Mixing::Conv, 4), "mixed");
        assert_eq!(name(Device::Cpu, Mixing::Attention, 1), "mixed");
        assert_eq!(name(Device::Cuda(0), Mixing::Conv, 1), "libtorch");
    }
}
