//! The hierarchical reasoning model (arXiv 2506.21734) as an agent (HRM-Agent, arXiv 2510.22832), in tch.
//!
//! The modules, in the order of the data's path:
//!
//! ```text
//! config      settings of shape and arithmetic; the presets `paper` and `small`
//! init        initial values from a seed, the same bits on every device
//! parameters  one flat f32 vector and named views into it
//! rows        the order of tokens in memory during a decision
//! embed       tokens u8 [B, S]            -> e [B * P, d]
//! carry       carry [2, B, P, d]          -> zH, zL [B * P, d], and back
//! module      zL = L(zL, zH + e), zH = H(zH, zL), each a stack of blocks
//!   block       attention | conv, then swiglu (both with linear), each with a residual and RMSNorm
//! heads       zH at the read-out          -> logits [B, 4], value [B]
//! network     these parts, in the order of the state
//! hrm         the whole model: segments, cycles and gradients
//! decision    the result
//! state       weights as safetensors bytes, and back
//! published   weights under the names of the authors' checkpoints
//! ```
//!
//! The letters in shapes are `B` environments, `S` cells of the observed grid, `P = S + 1` positions, and `d` =
//! `hidden`. The prefix token has the first position.

mod attention;
mod block;
mod carry;
mod config;
mod conv;
mod decision;
mod embed;
mod error;
mod heads;
mod hrm;
mod init;
mod linear;
mod module;
mod network;
mod parameters;
mod places;
pub mod published;
mod rows;
pub mod state;
mod swiglu;
#[cfg(test)]
mod tests;

pub use config::{CarryMode, Dtype, Mixing, ModelConfig, PositionEncoding, Readout};
pub use decision::{Decision, Gradient, Segment, Trace};
pub use error::LoadError;
pub use heads::Heads;
pub use hrm::Hrm;
