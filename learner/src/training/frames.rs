//! A batch flattened to frames with the targets of training: what minibatches are drawn from.

use std::ops::Range;

use hrm_common::{config::LossConfig, model::Segments};
use tch::Tensor;

use crate::training::{
    advantage,
    batch::Batch,
    halting::{HaltTargets, Traced, log_probs_of_numbers},
    host::host,
    loss::Targets,
    recompute::Recomputed,
    vtrace::{VTraceConfig, VTraceInput, importance_weights, vtrace},
};

/// A batch flattened to frames, from which minibatches are drawn.
pub(crate) struct Frames {
    pub(crate) envs: usize,
    /// u8 `[T * B, S]`.
    pub(crate) tokens: Tensor,
    /// `[T * B]`: the segments of each decision.
    pub(crate) segments: Vec<u8>,
    /// bool `[T * B]`.
    pub(crate) ended: Tensor,
    pub(crate) targets: Targets,
    /// Share of frames whose importance weight exceeds rho-bar by more than rounding.
    pub(crate) rho_clipped: f32,
    /// Share of frames whose importance weight exceeds c-bar by more than rounding.
    pub(crate) c_clipped: f32,
    /// Of the frames at policy lag 0, if there are any.
    pub(crate) lag_zero: Option<LagZero>,
}

/// Size of log(pi/mu) where both have the same weights: what only other kernels or another device change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LagZero {
    /// Its mean.
    pub mean: f64,
    /// Its maximum.
    pub max: f64,
}

impl LagZero {
    /// Measures the frames of unrolls at lag 0. `log_rhos` is `[T, B]`, and the unrolls have equal parts of B = `envs`.
    fn new(log_rhos: &[f32], envs: usize, lags: &[u64]) -> Option<Self> {
        let (mut sum, mut max, mut count) = (0.0, 0.0, 0);
        for (frame, log_rho) in log_rhos.iter().enumerate() {
            if lags[frame % envs * lags.len() / envs] == 0 {
                let size = f64::from(log_rho.abs());
                sum += size;
                max = f64::max(max, size);
                count += 1;
            }
        }
        (count > 0).then(|| Self {
            mean: sum / f64::from(count),
            max,
        })
    }
}

impl Frames {
    /// Computes V-trace's targets and flattens the batch with them. `range` are the segments that a decision can have.
    /// The tensors are on the batch's device.
    pub(crate) fn new(
        batch: &Batch,
        recomputed: &Recomputed,
        range: Segments,
        config: &LossConfig,
    ) -> Self {
        let device = batch.tokens.device();
        let frames = batch.frames() as i64;
        let ended: Vec<bool> = batch.flags.iter().map(|&f| f != 0).collect();
        let first = config.first_trained_segment(range);
        let mut log_rhos = log_rhos(batch, recomputed, first);
        // A decision's last segment chose its action.
        let last = batch
            .segments
            .iter()
            .map(|&segments| usize::from(segments) - 1 - first);
        let last: Vec<usize> = last.collect();
        let thoughts = recomputed.thoughts.as_deref().unwrap_or_default();
        if range.halts_by_chance() {
            // The number of segments was chosen too.
            let numbers = log_probs_of_numbers(range, thoughts).into_iter();
            let log_rhos_of_numbers = numbers.zip(&batch.halt_log_probs).map(|(pi, mu)| pi - mu);
            for (frame, (&segment, log_rho)) in last.iter().zip(log_rhos_of_numbers).enumerate() {
                log_rhos[segment][frame] += log_rho;
            }
        }
        let of_last = last.iter().enumerate();
        let log_rhos_of_last: Vec<f32> = of_last
            .map(|(frame, &segment)| log_rhos[segment][frame])
            .collect();
        let (values, next_values) = (host(&recomputed.values), host(&recomputed.next_values));
        let traced = vtrace(
            VTraceInput {
                batch: batch.envs,
                log_rhos: &log_rhos_of_last,
                rewards: &batch.rewards,
                values: &values,
                next_values: &next_values,
                ended: &ended,
            },
            VTraceConfig {
                gamma: config.gamma as f32,
                lambda: config.lambda as f32,
                rho_bar: config.rho_bar as f32,
                c_bar: config.c_bar as f32,
            },
        );
        let weighted = |log_rhos: &[f32]| {
            let rhos = importance_weights(log_rhos, config.rho_bar as f32);
            match config.normalize_advantages {
                true => advantage::normalized(&traced.advantages, &rhos, device),
                false => advantage::weighted(&traced.advantages, &rhos, device),
            }
        };
        // Without deep supervision, the one trained segment of a frame is its last.
        let advantages: Vec<Tensor> = match config.deep_supervision {
            true => log_rhos.iter().map(|log_rhos| weighted(log_rhos)).collect(),
            false => {
                let weighted = weighted(&log_rhos_of_last);
                log_rhos.iter().map(|_| weighted.shallow_clone()).collect()
            }
        };
        let returns = traced.advantages.iter().zip(&values);
        let returns: Vec<f32> = returns
            .map(|(advantage, value)| advantage + value)
            .collect();
        let of_trace = Traced {
            returns: &returns,
            log_rhos: &log_rhos,
            log_rhos_of_all: &log_rhos_of_last,
        };
        Self {
            envs: batch.envs,
            tokens: batch.tokens.narrow(0, 0, batch.ticks as i64).flatten(0, 1),
            segments: batch.segments.clone(),
            ended: Tensor::from_slice(&ended).to_device(device),
            targets: Targets {
                actions: batch.actions.view(frames),
                start_log_probs: recomputed.log_probs.flatten(0, 1),
                advantages: Tensor::stack(&advantages, 1),
                values: Tensor::from_slice(&traced.targets).to_device(device),
                halt: HaltTargets::new(range, thoughts, of_trace, config, device),
                shares: range
                    .is_range()
                    .then(|| shares(&batch.segments, first..range.most, config).to_device(device)),
            },
            rho_clipped: traced.rho_clipped,
            c_clipped: traced.c_clipped,
            lag_zero: LagZero::new(&log_rhos_of_last, batch.envs, &batch.lags),
        }
    }

