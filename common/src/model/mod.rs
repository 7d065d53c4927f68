//! The hierarchical reasoning model (arXiv 2506.21734) as an agent (HRM-Agent, arXiv 2510.22832): what it is, and the
//! forward pass that acts.
//!
//! ```text
//! config       settings of shape and arithmetic; the presets `paper` and `small`
//! segments     the number of segments of a decision; halt has the rules that end it early, and halting a decision that
//!              follows one
//! tensors      names and shapes of its tensors, and the part that each belongs to
//! init         initial values from a seed, the same bits on every device
//! parameters   configuration and values: a whole model
//! positions    the tables of the position encodings
//! carry        what one decision passes to the next
//! native       the forward pass, with the kernels of `hrm-kernels`
//!   embedding    tokens u8 [S]           -> e [P, d]
//!   network      zL = L(zL, zH + e), zH = H(zH, zL), each a stack of blocks
//!   heads        zH at the read-out      -> logits [4], value; at the prefix token, for some rules -> halt [2]
//!   lanes        N environments with their carry
//! state        weights as safetensors bytes, and back; error has what can be wrong with them
//! published    weights under the names of the authors' checkpoints
//! ```
//!
//! The letters in shapes are `B` or `N` environments, `S` cells of the observed grid, `P = S + 1` positions, and `d` =
//! `hidden`. The prefix token has the first position. The learner has the same model with gradients, in libtorch.

mod carry;
mod config;
mod error;
mod halt;
mod halting;
mod init;
pub mod native;
mod parameters;
mod positions;
pub mod published;
mod segments;
pub mod state;
mod tensors;
#[cfg(test)]
mod tests;

pub use config::{CarryMode, Dtype, Mixing, ModelConfig, PositionEncoding, Readout};
pub use error::LoadError;
pub use halt::{Depth, Halt};
pub use halting::{Halting, halt_log_probs, log_sigmoid};
pub use parameters::{NamedTensor, Parameters};
pub use positions::PositionTables;
pub use segments::Segments;
pub use tensors::{
    BlockTensors, DeclaredTensor, EmbeddingTensors, HaltTensors, MixerTensors, ModelTensors,
    TensorIndex,
};
