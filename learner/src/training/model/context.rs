use tch::Tensor;

use super::{places::Places, rows::Rows};

/// The inputs of a block that are the same for all blocks of a decision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    /// The parameters in the activations' kind.
    pub(super) weights: &'a [Tensor],
    pub(super) rows: &'a Rows,
    pub(super) places: &'a Places,
    /// The bias of attention's scores, if there is one.
    pub(super) bias: Option<&'a Tensor>,
}
