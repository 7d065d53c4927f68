//! The number of segments of a decision.

use std::str::FromStr;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::halt::{Depth, Halt};
use crate::invalid_value::InvalidValue;

/// Most segments of a decision. An unroll has the number of each decision as a byte.
const LIMIT: usize = 255;

/// `model.segments`: the segments of a decision, one number or a range.
///
/// Without a rule, every decision of an actor draws its number from the range, with equal probabilities, and all other
/// decisions run the most. With a rule, decisions follow it. Some of an actor's may draw the number from which on they
/// follow it, so that later segments are tried where the rule would have ended the decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub struct Segments {
    /// The fewest segments of a decision.
    pub least: usize,
    /// The most segments of a decision.
    pub most: usize,
    /// The rule that ends a decision between the two.
    pub halt: Option<Halt>,
    /// The share of an actor's decisions that draw the number of segments from which on they follow the rule.
    pub explore: f64,
}

/// [`Segments`] in a file.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a whole number, a range such as { least = 1, most = 4 }, or one with a rule such as \
                 { least = 1, most = 4, halt = { entropy = 0.1 } }"
)]
enum Form {
    Number(usize),
    Range(Range),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    least: usize,
    most: usize,
    // Absent from JSON without a rule, because checkpoints and actors hold a hash of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    halt: Option<Halt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    explore: Option<f64>,
}

impl From<Form> for Segments {
    fn from(form: Form) -> Self {
        match form {
            Form::Number(number) => Self::new(number),
            Form::Range(Range {
                least,
                most,
                halt,
                explore,
            }) => Self {
                least,
                most,
                halt,
                explore: explore.unwrap_or_default(),
            },
        }
    }
}

impl From<Segments> for Form {
    fn from(segments: Segments) -> Self {
        let Segments {
            least,
            most,
            halt,
            explore,
        } = segments;
        let explore = (explore != 0.0).then_some(explore);
        match segments == Segments::new(most) {
            true => Self::Number(most),
            false => Self::Range(Range {
                least,
                most,
                halt,
                explore,
            }),
        }
    }
}

impl FromStr for Segments {
    type Err = toml::de::Error;

    /// Reads a number or a range in TOML notation.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::deserialize(toml::de::ValueDeserializer::parse(text)?)
    }
}

impl Segments {
    /// Returns the same number for every decision.
    pub fn new(number: usize) -> Self {
        Self::range(number, number)
    }

    /// Returns a range without a rule.
    pub fn range(least: usize, most: usize) -> Self {
        Self {
            least,
            most,
            halt: None,
            explore: 0.0,
        }
    }

    /// True if decisions can differ in their number.
    pub fn is_range(self) -> bool {
        self.least != self.most
    }

    /// True if the rule reads the halt head, which is trained then.
    pub fn reads_halt_head(self) -> bool {
        self.halt.is_some_and(Halt::reads_head)
    }

    /// True if decisions halt by chance.
    pub fn halts_by_chance(self) -> bool {
        self.halt == Some(Halt::Policy)
    }

    /// Returns the fewest segments of a decision that draws nothing.
    fn fewest(self) -> usize {
        match self.halt {
            None => self.most,
            Some(_) => self.least,
        }
    }

    /// True for a number that a decision can have.
    pub fn contains(self, number: u8) -> bool {
        (self.least..=self.most).contains(&usize::from(number))
    }

    /// Returns the same for decisions that are not an actor's: those draw nothing.
    #[must_use]
    pub fn without_draws(self) -> Self {
        match self.halt {
            None => Self::new(self.most),
            Some(_) => Self {
                explore: 0.0,
                ..self
            },
        }
    }

    /// Draws the fewest segments of a decision. Without a rule, they are also the most. Draws from the generator only
    /// where decisions can differ.
    pub fn draw(self, rng: &mut impl Rng) -> u8 {
        let draws = match self.halt {
            None => self.is_range(),
            Some(_) => self.explore > 0.0 && rng.random::<f64>() < self.explore,
        };
        byte(match draws {
            true => rng.random_range(self.least..=self.most),
            false => self.fewest(),
        })
    }

    /// Returns what each of `envs` decisions is asked that are not an actor's and draw nothing, `[N]`.
    pub fn depths(self, envs: usize) -> Vec<Depth> {
        vec![Depth::at_least(byte(self.fewest())); envs]
    }

    /// Returns the most segments for each of `envs` decisions, u8 `[N]`.
    pub fn deepest(self, envs: usize) -> Vec<u8> {
        vec![byte(self.most); envs]
    }

    /// Checks the limits.
    ///
    /// # Errors
    ///
    /// Numbers outside 1 to 255, a least number above the most, a rule without a range, or impossible numbers of a rule.
    pub fn validate(self) -> Result<(), InvalidValue> {
        let fault = |value: String, reason: String, remedy: &str| {
            Err(InvalidValue::new("model.segments", value, reason, remedy))
        };
        for number in [self.least, self.most] {
            if !(1..=LIMIT).contains(&number) {
                let reason = format!("it must be from 1 to {LIMIT}");
                let remedy = format!("set it to a whole number from 1 to {LIMIT}");
                return fault(number.to_string(), reason, &remedy);
            }
        }
        let range = || format!("{{ least = {}, most = {} }}", self.least, self.most);
        if self.least > self.most {
            let reason = "the least number is above the most".to_owned();
            return fault(range(), reason, "exchange the two numbers");
        }
        let Some(halt) = self.halt else {
            return match self.explore {
                0.0 => Ok(()),
                explore => {
                    let reason = "without a rule, every decision draws its number".to_owned();
                    let remedy =
                        "leave explore out, or add a rule such as halt = { entropy = 0.1 }";
                    fault(format!("{{ explore = {explore} }}"), reason, remedy)
                }
            };
        };
        if !self.is_range() {
            let reason = "a rule needs a range of numbers to choose from".to_owned();
            return fault(range(), reason, "lower the least number, or leave halt out");
        }
        if !(0.0..=1.0).contains(&self.explore) {
            let value = format!("{{ explore = {} }}", self.explore);
            let reason = "it is a share of the decisions".to_owned();
            return fault(value, reason, "set it to a number from 0 to 1");
        }
        if self.halts_by_chance() && self.explore > 0.0 {
            let value = format!("{{ explore = {} }}", self.explore);
            let reason = "a rule that halts by chance explores by itself".to_owned();
            return fault(value, reason, "leave explore out");
        }
        halt.validate()
    }
}

