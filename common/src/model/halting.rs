//! A decision that follows a rule: asked after each segment whether it ends.

use super::{
    halt::{Depth, Halt},
    native::HeadOutputs,
};
use crate::policy::entropy;

/// A decision in progress, which ends after a number of segments, or by a rule.
#[derive(Debug, Clone, Copy)]
pub struct Halting {
    fewest: usize,
    most: usize,
    halt: Option<Halt>,
    draw: f32,
    /// The probability that a rule which halts by chance has not halted.
    goes_on: f32,
    log_prob: f32,
}

impl Halting {
    /// Returns a decision of so many segments.
    pub fn after(number: usize) -> Self {
        Self {
            fewest: number,
            most: number,
            halt: None,
            draw: 0.0,
            goes_on: 1.0,
            log_prob: 0.0,
        }
    }

    /// Returns a decision that follows a rule from its fewest segments on, up to `most`; without a rule, one of its
    /// fewest segments.
    pub fn by(halt: Option<Halt>, most: usize, depth: Depth) -> Self {
        let fewest = depth.segments.into();
        Self {
            most: if halt.is_some() { most } else { fewest },
            halt,
            draw: depth.draw,
            ..Self::after(fewest)
        }
    }

    /// The most segments that the decision can have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// True when the rule compares `zH` before and after a segment.
    pub fn needs_change(&self) -> bool {
        matches!(self.halt, Some(Halt::Change(_)))
    }

    /// True when the decision ends after this number of segments, the last of which had these outputs and made this
    /// `change` of `zH`. Must be asked after every segment, in order.
    pub fn ends(
        &mut self,
        number: usize,
        heads: &HeadOutputs,
        change: impl FnOnce() -> f64,
    ) -> bool {
        if number >= self.most {
            return true;
        }
        if number < self.fewest {
            return false;
        }
        match self.halt {
            None => true,
            Some(Halt::Change(most)) => change() <= most,
            Some(Halt::Entropy(most)) => f64::from(entropy(&heads.logits)) <= most,
            Some(Halt::Value) => heads.halt[0] > heads.halt[1],
            Some(Halt::Agreement(least)) => f64::from(log_sigmoid(heads.halt[0]).exp()) >= least,
            Some(Halt::Policy) => {
                let [halts, continues] = halt_log_probs(heads.halt);
                self.goes_on *= continues.exp();
                let ends = 1.0 - self.goes_on > self.draw;
                self.log_prob += if ends { halts } else { continues };
                ends
            }
        }
    }

    /// Returns the depth of the decision, which ended after this number of segments.
    pub fn ended(&self, number: usize) -> Depth {
        Depth {
            // Validated segments fit.
            segments: number as u8,
            draw: self.draw,
            log_prob: self.log_prob,
        }
    }
}

/// Returns the log-probabilities of halting and of another segment, by [`Halt::Policy`].
pub fn halt_log_probs([halts, continues]: [f32; 2]) -> [f32; 2] {
    [halts - continues, continues - halts].map(log_sigmoid)
}

