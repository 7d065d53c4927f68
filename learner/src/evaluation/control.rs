//! Controls for rules that end decisions: the same model, with numbers of segments that it does not choose.

use std::iter;

use hrm_common::model::Segments;
use rand::Rng as _;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

/// The way in which decisions get their number of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Control {
    /// The first decision of an episode has the most segments, and all others have the fewest.
    AtTheStart,
    /// A decision has the most segments if doors have moved since the last one, and otherwise the fewest. Only the
    /// maze knows that at once; an agent has to see it.
    AtChanges,
    /// Each decision draws its number. The frequencies are those of the model's own rule on the same episodes.
    Shuffled,
}

impl Control {
    /// Returns its name in a study's file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtTheStart => "at-the-start",
            Self::AtChanges => "at-changes",
            Self::Shuffled => "shuffled",
        }
    }

    /// Returns the control in words, for a table.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::AtTheStart => "the most at the start",
            Self::AtChanges => "the most after door changes",
            Self::Shuffled => "shuffled",
        }
    }
}

/// A control with the numbers that it needs.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    control: Control,
    least: u8,
    most: u8,
    /// The number of decisions with each number of segments, from 0 on.
    decisions: Vec<u64>,
}

impl Numbers {
    /// Creates the numbers of a control. `decisions` counts those that the model's own rule ended after each number of
    /// segments, from 0 on; only [`Control::Shuffled`] reads it.
    pub(crate) fn new(control: Control, segments: Segments, decisions: &[u64]) -> Self {
        let byte = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        Self {
            control,
            least: byte(segments.least),
            most: byte(segments.most),
            decisions: decisions.to_vec(),
        }
    }

    /// Returns the segments of a decision, which is the `first` of its episode, or follows a change of the doors.
    pub(crate) fn of_decision(
        &self,
        first: bool,
        doors_moved: bool,
        rng: &mut Xoshiro256PlusPlus,
    ) -> u8 {
        let deep = match self.control {
            Control::AtTheStart => first,
            Control::AtChanges => doors_moved,
            Control::Shuffled => return self.drawn(rng),
        };
        if deep { self.most } else { self.least }
    }

    fn drawn(&self, rng: &mut Xoshiro256PlusPlus) -> u8 {
        let all: u64 = self.decisions.iter().sum();
        if all == 0 {
            return self.least;
        }
        let mut left = rng.random_range(0..all);
        for (number, &decisions) in iter::zip(0.., &self.decisions) {
            match left.checked_sub(decisions) {
                Some(rest) => left = rest,
                None => return number,
            }
        }
        self.most
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::policy::action_rng;

    use super::*;

    fn numbers(control: Control, decisions: &[u64]) -> Numbers {
        Numbers::new(control, Segments::range(1, 4), decisions)
    }

    #[test]
    fn a_control_has_the_most_segments_where_it_says() {
        let mut rng = action_rng(1);
        let mut of = |control, first, doors_moved| {
            numbers(control, &[]).of_decision(first, doors_moved, &mut rng)
        };
        for (first, doors_moved) in [(false, false), (false, true), (true, false), (true, true)] {
            let deep = |deep| if deep { 4 } else { 1 };
            assert_eq!(of(Control::AtTheStart, first, doors_moved), deep(first));
            assert_eq!(
                of(Control::AtChanges, first, doors_moved),
                deep(doors_moved)
            );
        }
    }

    #[test]
    fn shuffled_numbers_are_as_frequent_as_those_of_the_rule() {
        let mut rng = action_rng(1);
        let shuffled = numbers(Control::Shuffled, &[0, 600, 0, 300, 100]);
        let mut counts = [0_i32; 5];
        for _ in 0..10_000 {
            counts[usize::from(shuffled.of_decision(true, true, &mut rng))] += 1;
        }
        // Five standard deviations of a count are at most 245.
        for (count, expected) in counts.into_iter().zip([0, 6000, 0, 3000, 1000]) {
            assert!((count - expected).abs() <= 245, "{counts:?}");
        }
        assert_eq!(counts[2], 0);
        let nothing = numbers(Control::Shuffled, &[]);
        assert_eq!(nothing.of_decision(true, true, &mut rng), 1);
    }
}
