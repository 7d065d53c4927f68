//! Chooses the arms that are tested against each other, and tests them.

use crate::study::{
    file::Comparison,
    finished::{ArmRuns, StudyRuns},
    measures::{Measure, TESTED},
    ranks::{RankTest, mann_whitney},
};

/// A test of one arm against another.
pub(crate) struct Test<'r> {
    /// The tested arm.
    pub arm: &'r str,
    /// The arm that it is compared with.
    pub against: &'r str,
    /// The compared measure.
    pub(crate) measure: Measure,
    /// Number of runs of both.
    pub runs: [usize; 2],
    /// The result; the effect is the probability that a run of `arm` is better.
    pub found: RankTest,
}

/// Runs the tests of a comparison for which runs exist.
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

/// Returns the reference of an arm: the first arm, or along x, the first series' arm at the same x.
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