    /// Returns the number of segments that can be trained.
    pub(crate) fn trained_segments(&self) -> usize {
        self.targets.advantages.size()[1] as usize
    }

    /// Returns the tokens of the first tick.
    pub(crate) fn first_tick(&self) -> Tensor {
        self.tokens.narrow(0, 0, self.envs as i64)
    }

    /// Returns the same tensors for another thread, without a copy.
    pub(crate) fn share(&self) -> Self {
        Self {
            tokens: self.tokens.shallow_clone(),
            segments: self.segments.clone(),
            ended: self.ended.shallow_clone(),
            targets: self.targets.share(),
            ..*self
        }
    }
}

/// Returns log(pi/mu) of each segment from `first` on, `[segments][T * B]`. It is minus infinity, an importance weight
/// of 0, where the decision did not run the segment.
fn log_rhos(batch: &Batch, recomputed: &Recomputed, first: usize) -> Vec<Vec<f32>> {
    let of_segment = |slot: i64| {
        let log_probs = host(&recomputed.log_probs.select(2, slot));
        let both = log_probs.iter().zip(&batch.behaviour_log_probs);
        let number = first + slot as usize + 1;
        let log_rhos = both.zip(&batch.segments).map(|((pi, mu), &segments)| {
            match usize::from(segments) < number {
                true => f32::NEG_INFINITY,
                false => pi - mu,
            }
        });
        log_rhos.collect()
    };
    (0..recomputed.log_probs.size()[2])
        .map(of_segment)
        .collect()
}

/// Returns the shares of `trained` segments in the loss of frames with so many segments, f32 `[m, segments]`.
fn shares(segments: &[u8], trained: Range<usize>, config: &LossConfig) -> Tensor {
    let width = trained.len() as i64;
    let of_frame = |&segments: &u8| {
        let share = move |segment| config.share_of_segment(segment, segments.into()) as f32;
        trained.clone().map(share)
    };
    let shares: Vec<f32> = segments.iter().flat_map(of_frame).collect();
    Tensor::from_slice(&shares).view([-1, width])
}

#[cfg(test)]
mod tests {
    use hrm_common::env::ACTIONS;
    use hrm_common::model::native::HeadOutputs;
    use tch::{Device, Kind};

    use super::*;
    use crate::training::{
        log_softmax::log_softmax,
        loss::{FrameTargets, frame_loss},
        states::{HostStates, States},
    };

