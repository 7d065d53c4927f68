//! Targets and loss of the halt head.
//!
//! The rules *value* and *agreement* read the head's numbers as logits of two estimates from 0 to 1. Those are trained
//! by cross-entropy:
//!
//! - *value*: the return after halting, and after another segment (Q-learning, arXiv 2506.21734, section 2). The first
//!   one's target is the target of the action's value, `q = r + gamma v'`, weighted by `min(rho_bar, pi_s/mu)`: over
//!   actions of mu, its expectation is then the value of segment s's policy. The second one's target is the larger
//!   estimate after the next segment, less the cost of a segment. Returns are scaled from `loss.halt_least_return` and
//!   `loss.halt_most_return` to 0 and 1.
//! - *agreement*: whether the most probable action is that after the most segments, in decisions that ran so many.
//!
//! The rule *policy* makes halting a choice of the policy. After segment n of a decision of K, the advantage of that
//! choice is `q - segment_cost (K - n) - V_n`, where `V_n` is the value after segment n. All choices of a decision and
//! its action have one importance weight, `min(rho_bar, pi(K, a) / mu(K, a))`. In later passes each choice has its own
//! clipped ratio, as the action has.

use hrm_common::{
    config::LossConfig,
    model::{Halt, Segments, halt_log_probs, log_sigmoid, native::HeadOutputs},
    policy::greedy,
};
use tch::{Device, Kind, Tensor};

use crate::training::{advantage, host::host, surrogate, vtrace::importance_weights};

/// The numbers of a segment's target.
const NUMBERS: usize = 4;

/// The kind of the halt head's loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HaltLoss {
    /// Two estimates. A target has that of each, then the weight of each.
    Estimates,
    /// A choice. A target has 1 where there is one, 1 if it was to halt, the log-probability of the choice with the
    /// weights from before the batch's updates, and the advantage with its importance weight.
    Choices,
}

/// The targets of frames, of every segment that can be trained.
#[derive(Debug)]
pub(crate) struct HaltTargets {
    /// The meaning of the numbers.
    pub(crate) loss: HaltLoss,
    /// f32 `[m, segments, 4]`; zeros for segments without a target.
    pub(crate) numbers: Tensor,
}

/// The results of V-trace that the targets follow from, `[T * B]` each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traced<'a> {
    /// The targets of the action's value, `q`.
    pub(crate) returns: &'a [f32],
    /// log(pi/mu) of the action by each segment that can be trained, `[segments][T * B]`.
    pub(crate) log_rhos: &'a [Vec<f32>],
    /// log(pi/mu) of the action and the number of segments.
    pub(crate) log_rhos_of_all: &'a [f32],
}

impl HaltTargets {
    /// Computes the targets of a batch on `device`, from the outputs after each segment of each decision, `[T * B]`.
    /// Returns `None` for a rule that does not read the head.
    pub(crate) fn new(
        range: Segments,
        thoughts: &[Vec<HeadOutputs>],
        traced: Traced<'_>,
        config: &LossConfig,
        device: Device,
    ) -> Option<Self> {
        let first = config.first_trained_segment(range);
        let width = range.most - first;
        let mut numbers = vec![[0.0; NUMBERS]; thoughts.len() * width];
        let at = |frame: usize, number: usize| frame * width + number - 1 - first;
        let loss = match range.halt? {
            Halt::Change(_) | Halt::Entropy(_) => return None,
            Halt::Value => {
                let rho_bar = config.rho_bar as f32;
                let weights = traced.log_rhos.iter();
                let weights: Vec<_> = weights.map(|l| importance_weights(l, rho_bar)).collect();
                for (frame, thoughts) in thoughts.iter().enumerate() {
                    let share = 1.0 / thoughts.len() as f32;
                    let halted = scaled(traced.returns[frame], config);
                    for number in range.least..=thoughts.len() {
                        let next = thoughts.get(number).map(|next| {
                            let of_next = continued(next, number + 1 == range.most, config);
                            (of_next, share)
                        });
                        let (continued, weight) = next.unwrap_or_default();
                        let slot = number - 1 - first;
                        numbers[at(frame, number)] =
                            [halted, continued, share * weights[slot][frame], weight];
                    }
                }
                HaltLoss::Estimates
            }
            Halt::Agreement(_) => {
                let whole = |thoughts: &&Vec<HeadOutputs>| thoughts.len() == range.most;
                for (frame, thoughts) in thoughts.iter().enumerate() {
                    let Some(last) = Some(thoughts).filter(whole).and_then(|t| t.last()) else {
                        continue;
                    };
                    let share = 1.0 / thoughts.len() as f32;
                    for number in range.least..range.most {
                        let agrees = greedy(&thoughts[number - 1].logits) == greedy(&last.logits);
                        let target = f32::from(u8::from(agrees));
                        numbers[at(frame, number)] = [target, 0.0, share, 0.0];
                    }
                }
                HaltLoss::Estimates
            }
            Halt::Policy => {
                for (frame, number, choice) in choices(range, thoughts, traced, config) {
                    numbers[at(frame, number)] = choice;
                }
                HaltLoss::Choices
            }
        };
        let shape = [thoughts.len() as i64, width as i64, NUMBERS as i64];
        let numbers = Tensor::from_slice(numbers.as_flattened()).view(shape);
        Some(Self {
            loss,
            numbers: numbers.to_device(device),
        })
    }

