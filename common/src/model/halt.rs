//! Rules that end a decision early.

use serde::{Deserialize, Serialize};

use crate::{invalid_value::InvalidValue, policy::entropy};

/// `halt` of `model.segments`: the rule that ends a decision before its most segments. A decision follows it after each
/// segment from the least number on.
///
/// These rules read what a segment computes anyway, so that no part of the model is trained for them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Halt {
    /// Halts when the segment changed `zH` by at most so much: the root of the mean square of its elements' changes.
    Change(f64),
    /// Halts when the entropy of the policy is at most so many nats.
    Entropy(f64),
}

impl Halt {
    /// True when a decision ends after a segment with these logits, which made this `change` of `zH`.
    pub fn ends(self, logits: &[f32], change: impl FnOnce() -> f64) -> bool {
        match self {
            Self::Change(most) => change() <= most,
            Self::Entropy(most) => f64::from(entropy(logits)) <= most,
        }
    }

    /// Checks the limits.
    ///
    /// # Errors
    ///
    /// A threshold that is negative or not finite.
    pub(super) fn validate(self) -> Result<(), InvalidValue> {
        let (name, threshold) = match self {
            Self::Change(threshold) => ("change", threshold),
            Self::Entropy(threshold) => ("entropy", threshold),
        };
        if threshold.is_finite() && threshold >= 0.0 {
            return Ok(());
        }
        Err(InvalidValue::new(
            "model.segments",
            format!("{{ halt = {{ {name} = {threshold} }} }}"),
            "a threshold must be a number, 0 or above",
            "set it to a number, 0 or above",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_ends_at_its_threshold() {
        let unasked = || -> f64 { unreachable!("only one rule needs the change") };
        // Two equal actions: ln 2 nats.
        let two = [9.0, 9.0, -200.0, -200.0];
        assert!(Halt::Entropy(0.694).ends(&two, unasked));
        assert!(!Halt::Entropy(0.693).ends(&two, unasked));
        assert!(Halt::Change(0.5).ends(&two, || 0.5));
        assert!(!Halt::Change(0.5).ends(&two, || 0.501));
        assert!(!Halt::Change(0.5).ends(&two, || f64::NAN));
    }

    #[test]
    fn a_rule_is_written_with_its_threshold() {
        for (halt, text) in [
            (Halt::Change(0.5), r#"{"change":0.5}"#),
            (Halt::Entropy(0.0), r#"{"entropy":0.0}"#),
        ] {
            assert_eq!(serde_json::to_string(&halt).expect("JSON"), text);
            assert_eq!(serde_json::from_str::<Halt>(text).expect("a rule"), halt);
        }
    }

    #[test]
    fn impossible_thresholds_are_named() {
        assert_eq!(Halt::Change(0.0).validate(), Ok(()));
        for (halt, name) in [
            (Halt::Change(-0.1), "change = -0.1"),
            (Halt::Entropy(f64::NAN), "entropy = NaN"),
            (Halt::Entropy(f64::INFINITY), "entropy = inf"),
        ] {
            let error = halt.validate().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
