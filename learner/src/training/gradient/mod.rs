//! The gradient of a minibatch, shard by shard: forward pass with the learner's weights, loss, backward pass.
//!
//! ```text
//!   frames -> native     one environment at a time, one step back, convolutions
//!          -> libtorch   everything else
//!             `-> parts  summed over the shards
//! ```
//!
//! `passes` has the order of the frames and their minibatches.

mod libtorch;
mod native;
mod parts;
mod passes;

use std::ops::Range;

use hrm_common::config::LossConfig;

use self::{libtorch::TensorFrames, native::HostFrames, parts::MinibatchGradient};
use crate::training::{backend::Backend, frames::Frames, model::Hrm, states::States};

pub(crate) use self::{parts::Kept, passes::Passes};

/// The frames of a batch, where the gradient of its minibatches is computed.
pub(crate) enum TrainedFrames {
    /// In the form of the kernels.
    Native(Box<HostFrames>),
    /// One share for each thread.
    Libtorch(Vec<TensorFrames>),
}

impl TrainedFrames {
    /// Prepares frames for passes on `threads` threads.
    pub(crate) fn new(
        backend: Backend,
        model: &Hrm,
        frames: &Frames,
        states: States,
        passes: Passes,
        config: &LossConfig,
        threads: usize,
    ) -> Self {
        match (backend, states) {
            (Backend::Native, States::Host(states)) => {
                Self::Native(Box::new(HostFrames::new(frames, states, passes.order)))
            }
            (_, states) => {
                let states = states.into_tensors(model, frames.envs, frames.trained_segments());
                let segments = model.config().segments.most;
                let frames = TensorFrames::new(
                    frames,
                    &states,
                    &passes,
                    config.bptt_ticks,
                    threads,
                    segments,
                );
                Self::Libtorch((0..threads).map(|_| frames.share()).collect())
            }
        }
    }

    /// Returns the gradient of a minibatch's mean loss, summed over the threads of `pool`. `units` is its place in the
    /// order of all passes.
    pub(crate) fn gradient(
        &mut self,
        model: &Hrm,
        units: Range<usize>,
        config: &LossConfig,
        pool: &rayon::ThreadPool,
    ) -> MinibatchGradient {
        MinibatchGradient::sum(&match self {
            Self::Native(frames) => native::minibatch(model, frames, units, config, pool),
            Self::Libtorch(shares) => libtorch::minibatch(model, shares, units, config, pool),
        })
    }
}
