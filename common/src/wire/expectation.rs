//! The properties that a valid unroll of a run must have.

use crate::{
    config::Config,
    env::ACTIONS,
    model::{Dtype, Segments},
    trajectory::UnrollShape,
};

/// Largest valid magnitude of a behaviour logit. A policy with such logits no longer explores, and only a faulty or
/// hostile peer sends larger ones.
pub const MAX_LOGIT: f32 = 1.0e4;

/// Largest valid magnitude of an element of the carry. Every block ends in RMSNorm, so a model's own elements stay
/// below the square root of its width. Larger elements overflow in the model, and one such row makes a whole batch
/// useless.
pub const MAX_CARRY: f32 = 1.0e4;

/// The properties that a valid unroll of this run must have.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The sizes from the run's configuration.
    pub shape: UnrollShape,
    /// The segments of a decision from the run's configuration.
    pub segments: Segments,
    /// The dtype of the carry from the run's configuration.
    pub carry_dtype: Dtype,
    /// The fingerprint of the run's model.
    pub model_fingerprint: u64,
    /// The longest episode of the run's mazes, in steps.
    pub max_steps: u32,
}

impl Expectation {
    /// Returns the expectation of a run with this configuration and model fingerprint.
    pub fn new(config: &Config, model_fingerprint: u64) -> Self {
        Self {
            shape: config.spec().unroll_shape(),
            segments: config.model.segments,
            carry_dtype: config.rollout.carry_dtype,
            model_fingerprint,
            max_steps: config.env.max_steps,
        }
    }

    /// Returns the size of the largest valid message, in bytes. The gRPC layer rejects larger ones.
    pub fn max_message_size(&self) -> usize {
        let UnrollShape {
            ticks,
            envs,
            tokens,
            carry,
        } = self.shape;
        let frames = ticks * envs;
        let arrays = (frames + envs) * tokens // tokens
            // segments and their log-probabilities, actions, rewards, flags, behaviour logits
            + frames * (1 + 4 + 1 + 4 + 1 + 4 * ACTIONS)
            + envs * carry * self.carry_dtype.size()
            + frames * tokens // final tokens
            + ticks * 10 // versions as varints
            + frames * 32 // episode summaries
            + envs * 5; // running distances as varints
        arrays + 4096
    }
}
