use tch::Tensor;

use super::heads::Heads;

/// Which part of a decision records gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradient {
    /// None: acting and evaluation.
    None,
    /// The last L call and the last H call of every segment, with everything before them detached:
    /// HRM's one-step gradient.
    OneStep,
    /// As [`Gradient::OneStep`], in the last segment alone; the earlier segments record no graph.
    LastStep,
    /// Everything, through all segments and into the incoming carry (back-propagation through time).
    Full,
}

/// Result of one decision: what the model says after each of its segments, and what it carries on.
#[derive(Debug)]
pub struct Decision {
    /// Heads after each segment, in order. An actor acts on the last.
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
    /// What the heads say.
    pub heads: Heads,
}

/// A decision with the state after each of its segments.
#[derive(Debug)]
pub struct Trace {
    /// The segments in order.
    pub segments: Vec<Segment>,
    /// As in [`Decision`].
    pub carry: Tensor,
}
