//! Rules that end a decision early, and the depth of a decision.

use serde::{Deserialize, Serialize};

use crate::invalid_value::InvalidValue;

/// `halt` of `model.segments`: the rule that ends a decision before its most segments. A decision asks it after each
/// segment from the least number on.
///
/// The first two read what a segment computes anyway, so nothing is trained for them. The others read the halt head:
/// two numbers from `zH` of the prefix token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Halt {
    /// Halts when the segment changed `zH` by at most so much: the root of the mean square of its elements' changes.
    Change(f64),
    /// Halts when the entropy of the policy is at most so many nats.
    Entropy(f64),
    /// Halts when the first number is the larger one, as published (arXiv 2506.21734). Q-learning makes them the
    /// logits of the return after halting, and after another segment.
    Value,
    /// Halts by chance: the difference of the two numbers is the logit of halting. The policy gradient trains it.
    Policy,
    /// Halts when the action agrees with that of the most segments with at least this probability. The first number is
    /// its logit.
    Agreement(f64),
}

/// The depth of one decision: what it is asked, and what it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Depth {
    /// Before the decision, its fewest segments; afterwards, their number.
    pub segments: u8,
    /// From 0 to below 1: a rule that halts by chance halts with the first segment after which it would have halted
    /// with a probability above this.
    pub draw: f32,
    /// After the decision, the log-probability of its number; 0 unless the rule halts by chance.
    pub log_prob: f32,
}

impl Depth {
    /// Returns a decision of at least so many segments that draws nothing: it halts at the median.
    pub fn at_least(segments: u8) -> Self {
        Self {
            segments,
            draw: 0.5,
            log_prob: 0.0,
        }
    }
}

impl Halt {
    /// True for the rules that read the halt head.
    pub fn reads_head(self) -> bool {
        match self {
            Self::Change(_) | Self::Entropy(_) => false,
            Self::Value | Self::Policy | Self::Agreement(_) => true,
        }
    }

    /// Checks the limits.
    ///
    /// # Errors
    ///
    /// A threshold that is negative or not finite, or a probability that is not one.
    pub(super) fn validate(self) -> Result<(), InvalidValue> {
        let (name, threshold, most) = match self {
            Self::Change(threshold) => ("change", threshold, f64::MAX),
            Self::Entropy(threshold) => ("entropy", threshold, f64::MAX),
            Self::Agreement(threshold) => ("agreement", threshold, 1.0),
            Self::Value | Self::Policy => return Ok(()),
        };
        if (0.0..=most).contains(&threshold) {
            return Ok(());
        }
        let range = match self {
            Self::Agreement(_) => "a number from 0 to 1",
            _ => "a number, 0 or above",
        };
        Err(InvalidValue::new(
            "model.segments",
            format!("{{ halt = {{ {name} = {threshold} }} }}"),
            format!("a threshold must be {range}"),
            format!("set it to {range}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_with_its_threshold() {
        for (halt, text) in [
            (Halt::Change(0.5), r#"{"change":0.5}"#),
            (Halt::Entropy(0.0), r#"{"entropy":0.0}"#),
            (Halt::Agreement(0.9), r#"{"agreement":0.9}"#),
            (Halt::Value, r#""value""#),
            (Halt::Policy, r#""policy""#),
        ] {
            assert_eq!(serde_json::to_string(&halt).expect("JSON"), text);
            assert_eq!(serde_json::from_str::<Halt>(text).expect("a rule"), halt);
        }
    }

    #[test]
    fn impossible_thresholds_are_named() {
        for halt in [Halt::Change(0.0), Halt::Agreement(1.0), Halt::Policy] {
            assert_eq!(halt.validate(), Ok(()));
        }
        for (halt, name) in [
            (Halt::Change(-0.1), "change = -0.1"),
            (Halt::Entropy(f64::NAN), "entropy = NaN"),
            (Halt::Entropy(f64::INFINITY), "entropy = inf"),
            (Halt::Agreement(1.1), "agreement = 1.1"),
        ] {
            let error = halt.validate().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
