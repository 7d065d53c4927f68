//! The gradient by the kernels that act, for CPUs.

use hrm_common::{
    config::LossConfig,
    model::{Parameters, native::OneStepGradient},
};
use rayon::{iter::ParallelIterator as _, slice::ParallelSlice as _};
use tch::Tensor;

use super::parts::Gradients;
use crate::training::{
    frames::Frames,
    host::{bytes, host},
    loss::{FrameLoss, FrameTargets, frame_loss},
    model::Hrm,
};

/// True where the kernels compute the gradient.
pub(super) fn supports(model: &Hrm, config: &LossConfig) -> bool {
    config.bptt_ticks == 1 && OneStepGradient::supports(model.config().mixing)
}

/// A batch's frames outside libtorch. A unit is one frame.
pub(crate) struct HostFrames {
    /// `[frames, S]`.
    tokens: Vec<u8>,
    /// `[2, frames, ...]`.
    carries: Vec<f32>,
    /// Numbers of the carry of one frame, of `zH` or of `zL`.
    carried: usize,
    actions: Vec<f32>,
    /// `[frames, segments]`.
    start_log_probs: Vec<f32>,
    advantages: Vec<f32>,
    values: Vec<f32>,
}

impl HostFrames {
    pub(super) fn new(frames: &Frames) -> Self {
        let targets = &frames.targets;
        let carries = host(&frames.carries);
        Self {
            tokens: bytes(&frames.tokens),
            carried: carries.len() / 2 / frames.units() as usize,
            carries,
            actions: host(&targets.actions),
            start_log_probs: host(&targets.start_log_probs),
            advantages: host(&targets.advantages),
            values: host(&targets.values),
        }
    }

    fn frames(&self) -> usize {
        self.actions.len()
    }

    fn tokens(&self, frame: usize) -> &[u8] {
        let observed = self.tokens.len() / self.frames();
        &self.tokens[frame * observed..][..observed]
    }

    /// `zH` and `zL` before a frame.
    fn carry(&self, frame: usize) -> [&[f32]; 2] {
        [frame, self.frames() + frame].map(|at| &self.carries[at * self.carried..][..self.carried])
    }

    /// The targets of a frame's trained segment.
    fn targets(&self, frame: usize, segment: usize) -> FrameTargets {
        let segments = self.start_log_probs.len() / self.frames();
        FrameTargets {
            action: self.actions[frame] as usize,
            start_log_prob: self.start_log_probs[frame * segments + segment],
            advantage: self.advantages[frame],
            value: self.values[frame],
        }
    }
}

/// Returns the gradient of a minibatch's mean loss.
pub(super) fn minibatch(
    model: &Hrm,
    frames: &HostFrames,
    units: &[i64],
    config: &LossConfig,
    pool: &rayon::ThreadPool,
) -> Gradients {
    let parameters = model.to_parameters();
    let scale = 1.0 / units.len() as f64;
    let shard = units.len().div_ceil(pool.current_num_threads());
    let parts: Vec<Gradients> = pool.install(|| {
        units
            .par_chunks(shard)
            .map(|units| shard_gradients(&parameters, frames, units, config, scale))
            .collect()
    });
    Gradients::sum(&parts)
}

fn shard_gradients(
    parameters: &Parameters,
    frames: &HostFrames,
    units: &[i64],
    config: &LossConfig,
    scale: f64,
) -> Gradients {
    let segments = parameters.config().segments;
    // The first segment that is trained.
    let first = if config.deep_supervision {
        0
    } else {
        segments - 1
    };
    let scale = scale / (segments - first) as f64;
    let mut gradient = OneStepGradient::new(parameters);
    let mut sums = FrameLoss::default();
    for &unit in units {
        let frame = unit as usize;
        gradient.add(
            frames.tokens(frame),
            frames.carry(frame),
            |segment, heads| {
                let segment = segment.checked_sub(first)?;
                let targets = frames.targets(frame, segment);
                let (loss, gradients) = frame_loss(&heads, &targets, config, scale);
                sums += loss;
                Some(gradients)
            },
        );
    }
    Gradients {
        flat: Tensor::from_slice(&gradient.finish()),
        policy: sums.policy * scale,
        value: sums.value * scale,
        entropy: sums.entropy * scale,
    }
}