    /// Returns the targets of some frames, i64 `[m]`.
    pub(crate) fn select(&self, frames: &Tensor) -> Self {
        Self {
            numbers: self.numbers.index_select(0, frames),
            ..*self
        }
    }

    /// Returns the same tensors for another thread, without a copy.
    pub(crate) fn share(&self) -> Self {
        Self {
            numbers: self.numbers.shallow_clone(),
            ..*self
        }
    }
}

/// Scales a return from the stated range to 0 and 1. Returns outside of it become 0 or 1.
fn scaled(returned: f32, config: &LossConfig) -> f32 {
    let (least, most) = (config.halt_least_return, config.halt_most_return);
    ((f64::from(returned) - least) / (most - least)).clamp(0.0, 1.0) as f32
}

/// Returns the target of another segment, from the outputs after the next segment. After the last one a decision only halts.
fn continued(next: &HeadOutputs, is_last: bool, config: &LossConfig) -> f32 {
    let [halted, continued] = next.halt.map(|logit| log_sigmoid(logit).exp());
    let best = if is_last {
        halted
    } else {
        halted.max(continued)
    };
    let cost = config.segment_cost / (config.halt_most_return - config.halt_least_return);
    (f64::from(best) - cost).clamp(0.0, 1.0) as f32
}

/// Returns the log-probability of each decision's number of segments, by the rule *policy*.
pub(crate) fn log_probs_of_numbers(range: Segments, thoughts: &[Vec<HeadOutputs>]) -> Vec<f32> {
    let of_decision = |thoughts: &Vec<HeadOutputs>| {
        let choices = choice_log_probs(range, thoughts);
        choices.map(|(_, _, log_prob)| log_prob).sum()
    };
    thoughts.iter().map(of_decision).collect()
}

/// Returns the choices of a decision: the number of segments after which each was made, whether it was to halt, and its
/// log-probability.
fn choice_log_probs(
    range: Segments,
    thoughts: &[HeadOutputs],
) -> impl Iterator<Item = (usize, bool, f32)> {
    let asked = range.least..=thoughts.len().min(range.most - 1);
    asked.map(|number| {
        let [halts, continues] = halt_log_probs(thoughts[number - 1].halt);
        match number == thoughts.len() {
            true => (number, true, halts),
            false => (number, false, continues),
        }
    })
}

/// Returns the target of each choice, with its frame and the number of segments after which it was made.
fn choices(
    range: Segments,
    thoughts: &[Vec<HeadOutputs>],
    traced: Traced<'_>,
    config: &LossConfig,
) -> Vec<(usize, usize, [f32; NUMBERS])> {
    let (mut places, mut advantages, mut log_rhos) = (vec![], vec![], vec![]);
    for (frame, thoughts) in thoughts.iter().enumerate() {
        for (number, halts, log_prob) in choice_log_probs(range, thoughts) {
            let paid = config.segment_cost as f32 * (thoughts.len() - number) as f32;
            let value = thoughts[number - 1].value;
            advantages.push(traced.returns[frame] - paid - value);
            log_rhos.push(traced.log_rhos_of_all[frame]);
            places.push((frame, number, f32::from(u8::from(halts)), log_prob));
        }
    }
    if places.is_empty() {
        return Vec::new();
    }
    let rhos = importance_weights(&log_rhos, config.rho_bar as f32);
    let weighted = match config.normalize_advantages {
        true => advantage::normalized(&advantages, &rhos, Device::Cpu),
        false => advantage::weighted(&advantages, &rhos, Device::Cpu),
    };
    let targets = places.into_iter().zip(host(&weighted));
    let target = |((frame, number, halts, log_prob), advantage)| {
        (frame, number, [1.0, halts, log_prob, advantage])
    };
    targets.map(target).collect()
}

