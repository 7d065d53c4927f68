//! The order in which a batch is trained.

use std::ops::Range;

/// The passes over a batch. A unit is a chunk of `bptt_ticks` ticks of one environment.
pub(crate) struct Passes {
    /// The units of all passes, one after the other.
    pub(crate) order: Vec<i64>,
    /// The place of each minibatch in the order.
    pub(crate) minibatches: Vec<Range<usize>>,
}
