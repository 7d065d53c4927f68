//! The model with gradients, in tch: the reference of the native forward pass, and what trains.
//!
//! The modules, in the order of the data's path:
//!
//! ```text
//! parameters  one flat f32 vector and views into it
//! rows        the order of tokens in memory during a decision
//! embed       tokens u8 [B, S]            -> e [B * P, d]
//! carry       carry [2, B, P, d]          -> zH, zL [B * P, d], and back
//! module      zL = L(zL, zH + e), zH = H(zH, zL), each a stack of blocks
//!   block       attention (positions from places) | conv, then swiglu (both with linear), each with a residual and
//!               RMSNorm
//!   context     the inputs that all blocks share
//! heads       zH at the read-out          -> logits [B, 4], value [B]
//! hrm         the whole model: segments and cycles
//! decision    the result
//! active      the rows that run each segment, where decisions have different numbers
//! acting      decisions that end by a rule
//! one_step    the one-step gradient, segment by segment
//! ```
//!
//! `hrm_common::model` says what the model is, and what the letters in shapes mean.

mod acting;
mod active;
mod attention;
mod block;
mod carry;
mod context;
mod conv;
mod decision;
mod embed;
mod heads;
mod hrm;
mod linear;
mod module;
mod one_step;
mod parameters;
mod places;
mod rows;
mod swiglu;
#[cfg(test)]
mod tests;

pub use active::{ActiveBatch, ActiveRows};
pub(crate) use carry::{carries_of, carry_tensor};
pub(crate) use decision::Start;
pub use decision::{Decision, Gradient, Segment, Trace};
pub use heads::Heads;
pub(crate) use heads::{OUTPUTS, read_outputs};
pub use hrm::{Hrm, Prepared};
use hrm_common::model::Dtype;
use tch::Kind;

/// Returns the tensor kind of the same layout.
pub fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::Bf16 => Kind::BFloat16,
    }
}
