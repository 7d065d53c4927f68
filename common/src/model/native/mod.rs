//! The forward pass of acting: without gradients and without libtorch, one environment at a time.
//!
//! [`Lanes`] are environments with their carry. They pack the parameters once for the kernels of this processor. An
//! environment's result does not depend on the number of environments.

mod embedding;
mod heads;
mod lanes;
mod network;

use hrm_kernels::{Instructions, Kernel, Precision, VARIABLE, Visitor, dispatch};

pub use heads::HeadOutputs;
pub use lanes::{Lanes, StateAfterSegment};

use self::lanes::{AnyLanes, KernelLanes};
use super::{config::Dtype, parameters::Parameters};
use crate::config::ConfigError;

/// Returns the kernels that this process uses. A program calls this first, to report an invalid `HRM_KERNELS`.
///
/// # Errors
///
/// Returns an error when the variable names no kernels, or some that this processor cannot run.
pub fn kernels() -> Result<Instructions, ConfigError> {
    Instructions::choose().map_err(|error| ConfigError::Invalid {
        key: VARIABLE.into(),
        value: error.value,
        origin: "the environment".into(),
        reason: error.reason.into(),
        remedy: error.remedy,
    })
}

/// A number of environments at the start of an episode, with the packed parameters of their model.
#[derive(Debug, Clone, Copy)]
struct Start<'a> {
    parameters: &'a Parameters,
    envs: usize,
}

impl Visitor for Start<'_> {
    type Output = Box<dyn AnyLanes>;

    fn visit<K: Kernel>(self, kernel: K) -> Self::Output {
        Box::new(KernelLanes::new(kernel, self.parameters, self.envs))
    }
}

impl Lanes {
    /// Returns `envs` environments at the start of an episode, with the instructions that this process uses.
    pub fn new(parameters: Parameters, envs: usize) -> Self {
        Self::with_instructions(parameters, envs, Instructions::chosen())
    }

    /// Returns the same with other instructions.
    pub fn with_instructions(
        parameters: Parameters,
        envs: usize,
        instructions: Instructions,
    ) -> Self {
        let precision = match parameters.config().dtype {
            Dtype::F32 => Precision::F32,
            Dtype::Bf16 => Precision::Bf16,
        };
        let start = Start {
            parameters: &parameters,
            envs,
        };
        let lanes = dispatch(instructions, precision, start);
        Self::from_parts(parameters, lanes)
    }
}
