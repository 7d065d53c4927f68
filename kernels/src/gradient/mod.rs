//! The gradient of a block with a convolution, by hand: forward with everything that the gradient needs, then backward.
//!
//! ```text
//!   trace      forward, as `conv` computes it; keeps y, gates, inner vectors and the norms' scales
//!   backward   d out -> d x, and the gradients of the weights, added up over environments
//!     outer      the products over cells that make a weight's gradient
//! ```
//!
//! Vectors are kept in f32, so only kernels with f32 elements do this. All of them round to bfloat16 where their forward
//! pass does; what flows backward is not rounded.

mod backward;
mod outer;
mod trace;
mod weights;

pub use backward::BackwardScratch;
pub use trace::{ConvTrace, DifferentiableConv};
pub use weights::{ConvGradient, ConvGradientTensors};