/// Computes the loss of the halt head in one segment of some frames, from its numbers f32 `[m, 2]` and their targets
/// f32 `[m, 4]`. It is summed over the frames.
pub(crate) fn segment_loss(
    halt: &Tensor,
    loss: HaltLoss,
    targets: &Tensor,
    config: &LossConfig,
) -> Tensor {
    let (first, second) = (targets.narrow(1, 0, 2), targets.narrow(1, 2, 2));
    match loss {
        HaltLoss::Estimates => {
            let cross_entropy = halt.clamp_min(0.0) - halt * first + (-halt.abs()).exp().log1p();
            (cross_entropy * second).sum(Kind::Float) * config.halt_cost
        }
        HaltLoss::Choices => {
            let (asked, halts) = (first.select(1, 0), first.select(1, 1));
            let (start_log_probs, advantages) = (second.select(1, 0), second.select(1, 1));
            let logit = halt.select(1, 0) - halt.select(1, 1);
            let sign = &halts * 2.0 - 1.0;
            let ratio = ((&logit * sign).log_sigmoid() - start_log_probs).exp();
            let surrogate = surrogate::clipped(&ratio, &advantages, config.clip);
            let probability = logit.sigmoid();
            let entropy = -(&logit * &probability) - (-&logit).log_sigmoid();
            let entropy = entropy * config.entropy_cost;
            ((surrogate + entropy) * -asked).sum(Kind::Float)
        }
    }
}

