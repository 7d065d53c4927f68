//! Training: makes new weights from admitted unrolls.
//!
//! ```text
//!   batcher     takes unrolls from the queue; drops fenced and stale ones
//!   batch       stacks them to tensors [T, B]; log_softmax gives the log-probabilities of logits
//!   backend     chooses between the kernels that act and libtorch; host copies tensors out of libtorch
//!   recompute   runs the learner's own weights over time: values, log-probabilities, carries
//!     states      the states that it keeps for the passes
//!   frames      flattens the batch and adds its targets
//!     vtrace      computes targets and advantages
//!     advantage   normalises advantages and applies the importance weights
//!     halting     targets and loss of the halt head
//!     surrogate   the clipped policy gradient of moves, and of halting by chance
//!   update      runs passes of minibatches over worker threads
//!     gradient    one shard: forward pass, loss, backward pass, by the kernels or by libtorch
//!     model       the model with gradients
//!     loss        policy gradient, value, entropy
//!     noise_scale estimates how large a minibatch is useful
//!     optimizer   Adam; schedule sets its learning rate
//!     queued      numbers that a GPU may still be computing, so that the passes never wait for it
//!     rollback    undoes updates that spoil the weights
//!   device_network  acts with the model on a GPU: evaluations and local actors, if they are to
//!   cohorts     follows episodes from their beginning; episode_window holds the settled ones
//! ```

pub(crate) mod advantage;
pub mod backend;
pub mod batch;
pub mod batcher;
pub(crate) mod cohorts;
pub mod device_network;
pub(crate) mod episode_window;
pub(crate) mod frames;
mod gradient;
mod halting;
pub mod host;
mod log_softmax;
pub(crate) mod loss;
pub mod model;
mod noise_scale;
pub mod optimizer;
mod queued;
pub mod recompute;
mod rollback;
pub(crate) mod schedule;
pub(crate) mod states;
mod surrogate;
pub mod update;
pub(crate) mod vtrace;
