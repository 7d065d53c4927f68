//! How near to its end a decision is, segment by segment.

use serde::Serialize;

use super::{
    estimate::Mean,
    probe::{Distance, Module, Probed, Start},
};

/// What happened before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first step of an episode, where carry and reset are the same.
    First,
    /// No door moved since the last observation.
    NoChange,
    /// A door moved, on the chosen path or elsewhere.
    Change,
    /// A door on the chosen path closed. Such steps are among those of [`Kind::Change`] too.
    ClosedAhead,
}

impl Kind {
    /// All of them, in the order of a report.
    pub(crate) const ALL: [Self; 4] =
        [Self::First, Self::NoChange, Self::Change, Self::ClosedAhead];

    /// Whether a step of this kind counts among those of `other`.
    fn is_among(self, other: Self) -> bool {
        self == other || (self, other) == (Self::ClosedAhead, Self::Change)
    }
}

/// One point of a curve: the mean distance to the state at the end of the decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// What the decision starts from.
    pub start: Start,
    /// The steps it is a mean over.
    pub steps: Kind,
    /// Whose state.
    pub module: Module,
    /// Segments run; 0 is what the decision starts from.
    pub segment: usize,
    /// Euclidean norm of the difference, mean over the positions.
    pub distance: Mean,
    /// The same as a share of the norm of the state at the end.
    pub relative: Mean,
}

/// A step that was probed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub episode: usize,
    pub kind: Kind,
}

/// The curves, by start, steps, module and segment; a curve without a step is left out.
pub(super) fn points(probed: &[(Step, Probed)]) -> Vec<Point> {
    // Means are taken over episodes, one after the other; lanes walk side by side.
    let mut probed: Vec<_> = probed.iter().collect();
    probed.sort_by_key(|(step, _)| step.episode);
    let mut points = Vec::new();
    for start in [Start::Carry, Start::Reset] {
        for steps in Kind::ALL {
            for module in [Module::ZH, Module::ZL] {
                let courses: Vec<(usize, &[Distance])> = probed
                    .iter()
                    .filter(|(step, _)| step.kind.is_among(steps))
                    .flat_map(|(step, courses)| {
                        courses
                            .iter()
                            .filter(|course| course.start == start && course.module == module)
                            .map(|course| (step.episode, course.distances.as_slice()))
                    })
                    .collect();
                let segments = courses.first().map_or(0, |(_, distances)| distances.len());
                points.extend((0..segments).filter_map(|segment| {
                    let mean = |of: fn(&Distance) -> f64| {
                        let values: Vec<_> = courses
                            .iter()
                            .map(|(episode, distances)| (*episode, of(&distances[segment])))
                            .collect();
                        Mean::clustered(&values)
                    };
                    Some(Point {
                        start,
                        steps,
                        module,
                        segment,
                        distance: mean(|distance| distance.absolute)?,
                        relative: mean(|distance| distance.relative)?,
                    })
                }));
            }
        }
    }
    points
}