/// A validated number fits.
fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::action_rng;

    const RANGE: Segments = Segments {
        least: 2,
        most: 4,
        halt: None,
        explore: 0.0,
    };

    const RULE: Segments = Segments {
        halt: Some(Halt::Entropy(0.5)),
        ..RANGE
    };

    #[test]
    fn a_number_a_range_or_a_rule_is_read_and_written() {
        let exploring = Segments {
            explore: 0.25,
            ..RULE
        };
        for (text, segments) in [
            ("3", Segments::new(3)),
            (r#"{"least":2,"most":4}"#, RANGE),
            (r#"{"least":2,"most":4,"halt":{"entropy":0.5}}"#, RULE),
            (
                r#"{"least":2,"most":4,"halt":{"entropy":0.5},"explore":0.25}"#,
                exploring,
            ),
        ] {
            assert_eq!(
                serde_json::from_str::<Segments>(text).expect(text),
                segments
            );
            assert_eq!(serde_json::to_string(&segments).expect("JSON"), text);
        }
        for text in [
            "-1",
            "\"3\"",
            r#"{"least":2}"#,
            r#"{"least":2,"most":4,"mean":3}"#,
        ] {
            let error = serde_json::from_str::<Segments>(text).expect_err(text);
            assert!(error.to_string().contains("least = 1, most = 4"), "{error}");
        }
        let notation = "{ least = 2, most = 4, halt = { entropy = 0.5 } }";
        assert_eq!(notation.parse(), Ok(RULE));
        assert_eq!("3".parse(), Ok(Segments::new(3)));
        for text in ["", "{", "three", "{ least = 2 }"] {
            assert!(text.parse::<Segments>().is_err(), "{text}");
        }
    }

    #[test]
    fn impossible_numbers_are_named() {
        for (least, most, part) in [
            (0, 4, "from 1 to 255"),
            (1, 256, "from 1 to 255"),
            (3, 2, "above the most"),
        ] {
            let error = Segments::range(least, most)
                .validate()
                .expect_err("impossible");
            assert_eq!(error.key, "model.segments");
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(RANGE.validate(), Ok(()));
    }

    #[test]
    fn impossible_rules_are_named() {
        let explore = |explore| Segments { explore, ..RULE };
        for (segments, part) in [
            (Segments { least: 4, ..RULE }, "a range"),
            (
                Segments {
                    halt: None,
                    ..explore(0.5)
                },
                "without a rule",
            ),
            (
                Segments {
                    halt: Some(Halt::Policy),
                    ..explore(0.5)
                },
                "by chance",
            ),
            (explore(1.5), "from 0 to 1"),
            (explore(f64::NAN), "from 0 to 1"),
            (
                Segments {
                    halt: Some(Halt::Change(-1.0)),
                    ..RULE
                },
                "a threshold",
            ),
        ] {
            let error = segments.validate().expect_err(part);
            assert_eq!(error.key, "model.segments");
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(explore(1.0).validate(), Ok(()));
    }

    #[test]
    fn every_number_of_a_range_is_drawn_equally_often() {
        let mut rng = action_rng(5);
        let mut counts = [0_i32; 5];
        for _ in 0..9000 {
            counts[usize::from(RANGE.draw(&mut rng))] += 1;
        }
        assert_eq!(counts[..2], [0, 0]);
        // Five standard deviations of a count are 224.
        assert!(
            counts[2..].iter().all(|count| (count - 3000).abs() < 224),
            "{counts:?}"
        );
    }

    #[test]
    fn a_rule_is_followed_from_the_least_number_on_except_in_explored_decisions() {
        let exploring = Segments {
            explore: 0.3,
            ..RULE
        };
        let mut rng = action_rng(5);
        let mut counts = [0_i32; 5];
        for _ in 0..9000 {
            counts[usize::from(exploring.draw(&mut rng))] += 1;
        }
        // Five standard deviations of a count are at most 190.
        for (count, expected) in counts.into_iter().zip([0, 0, 7200, 900, 900]) {
            assert!((count - expected).abs() <= 190, "{counts:?}");
        }
        assert_eq!(exploring.without_draws(), RULE);
        assert_eq!(RANGE.without_draws(), Segments::new(4));
    }

    #[test]
    fn decisions_that_cannot_differ_leave_the_generator_alone() {
        let (mut rng, mut other) = (action_rng(5), action_rng(5));
        assert_eq!(Segments::new(3).draw(&mut rng), 3);
        assert_eq!(RULE.draw(&mut rng), 2);
        assert_eq!(rng.random::<u64>(), other.random::<u64>());
    }
}
