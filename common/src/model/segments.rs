//! The number of segments of a decision.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::invalid_value::InvalidValue;

/// Most segments of a decision. An unroll has the number of each decision as a byte.
const LIMIT: usize = 255;

/// `model.segments`: the segments of a decision, one number or a range.
///
/// In training, every decision of an actor draws its number from the range, with equal probabilities. All other
/// decisions run the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub struct Segments {
    /// The fewest segments of a decision.
    pub least: usize,
    /// The most segments of a decision.
    pub most: usize,
}

/// [`Segments`] in a file.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a whole number, or a range such as { least = 1, most = 4 }"
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
}

impl From<Form> for Segments {
    fn from(form: Form) -> Self {
        match form {
            Form::Number(number) => Self::new(number),
            Form::Range(Range { least, most }) => Self { least, most },
        }
    }
}

impl From<Segments> for Form {
    fn from(segments: Segments) -> Self {
        let Segments { least, most } = segments;
        match segments.is_range() {
            true => Self::Range(Range { least, most }),
            false => Self::Number(most),
        }
    }
}

impl Segments {
    /// Returns the same number for every decision.
    pub fn new(number: usize) -> Self {
        Self {
            least: number,
            most: number,
        }
    }

    /// True if decisions can differ in their number.
    pub fn is_range(self) -> bool {
        self.least != self.most
    }

    /// True for a number that a decision can have.
    pub fn contains(self, number: u8) -> bool {
        (self.least..=self.most).contains(&usize::from(number))
    }

    /// Draws the number of a decision. One number draws nothing from the generator.
    pub fn draw(self, rng: &mut impl Rng) -> u8 {
        let number = match self.is_range() {
            true => rng.random_range(self.least..=self.most),
            false => self.most,
        };
        byte(number)
    }

    /// Returns the most segments for each of `envs` decisions, u8 `[N]`.
    pub fn deepest(self, envs: usize) -> Vec<u8> {
        vec![byte(self.most); envs]
    }

    /// Checks the limits.
    ///
    /// # Errors
    ///
    /// Numbers outside 1 to 255, or a least number above the most.
    pub(super) fn validate(self) -> Result<(), InvalidValue> {
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
        if self.least > self.most {
            let value = format!("{{ least = {}, most = {} }}", self.least, self.most);
            let reason = "the least number is above the most".to_owned();
            return fault(value, reason, "exchange the two numbers");
        }
        Ok(())
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

    const RANGE: Segments = Segments { least: 2, most: 4 };

    #[test]
    fn a_number_or_a_range_is_read_and_written() {
        for (text, segments) in [("3", Segments::new(3)), (r#"{"least":2,"most":4}"#, RANGE)] {
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
    }

    #[test]
    fn impossible_numbers_are_named() {
        for (least, most, part) in [
            (0, 4, "from 1 to 255"),
            (1, 256, "from 1 to 255"),
            (3, 2, "above the most"),
        ] {
            let error = Segments { least, most }.validate().expect_err("impossible");
            assert_eq!(error.key, "model.segments");
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(RANGE.validate(), Ok(()));
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
    fn one_number_leaves_the_generator_alone() {
        let (mut rng, mut other) = (action_rng(5), action_rng(5));
        assert_eq!(Segments::new(3).draw(&mut rng), 3);
        assert_eq!(rng.random::<u64>(), other.random::<u64>());
    }
}
