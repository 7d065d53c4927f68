//! Training: makes new weights from admitted unrolls.
//!
//! ```text
//!   batcher     takes unrolls from the queue; drops fenced and stale ones
//!   batch       stacks them to tensors [T, B]
//!   recompute   runs the learner's own weights over time: values, log-probabilities, carries
//!   vtrace      computes targets and advantages
//!   advantage   normalises advantages and applies the importance weights
//!   update      runs passes of minibatches over worker threads
//!     gradient    one shard: forward pass, loss, backward pass
//!     loss        policy gradient, value, entropy
//!     optimizer   Adam; schedule sets its learning rate
//!   cohorts     follows episodes from their beginning; episode_window holds the settled ones
//! ```

pub mod advantage;
pub mod batch;
pub mod batcher;
pub(crate) mod cohorts;
pub(crate) mod episode_window;
mod gradient;
pub mod loss;
pub mod optimizer;
pub mod recompute;
pub(crate) mod schedule;
pub mod update;
pub mod vtrace;
