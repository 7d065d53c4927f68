//! Which arms are tested against which.

use crate::study::{
    file::Comparison,
    finished::{ArmRuns, StudyRuns},
    measures::{Measure, TESTED},
    ranks::{RankTest, mann_whitney},
};

/// A test of one arm against another.
pub(crate) struct Test<'r> {
    /// The arm it is about.
    pub arm: &'r str,
    /// The arm it is held against.
    pub against: &'r str,
    /// In what.
    pub(crate) measure: Measure,
    /// Runs of both.
    pub runs: [usize; 2],
    /// What was found; the effect is the probability that a run of `arm` is the better one.
    pub found: RankTest,
}

/// The tests of a comparison for which there are runs.
pub(super) fn tests<'r>(report: &'r StudyRuns<'_>, comparison: &Comparison) -> Vec<Test<'r>> {
    let arms = report.arms_of(comparison);
    let mut tests = Vec::new();
    for arm in &arms {
        let Some(against) = reference(comparison, &arms, arm) else {
            continue;
        };
        for measure in TESTED {
            let ranks = |of: &ArmRuns<'_>| of.runs.iter().map(|run| measure.rank(run)).collect();
            let (first, second): (Vec<f64>, Vec<f64>) = (ranks(arm), ranks(against));
            if let Some(found) = mann_whitney(&first, &second) {
                tests.push(Test {
                    arm: &arm.arm.name,
                    against: &against.arm.name,
                    measure,
                    runs: [first.len(), second.len()],
                    found,
                });
            }
        }
    }
    tests
}

/// What an arm is held against: the first of all, or, along x, the one of the first series at its x.
fn reference<'a, 'r>(
    comparison: &Comparison,
    arms: &[&'a ArmRuns<'r>],
    arm: &ArmRuns<'r>,
) -> Option<&'a ArmRuns<'r>> {
    let first = arms.first()?;
    let found = match comparison.x_label {
        None => *first,
        Some(_) => {
            let here = |a: &&&ArmRuns<'_>| a.arm.series == first.arm.series && a.arm.x == arm.arm.x;
            arms.iter().find(here)?
        }
    };
    (found.arm.name != arm.arm.name).then_some(found)
}