/// Returns ln(1 / (1 + exp(-x))).
pub fn log_sigmoid(x: f32) -> f32 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;
    use crate::policy::action_rng;

    /// Two equal actions: ln 2 nats.
    const EVEN: HeadOutputs = HeadOutputs {
        logits: [9.0, 9.0, -200.0, -200.0],
        value: 0.0,
        halt: [0.0; 2],
    };

    fn heads(halt: [f32; 2]) -> HeadOutputs {
        HeadOutputs { halt, ..EVEN }
    }

    fn asked(halt: Halt, heads: &HeadOutputs, change: f64) -> bool {
        Halting::by(Some(halt), 4, Depth::at_least(1)).ends(1, heads, || change)
    }

    #[test]
    fn a_decision_ends_at_its_threshold() {
        assert!(asked(Halt::Entropy(0.694), &EVEN, f64::NAN));
        assert!(!asked(Halt::Entropy(0.693), &EVEN, f64::NAN));
        assert!(asked(Halt::Change(0.5), &EVEN, 0.5));
        assert!(!asked(Halt::Change(0.5), &EVEN, 0.501));
        assert!(!asked(Halt::Change(0.5), &EVEN, f64::NAN));
        assert!(asked(Halt::Value, &heads([0.2, 0.1]), f64::NAN));
        assert!(!asked(Halt::Value, &heads([0.1, 0.1]), f64::NAN));
        // ln 3 has a probability of 3/4.
        assert!(asked(
            Halt::Agreement(0.749),
            &heads([1.0986, 9.0]),
            f64::NAN
        ));
        assert!(!asked(
            Halt::Agreement(0.751),
            &heads([1.0986, -9.0]),
            f64::NAN
        ));
    }

    #[test]
    fn a_rule_is_asked_between_the_fewest_and_the_most_segments() {
        let always = Some(Halt::Change(1.0));
        for fewest in 1..=4 {
            let mut halting = Halting::by(always, 4, Depth::at_least(fewest));
            let number = (1..=4).find(|&number| halting.ends(number, &EVEN, || 0.0));
            assert_eq!(number, Some(fewest.into()));
            let mut never = Halting::by(Some(Halt::Value), 4, Depth::at_least(fewest));
            let number = (1..=4).find(|&number| never.ends(number, &EVEN, || 0.0));
            assert_eq!(number, Some(4));
            let mut without = Halting::by(None, 4, Depth::at_least(fewest));
            let number = (1..=4).find(|&number| without.ends(number, &EVEN, || 0.0));
            assert_eq!(number, Some(fewest.into()));
        }
    }

    /// The numbers of many decisions, and the log-probability of each, are those of the chances.
    #[test]
    fn a_decision_halts_by_chance_with_the_probability_that_it_reports() {
        let chances = [[0.0, 1.0], [0.5, 0.0], [-1.0, -1.0]];
        let halts = chances.map(|halt| halt_log_probs(halt)[0].exp());
        let expected = [
            halts[0],
            (1.0 - halts[0]) * halts[1],
            (1.0 - halts[0]) * (1.0 - halts[1]) * halts[2],
            (1.0 - halts[0]) * (1.0 - halts[1]) * (1.0 - halts[2]),
        ];
        let mut rng = action_rng(3);
        let mut counts = [0_u32; 4];
        let draws = 40_000;
        for _ in 0..draws {
            let depth = Depth {
                draw: rng.random(),
                ..Depth::at_least(1)
            };
            let mut halting = Halting::by(Some(Halt::Policy), 4, depth);
            let ends = |number: &usize| {
                let halt = chances.get(number - 1).copied().unwrap_or_default();
                halting.ends(*number, &heads(halt), || 0.0)
            };
            let number = (1..=4).find(ends).expect("it ends");
            counts[number - 1] += 1;
            let found = halting.ended(number);
            assert_eq!(usize::from(found.segments), number);
            let log_prob = expected[number - 1].ln();
            assert!((found.log_prob - log_prob).abs() < 1e-5, "{found:?}");
        }
        for (count, p) in counts.into_iter().zip(expected.map(f64::from)) {
            let sigma = (f64::from(draws) * p * (1.0 - p)).sqrt();
            let off = (f64::from(count) - f64::from(draws) * p).abs();
            assert!(off < 5.0 * sigma, "{count} of {draws} with p = {p}");
        }
    }

    #[test]
    fn logarithms_of_chances_are_finite() {
        for (x, expected) in [
            (0.0, -std::f32::consts::LN_2),
            (80.0, 0.0),
            (-80.0, -80.0),
            (2.0, -0.126_928),
        ] {
            let found = log_sigmoid(x);
            assert!((found - expected).abs() < 1e-5, "{x}: {found}");
        }
        assert_eq!(halt_log_probs([2.0e4, -2.0e4]), [0.0, -4.0e4]);
    }
}
