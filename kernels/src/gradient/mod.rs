//! The gradient of a block with a convolution, by hand: forward with everything that the gradient needs, then backward.
//!
//! ```text
//!   trace      forward, as `conv` computes it; keeps y, gates, inner vectors and the norms' scales
//!   backward   d out -> d x, and the gradients of the weights, added up over environments
//!     groups     rows side by side, as products over rows read them
//!     outer      the products over rows that make a weight's gradient
//! ```
//!
//! Kernels that round to bfloat16 round the operands of all products, forward and backward. Sums, norms and the
//! gradient that flows along the residuals are f32.

mod backward;
mod groups;
mod outer;
mod trace;
mod weights;

pub use backward::BackwardScratch;
pub use trace::{ConvTrace, DifferentiableConv};
pub use weights::{ConvGradient, ConvGradientTensors};
