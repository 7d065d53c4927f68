use tch::Tensor;

use super::heads::Heads;

/// The part of a decision that records gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradient {
    /// Nothing, for acting and evaluation.
    None,
    /// The last call of L and the last call of H in every segment, with everything before them detached. This is HRM's
    /// one-step gradient (arXiv 2506.21734).
    OneStep,
    /// Everything, through all segments and into the incoming carry (backpropagation through time).
    Full,
}

/// The state from which [`Hrm::one_step_gradient`](super::Hrm::one_step_gradient) starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// The carry, in the shape of [`Hrm::carry_shape`](super::Hrm::carry_shape).
    Carry(&'a Tensor),
    /// The states that [`Hrm::forward_with_prefixes`](super::Hrm::forward_with_prefixes) kept of the segments with a
    /// loss.
    Prefixes(&'a Tensor),
}

/// The result of one decision.
#[derive(Debug)]
pub struct Decision {
    /// The outputs of the heads after each segment, in order. An actor uses the last.
    pub segments: Vec<Heads>,
    /// The carry after the decision, shaped as [`Hrm::carry_shape`](super::Hrm::carry_shape); detached unless
    /// [`Gradient::Full`].
    pub carry: Tensor,
}

/// One segment of a [`Trace`].
#[derive(Debug)]
pub struct Segment {
    /// The slow module's state, `[B, P, d]` in the activations' kind.
    pub z_h: Tensor,
    /// The fast module's state, `[B, P, d]` in the activations' kind.
    pub z_l: Tensor,
    /// The outputs of the heads.
    pub heads: Heads,
}

/// A decision with the state after each of its segments.
#[derive(Debug)]
pub struct Trace {
    /// The segments in order.
    pub segments: Vec<Segment>,
    /// The carry after the decision, as in [`Decision`].
    pub carry: Tensor,
}
