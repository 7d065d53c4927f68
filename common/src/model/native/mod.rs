//! The forward pass of acting: without gradients and without libtorch, one environment at a time.
//!
//! [`Lanes`] are environments with their carry. They pack the parameters once for the kernels of this processor. An
//! environment's result does not depend on the number of environments.
//!
//! ```text
//!   lanes        tokens u8 [N, S], N carries -> the heads of each segment, N carries
//!     network      the segments of one environment
//!       embedding    tokens u8 [S]           -> e [P, d]
//!       heads        zH at the read-out      -> logits [4], value
//!   gradient     the same decision, its last calls traced, and back: the one-step gradient
//! ```

mod embedding;
mod gradient;
mod heads;
mod lanes;
mod network;

use hrm_kernels::{Instructions, Precision, VARIABLE};

pub use gradient::OneStepGradient;
pub use heads::{HeadGradients, HeadOutputs};
pub use lanes::{DecisionTrace, Lanes, StateAfterSegment};

use crate::{config::ConfigError, invalid_value::InvalidValue, model::config::Dtype};

/// Returns the precision of the kernels for activations of this type.
fn precision(dtype: Dtype) -> Precision {
    match dtype {
        Dtype::F32 => Precision::F32,
        Dtype::Bf16 => Precision::Bf16,
    }
}

/// Returns the kernels that this process uses. A program calls this first, to report an invalid `HRM_KERNELS`.
///
/// # Errors
///
/// Returns an error when the variable names no kernels, or some that this processor cannot run.
pub fn kernels() -> Result<Instructions, ConfigError> {
    Instructions::choose().map_err(|error| {
        InvalidValue::new(VARIABLE, error.value, error.reason, error.remedy)
            .from_origin("the environment")
            .into()
    })
}
