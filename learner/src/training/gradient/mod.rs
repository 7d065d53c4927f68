//! The gradient of a minibatch, shard by shard: forward pass with the learner's weights, loss, backward pass.
//!
//! ```text
//!   frames -> native     one environment at a time, one step back, convolutions
//!          -> libtorch   everything else
//!             `-> parts  summed over the shards
//! ```

mod libtorch;
mod native;
mod parts;

use hrm_common::config::LossConfig;

use self::{native::HostFrames, parts::Gradients};
use crate::training::{backend::Backend, frames::Frames, model::Hrm};

/// The frames of a batch, where the gradient of its minibatches is computed.
pub(crate) enum TrainedFrames {
    /// In the form of the kernels.
    Native(HostFrames),
    /// One share for each thread.
    Libtorch(Vec<Frames>),
}

impl TrainedFrames {
    /// Prepares frames for minibatches on `threads` threads. The kernels serve a one-step gradient of a model with
    /// convolutions.
    pub(crate) fn new(
        backend: Backend,
        model: &Hrm,
        frames: Frames,
        config: &LossConfig,
        threads: usize,
    ) -> Self {
        match backend {
            Backend::Native if native::supports(model, config) => {
                Self::Native(HostFrames::new(&frames))
            }
            _ => Self::Libtorch(frames.shares(threads)),
        }
    }

    /// Returns the gradient of a minibatch's mean loss, summed over the threads of `pool`. `units` are chunks of
    /// `bptt_ticks` ticks of one environment.
    pub(crate) fn gradients(
        &mut self,
        model: &Hrm,
        units: &[i64],
        config: &LossConfig,
        pool: &rayon::ThreadPool,
    ) -> Gradients {
        match self {
            Self::Native(frames) => native::minibatch(model, frames, units, config, pool),
            Self::Libtorch(shares) => libtorch::minibatch(model, shares, units, config, pool),
        }
    }
}
