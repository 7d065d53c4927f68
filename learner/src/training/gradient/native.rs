//! The gradient by the kernels that act, for CPUs.

use std::ops::Range;

use hrm_common::{
    config::LossConfig,
    model::{
        Parameters,
        native::{HeadGradients, HeadOutputs, OneStepGradient},
    },
};
use rayon::{iter::ParallelIterator as _, slice::ParallelSlice as _};
use tch::Tensor;

use super::parts::Part;
use crate::training::{
    frames::Frames,
    halting::{self, HaltLoss},
    host::{bytes, host},
    loss::{FrameLoss, FrameTargets, frame_loss},
    model::Hrm,
    states::HostStates,
};

/// A batch's frames outside libtorch. A unit is one frame.
pub(crate) struct HostFrames {
    /// `[frames, S]`.
    tokens: Vec<u8>,
    states: HostStates,
    /// The segments of each frame's decision.
    segments: Vec<u8>,
    actions: Vec<f32>,
    /// `[frames, segments]`.
    start_log_probs: Vec<f32>,
    /// `[frames, segments]`.
    advantages: Vec<f32>,
    values: Vec<f32>,
    /// The kind of the halt head's loss, if it is trained, and its numbers `[frames, segments, 4]`.
    halt: Option<(HaltLoss, Vec<f32>)>,
    /// The frames of all passes, one after the other.
    order: Vec<i64>,
}

impl HostFrames {
    pub(super) fn new(frames: &Frames, states: HostStates, order: Vec<i64>) -> Self {
        let targets = &frames.targets;
        Self {
            tokens: bytes(&frames.tokens),
            states,
            segments: frames.segments.clone(),
            actions: host(&targets.actions),
            start_log_probs: host(&targets.start_log_probs),
            advantages: host(&targets.advantages),
            values: host(&targets.values),
            halt: (targets.halt.as_ref()).map(|halt| (halt.loss, host(&halt.numbers))),
            order,
        }
    }

    fn frames(&self) -> usize {
        self.actions.len()
    }

    fn tokens(&self, frame: usize) -> &[u8] {
        let observed = self.tokens.len() / self.frames();
        &self.tokens[frame * observed..][..observed]
    }

    /// Makes a frame's decision and adds the gradient of its `loss`. `is_trained` is true for the segments with a loss,
    /// and `first` is the first that a decision can train.
    fn add_to(
        &self,
        gradient: &mut OneStepGradient,
        frame: usize,
        first: usize,
        is_trained: impl Fn(usize) -> bool,
        mut loss: impl FnMut(usize, HeadOutputs) -> Option<HeadGradients>,
    ) {
        let tokens = self.tokens(frame);
        match &self.states.prefixes {
            None => {
                let carry = &self.states.carries[frame];
                let carry = carry.split_at(carry.len() / 2).into();
                gradient.add(tokens, self.segments[frame].into(), carry, loss);
            }
            Some(prefixes) => {
                let kept = &prefixes[frame];
                let segments = first..usize::from(self.segments[frame]);
                let prefixes = kept.chunks_exact(kept.len() / segments.len());
                for (segment, prefix) in segments.zip(prefixes).filter(|(s, _)| is_trained(*s)) {
                    gradient.add_from_prefix(tokens, segment, prefix, &mut loss);
                }
            }
        }
    }

    /// The targets of a frame's segment, counted from the first that can be trained.
    fn targets(&self, frame: usize, segment: usize) -> FrameTargets {
        let segments = self.start_log_probs.len() / self.frames();
        FrameTargets {
            action: self.actions[frame] as usize,
            start_log_prob: self.start_log_probs[frame * segments + segment],
            advantage: self.advantages[frame * segments + segment],
            value: self.values[frame],
        }
    }

    /// The loss of the halt head in a frame's segment, counted from the first that can be trained, and the gradient of
    /// `scale` times it by the head's numbers.
    fn halt_loss(
        &self,
        (frame, segment): (usize, usize),
        halt: [f32; 2],
        config: &LossConfig,
        scale: f64,
    ) -> (f64, [f32; 2]) {
        let Some((loss, numbers)) = &self.halt else {
            return Default::default();
        };
        let segments = self.start_log_probs.len() / self.frames();
        let (targets, _) = numbers.as_chunks();
        let target = targets[frame * segments + segment];
        halting::frame_loss(halt, *loss, target, config, scale)
    }
}

/// Returns the parts of the gradient of a minibatch's mean loss, one per shard.
pub(super) fn minibatch(
    model: &Hrm,
    frames: &HostFrames,
    units: Range<usize>,
    config: &LossConfig,
    pool: &rayon::ThreadPool,
) -> Vec<Part> {
    let parameters = model.to_parameters();
    let units = &frames.order[units];
    let scale = 1.0 / units.len() as f64;
    let shard = units.len().div_ceil(pool.current_num_threads());
    pool.install(|| {
        units
            .par_chunks(shard)
            .map(|units| shard_gradients(&parameters, frames, units, config, scale))
            .collect()
    })
}

fn shard_gradients(
    parameters: &Parameters,
    frames: &HostFrames,
    units: &[i64],
    config: &LossConfig,
    scale: f64,
) -> Part {
    let first = config.first_trained_segment(parameters.config().segments);
    let mut gradient = OneStepGradient::new(parameters);
    let mut sums = FrameLoss::default();
    for &unit in units {
        let frame = unit as usize;
        let segments = usize::from(frames.segments[frame]);
        let share = |segment: usize| config.share_of_segment(segment, segments);
        let is_trained = |segment: usize| share(segment) > 0.0 || frames.halt.is_some();
        frames.add_to(&mut gradient, frame, first, is_trained, |segment, heads| {
            if !is_trained(segment) {
                return None;
            }
            let share = share(segment);
            let targets = frames.targets(frame, segment - first);
            let (loss, mut gradients) = frame_loss(&heads, &targets, config, scale * share);
            sums += loss * share;
            let at = (frame, segment - first);
            let (halt_loss, of_halt) = frames.halt_loss(at, heads.halt, config, scale);
            sums.halt += halt_loss;
            gradients.halt = of_halt;
            Some(gradients)
        });
    }
    let losses = [sums.policy, sums.value, sums.entropy, sums.halt].map(|sum| sum * scale);
    let losses = &losses[..if frames.halt.is_some() { 4 } else { 3 }];
    Part::new(
        units.len(),
        Tensor::from_slice(&gradient.finish()),
        Tensor::from_slice(losses),
    )
}