    /// Four environments that take one action each, with the probabilities `mu` of the last segment, and an earlier
    /// segment with other probabilities. The raw advantage of each is 0.5.
    fn every_action(last: [f32; ACTIONS], earlier: [f32; ACTIONS]) -> (Batch, Recomputed) {
        let (last, earlier) = (log_softmax(&last), log_softmax(&earlier));
        let envs = ACTIONS as i64;
        let log_probs: Vec<f32> = (0..ACTIONS).flat_map(|a| [earlier[a], last[a]]).collect();
        let batch = Batch {
            ticks: 1,
            envs: ACTIONS,
            tokens: Tensor::zeros([2, envs, 1], (Kind::Uint8, Device::Cpu)),
            segments: vec![2; ACTIONS],
            halt_log_probs: vec![],
            actions: Tensor::arange(envs, (Kind::Int64, Device::Cpu)).view([1, envs]),
            rewards: vec![0.5; ACTIONS],
            flags: vec![hrm_common::env::flag::TERMINATED; ACTIONS],
            behaviour_log_probs: last.to_vec(),
            carry: Tensor::zeros([2, envs, 0], (Kind::Float, Device::Cpu)),
            final_tokens: Tensor::zeros([0, 1], (Kind::Uint8, Device::Cpu)),
            final_indices: vec![],
            played: vec![],
            lags: vec![0],
        };
        let zeros = || Tensor::zeros([1, envs], (Kind::Float, Device::Cpu));
        let recomputed = Recomputed {
            states: States::Host(HostStates {
                carries: vec![vec![]; ACTIONS],
                prefixes: None,
            }),
            log_probs: Tensor::from_slice(&log_probs).view([1, envs, 2]),
            thoughts: None,
            values: zeros(),
            next_values: zeros(),
        };
        (batch, recomputed)
    }

    /// Returns the expected policy gradient of the earlier segment by its logits: over actions drawn from `last`.
    fn expected_gradient(
        last: [f32; ACTIONS],
        earlier: [f32; ACTIONS],
        rho_bar: f64,
    ) -> [f64; ACTIONS] {
        let config = LossConfig {
            rho_bar,
            normalize_advantages: false,
            deep_supervision: true,
            entropy_cost: 0.0,
            value_cost: 0.0,
            ..LossConfig::default()
        };
        let (batch, recomputed) = every_action(last, earlier);
        let frames = Frames::new(&batch, &recomputed, Segments::new(2), &config);
        let advantages = host(&frames.targets.advantages);
        let mu = log_softmax(&last).map(|log_prob| f64::from(log_prob).exp());
        let mut sum = [0.0; ACTIONS];
        for action in 0..ACTIONS {
            let heads = HeadOutputs {
                logits: earlier,
                ..HeadOutputs::default()
            };
            let targets = FrameTargets {
                action,
                start_log_prob: log_softmax(&earlier)[action],
                advantage: advantages[2 * action],
                value: 0.0,
            };
            let (_, gradients) = frame_loss(&heads, &targets, &config, 1.0);
            for (sum, gradient) in sum.iter_mut().zip(gradients.logits) {
                *sum += mu[action] * f64::from(gradient);
            }
        }
        sum
    }

    /// The expectation of `pi_s/mu grad log pi_s` is the gradient of a sum of probabilities, which is 1.
    #[test]
    fn an_earlier_segment_has_its_own_importance_weight() {
        let (last, earlier) = ([0.4, -0.3, 0.9, 0.1], [-0.2, 0.5, 0.1, 0.3]);
        for gradient in expected_gradient(last, earlier, 10.0) {
            assert!(gradient.abs() < 1e-6, "{gradient:e}");
        }
        // With truncation: -A (m_i - pi_i sum m), where m = min(rho_bar mu, pi_s).
        let probs =
            |logits: [f32; ACTIONS]| log_softmax(&logits).map(|log_prob| f64::from(log_prob).exp());
        let (mu, pi) = (probs(last), probs(earlier));
        let masses: Vec<f64> = mu.iter().zip(pi).map(|(mu, pi)| pi.min(0.8 * mu)).collect();
        let total: f64 = masses.iter().sum();
        assert!(total < 0.95, "nothing is truncated");
        let found = expected_gradient(last, earlier, 0.8);
        for ((found, mass), pi) in found.into_iter().zip(masses).zip(pi) {
            let expected = -0.5 * (mass - pi * total);
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn only_unrolls_at_lag_0_count() {
        // Two ticks of three unrolls with two environments each.
        let log_rhos = [
            9.0, 9.0, -0.5, 0.25, 9.0, 9.0, //
            9.0, 9.0, 0.0, 0.25, 9.0, 9.0,
        ];
        let found = LagZero::new(&log_rhos, 6, &[32, 0, 8]);
        let expected = LagZero {
            mean: 0.25,
            max: 0.5,
        };
        assert_eq!(found, Some(expected));
        assert_eq!(LagZero::new(&log_rhos, 6, &[1, 2, 3]), None);
    }
}
