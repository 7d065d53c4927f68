//! The choice between the kernels that act and libtorch, for what the learner computes.

use std::fmt;

use tch::Device;

/// The implementation of the model that the learner computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The kernels that act, with libtorch for the gradients that they do not have. At policy lag 0 the learner then
    /// computes the same bits as an actor on the same kind of processor.
    Native,
    /// libtorch, for GPUs.
    Libtorch,
}

impl Backend {
    /// Returns the backend for a model on `device`.
    pub(crate) fn new(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Native,
            _ => Self::Libtorch,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Libtorch => "libtorch",
        })
    }
}
