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

use self::{libtorch::TensorFrames, native::HostFrames, parts::Gradients};
use crate::training::{frames::Frames, model::Hrm, noise_scale::SquaredNorms, states::States};

/// The frames of a batch, where the gradient of its minibatches is computed.
pub(crate) enum TrainedFrames {
    /// In the form of the kernels.
    Native(HostFrames),
    /// One share for each thread.
    Libtorch(Vec<TensorFrames>),
}

impl TrainedFrames {
    /// Prepares frames for minibatches on `threads` threads. From states of the kernels, these also compute a one-step
    /// gradient of a model with convolutions.
    pub(crate) fn new(
        model: &Hrm,
        frames: &Frames,
        states: States,
        config: &LossConfig,
        threads: usize,
    ) -> Self {
        match states {
            States::Host(states) if native::supports(model, config) => {
                Self::Native(HostFrames::new(frames, states))
            }
            states => {
                let states = states.into_tensors(model, frames.envs);
                let share = |_| TensorFrames::new(frames, &states);
                Self::Libtorch((0..threads).map(share).collect())
            }
        }
    }

    /// Returns the gradient of a minibatch's mean loss, summed over the threads of `pool`, and its norms if there are
    /// several. `units` are chunks of `bptt_ticks` ticks of one environment.
    pub(crate) fn gradients(
        &mut self,
        model: &Hrm,
        units: &[i64],
        config: &LossConfig,
        pool: &rayon::ThreadPool,
    ) -> (Gradients, Option<SquaredNorms>) {
        let parts = match self {
            Self::Native(frames) => native::minibatch(model, frames, units, config, pool),
            Self::Libtorch(shares) => libtorch::minibatch(model, shares, units, config, pool),
        };
        let sum = Gradients::sum(&parts);
        let norms = sum.norms(&parts);
        (sum, norms)
    }
}
