//! The arithmetic of HRM's blocks on the vectors of one environment, with the vector instructions of the processor.
//!
//! ```text
//! instructions   which instructions this processor has, and which are used
//! dispatch       runs code with the kernel of a set of instructions and a precision
//! kernel         the operations that all kernels offer
//!   portable       plain Rust: every processor, and the reference of the others
//!   avx2           AVX2 and FMA: 8 lanes
//!   avx512         AVX-512: 16 lanes; avx512_bf16 multiplies pairs of bfloat16
//! layout, rows   the vectors of one environment: grid and prefix token
//! packed         a weight matrix in the order in which a tile reads it
//! tile           a product of a few rows with a few registers of outputs, all in registers
//!   norm, swiglu   the halves of a block that treat each vector alone
//!   conv           a block with a convolution: nine shifted products
//!   attention      a block with self-attention
//! block          either of them
//! gradient       the gradient of a block with a convolution
//! peak           what this core's arithmetic reaches, for benchmarks
//! ```
//!
//! An environment's vectors and a block's weights stay in the core's own cache, which is where the speed comes from:
//! a batch is a loop over environments. An environment's result does not depend on the others.
//!
//! The crate has `unsafe` code, because vector instructions exist as functions on raw pointers and are undefined on
//! processors without them. The only other `unsafe` of the workspace loads libtorch's CUDA library.

#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

mod aligned;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod block;
mod conv;
mod dispatch;
mod gradient;
mod instructions;
mod kernel;
mod layout;
mod norm;
mod packed;
mod peak;
mod portable;
mod rows;
mod swiglu;
mod tile;

pub use attention::{AttentionWeights, Positions};
pub use block::{Block, BlockWeights, MixerWeights, Scratch};
pub use conv::ConvWeights;
pub use dispatch::{Precision, Visitor, dispatch};
pub use gradient::{
    BackwardScratch, ConvGradient, ConvGradientTensors, ConvTrace, DifferentiableConv,
};
pub use instructions::{Instructions, InstructionsError, VARIABLE};
pub use kernel::Kernel;
pub use layout::Layout;
pub use peak::peak;
pub use rows::Rows;

#[cfg(test)]
mod tests;
