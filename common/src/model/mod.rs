//! The hierarchical reasoning model (arXiv 2506.21734) as an agent (HRM-Agent, arXiv 2510.22832), in tch.
//!
//! In the order of the data:
//!
//! ```text
//! config      what decides shape and arithmetic; the presets `paper` and `small`
//! init        initial values from a seed, the same bits everywhere
//! parameters  one flat f32 vector and named views into it
//! rows        how tokens lie in memory while a decision runs
//! embed       tokens u8 [B, S]            -> e [B * P, d]
//! carry       carry [2, B, P, d]          -> zH, zL [B * P, d], and back
//! module      zL = L(zL, zH + e), zH = H(zH, zL), each a stack of blocks
//!   block       attention | conv, then swiglu (both on linear), each behind a residual and RMSNorm
//! heads       zH at the read-out          -> logits [B, 4], value [B]
//! network     the parts above, in the order of the state
//! hrm         all of it: segments, cycles, and where gradient flows
//! decision    what comes out
//! state       weights as safetensors bytes, and back
//! published   the same under the names of the authors' checkpoints
//! ```
//!
//! Letters in shapes: `B` environments, `S` cells of the observed grid, `P = S + 1` positions (the
//! prefix token first), `d` = `hidden`.

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

pub use config::{CarryMode, Dtype, Mixing, ModelConfig, Position, Readout};
pub use decision::{Decision, Gradient, Segment, Trace};
pub use error::LoadError;
pub use heads::Heads;
pub use hrm::Hrm;