/// Computes [`segment_loss`] of one frame, and the gradient of `scale` times it by the head's numbers.
///
/// With the logit `d` of halting and its probability `h`, the entropy of a choice is `-d h - ln(1 - h)`, and its
/// derivative is `-d h (1 - h)`.
pub(crate) fn frame_loss(
    halt: [f32; 2],
    loss: HaltLoss,
    target: [f32; NUMBERS],
    config: &LossConfig,
    scale: f64,
) -> (f64, [f32; 2]) {
    let [a, b, c, d] = target.map(f64::from);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let log_sigmoid = |x: f64| x.min(0.0) - (-x.abs()).exp().ln_1p();
    match loss {
        HaltLoss::Estimates => {
            let cost = config.halt_cost;
            let mut sum = 0.0;
            let mut gradients = [0.0; 2];
            let estimates = halt.into_iter().zip([(a, c), (b, d)]);
            for (gradient, (logit, (target, weight))) in gradients.iter_mut().zip(estimates) {
                let x = f64::from(logit);
                sum -= weight * (target * log_sigmoid(x) + (1.0 - target) * log_sigmoid(-x));
                *gradient = (scale * cost * weight * (sigmoid(x) - target)) as f32;
            }
            (cost * sum, gradients)
        }
        HaltLoss::Choices if a == 0.0 => (0.0, [0.0; 2]),
        HaltLoss::Choices => {
            let (halts, start_log_prob, advantage) = (b, c, d);
            let logit = f64::from(halt[0]) - f64::from(halt[1]);
            let sign = 2.0 * halts - 1.0;
            let ratio = (log_sigmoid(sign * logit) - start_log_prob).exp();
            let (surrogate, slope) = surrogate::clipped_with_slope(ratio, advantage, config.clip);
            let slope = slope * sign * sigmoid(-sign * logit);
            let probability = sigmoid(logit);
            let entropy = -logit * probability - log_sigmoid(-logit);
            let of_entropy = -logit * probability * (1.0 - probability);
            let gradient = (scale * -(slope + config.entropy_cost * of_entropy)) as f32;
            let total = -(surrogate + config.entropy_cost * entropy);
            (total, [gradient, -gradient])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> LossConfig {
        LossConfig {
            entropy_cost: 0.03,
            normalize_advantages: false,
            segment_cost: 0.02,
            ..LossConfig::default()
        }
    }

    fn thought(halt: [f32; 2], value: f32, best: usize) -> HeadOutputs {
        let mut logits = [0.0; 4];
        logits[best] = 1.0;
        HeadOutputs {
            logits,
            value,
            halt,
        }
    }

    fn range(halt: Halt) -> Segments {
        Segments {
            halt: Some(halt),
            ..Segments::range(1, 3)
        }
    }

    /// Decisions of one, two and three segments.
    fn thoughts() -> Vec<Vec<HeadOutputs>> {
        let all = [
            thought([0.3, -0.2], 0.5, 0),
            thought([1.0, 0.4], 0.25, 1),
            thought([-0.5, 2.0], 0.75, 1),
        ];
        (1..=3).map(|number| all[..number].to_vec()).collect()
    }

    fn targets(halt: Halt, returns: &[f32], config: &LossConfig) -> Option<Vec<[f32; NUMBERS]>> {
        let log_rhos = vec![vec![0.0; 3], vec![-0.7; 3], vec![0.0; 3]];
        let traced = Traced {
            returns,
            log_rhos: &log_rhos,
            log_rhos_of_all: &[0.0, -0.5, 1.0],
        };
        let targets = HaltTargets::new(range(halt), &thoughts(), traced, config, Device::Cpu)?;
        let numbers = host(&targets.numbers);
        Some(numbers.as_chunks().0.to_vec())
    }

    fn sigmoid(x: f32) -> f32 {
        1.0 / (1.0 + (-x).exp())
    }

    fn assert_near(found: &[[f32; NUMBERS]], expected: &[[f32; NUMBERS]]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-5, "{found:?} is not {expected:?}");
            }
        }
    }

    #[test]
    fn estimates_of_returns_are_scaled_and_weighted() {
        let found = targets(Halt::Value, &[0.4, 1.0, -0.2], &config()).expect("targets");
        // From -0.2 and 1 to 0 and 1.
        let cost = 0.02 / 1.2;
        let after_second = sigmoid(1.0) - cost;
        let after_third = sigmoid(-0.5) - cost;
        let (half, third) = (0.5, 1.0 / 3.0);
        let earlier = (-0.7_f32).exp();
        let nothing = [0.0; NUMBERS];
        assert_near(
            &found,
            &[
                [0.5, 0.0, 1.0, 0.0],
                nothing,
                nothing,
                [1.0, after_second, half, half],
                [1.0, 0.0, half * earlier, 0.0],
                nothing,
                [0.0, after_second, third, third],
                [0.0, after_third, third * earlier, third],
                [0.0, 0.0, third, 0.0],
            ],
        );
    }

    #[test]
    fn agreement_is_learned_from_decisions_of_the_most_segments() {
        let found = targets(Halt::Agreement(0.9), &[0.0; 3], &config()).expect("targets");
        let mut expected = [[0.0; NUMBERS]; 9];
        let third = 1.0 / 3.0;
        expected[6] = [0.0, 0.0, third, 0.0];
        expected[7] = [1.0, 0.0, third, 0.0];
        assert_near(&found, &expected);
        assert!(targets(Halt::Entropy(0.1), &[0.0; 3], &config()).is_none());
    }

    #[test]
    fn choices_have_the_return_less_what_the_remaining_segments_cost() {
        let found = targets(Halt::Policy, &[1.0, 0.5, 0.9], &config()).expect("targets");
        let log_prob = |x: f32| sigmoid(x).ln();
        let mut expected = [[0.0; NUMBERS]; 9];
        expected[0] = [1.0, 1.0, log_prob(0.5), 0.5];
        let rho = (-0.5_f32).exp();
        expected[3] = [1.0, 0.0, log_prob(-0.5), rho * (0.5 - 0.02 - 0.5)];
        expected[4] = [1.0, 1.0, log_prob(0.6), rho * (0.5 - 0.25)];
        // The importance weight is clipped at 1. The third segment is the last, so it is no choice.
        expected[6] = [1.0, 0.0, log_prob(-0.5), 0.9 - 0.04 - 0.5];
        expected[7] = [1.0, 0.0, log_prob(-0.6), 0.9 - 0.02 - 0.25];
        assert_near(&found, &expected);
        let log_probs = log_probs_of_numbers(range(Halt::Policy), &thoughts());
        let sums = [
            log_prob(0.5),
            log_prob(-0.5) + log_prob(0.6),
            log_prob(-0.5) + log_prob(-0.6),
        ];
        for (found, expected) in log_probs.into_iter().zip(sums) {
            assert!((found - expected).abs() < 1e-5);
        }
    }

    /// The expected gradient of the choices is that of the expected return less the segments' costs.
    #[test]
    fn choices_ascend_the_expected_return_less_the_costs() {
        let config = LossConfig {
            entropy_cost: 0.0,
            ..config()
        };
        let returns = [0.3_f32, 0.9, 0.6];
        let logits = [0.4_f32, -0.3];
        let of_segments = |logits: [f32; 2]| -> Vec<Vec<HeadOutputs>> {
            let all = [logits[0], logits[1], 0.0].map(|logit| thought([logit, 0.0], 0.37, 0));
            (1..=3).map(|number| all[..number].to_vec()).collect()
        };
        let chances = |logits| {
            let thoughts = of_segments(logits);
            let log_probs = log_probs_of_numbers(range(Halt::Policy), &thoughts);
            log_probs
                .into_iter()
                .map(|log_prob| f64::from(log_prob).exp())
        };
        let objective = |logits| -> f64 {
            let costs = [0.0, 0.02, 0.04];
            let gains = returns
                .iter()
                .zip(costs)
                .map(|(r, cost)| f64::from(*r) - cost);
            chances(logits).zip(gains).map(|(p, gain)| p * gain).sum()
        };
        assert!((chances(logits).sum::<f64>() - 1.0).abs() < 1e-6);
        let zeros = vec![vec![0.0; 3]; 3];
        let traced = Traced {
            returns: &returns,
            log_rhos: &zeros,
            log_rhos_of_all: &[0.0; 3],
        };
        let thoughts = of_segments(logits);
        let found = choices(range(Halt::Policy), &thoughts, traced, &config);
        let mut gradient = [0.0; 2];
        for (p, decision) in chances(logits).zip(0..) {
            for &(frame, number, target) in found.iter().filter(|(frame, ..)| *frame == decision) {
                let halt = thoughts[frame][number - 1].halt;
                let (_, by_head) = frame_loss(halt, HaltLoss::Choices, target, &config, 1.0);
                gradient[number - 1] -= p * f64::from(by_head[0]);
            }
        }
        for (index, found) in gradient.into_iter().enumerate() {
            let step = 1e-2_f32;
            let moved = |by: f32| {
                let mut moved = logits;
                moved[index] += by;
                objective(moved)
            };
            let expected = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
        }
    }

    proptest! {
        #[test]
        fn returns_are_scaled_affinely_into_the_range_of_a_sigmoid(
            returned in -3.0_f32..3.0,
            (least, width) in (-1.0_f64..1.0, 0.01_f64..3.0),
            next in proptest::array::uniform2(-20.0_f32..20.0),
        ) {
            let config = LossConfig {
                halt_least_return: least,
                halt_most_return: least + width,
                ..config()
            };
            let found = scaled(returned, &config);
            prop_assert!((0.0..=1.0).contains(&found));
            let back = least + f64::from(found) * width;
            let clamped = f64::from(returned).clamp(least, least + width);
            prop_assert!((back - clamped).abs() < 1e-5, "{back} is not {clamped}");
            for is_last in [true, false] {
                let next = continued(&thought(next, 0.0, 0), is_last, &config);
                prop_assert!((0.0..=1.0).contains(&next));
            }
        }

        #[test]
        fn one_frames_loss_and_gradient_are_those_of_autograd(
            halt in proptest::array::uniform2(-4.0_f32..4.0),
            (target, weights) in (
                proptest::array::uniform2(0.0_f32..1.0),
                proptest::array::uniform2(0.0_f32..2.0),
            ),
            (asked, halts, shift, advantage) in
                (any::<bool>(), any::<bool>(), -0.6_f32..0.6, -3.0_f32..3.0),
        ) {
            let config = config();
            let logit = halt[0] - halt[1];
            let log_prob = log_sigmoid(if halts { logit } else { -logit });
            let flag = |set: bool| f32::from(u8::from(set));
            let choice = [flag(asked), flag(halts), log_prob + shift, advantage];
            // The clip is a kink.
            let ratio = f64::from(-shift).exp();
            prop_assume!((ratio - 1.0 - config.clip).abs() > 1e-4);
            prop_assume!((ratio - 1.0 + config.clip).abs() > 1e-4);
            let estimates = [target[0], target[1], weights[0], weights[1]];
            for (loss, target) in [(HaltLoss::Estimates, estimates), (HaltLoss::Choices, choice)] {
                let leaf = Tensor::from_slice(&halt).view([1, 2]).set_requires_grad(true);
                let targets = Tensor::from_slice(&target).view([1, 4]);
                let expected = segment_loss(&leaf, loss, &targets, &config);
                let (found, gradient) = frame_loss(halt, loss, target, &config, 0.5);
                prop_assert!((found - expected.double_value(&[])).abs() < 2e-5);
                let by_head = Tensor::run_backward(&[&expected * 0.5], &[&leaf], false, false);
                for (found, expected) in gradient.into_iter().zip(host(&by_head[0])) {
                    prop_assert!((found - expected).abs() < 2e-5, "{found} is not {expected}");
                }
            }
        }
    }
}
