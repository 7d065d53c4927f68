//! The distance of a decision from its end, per segment.

use serde::Serialize;

use super::{
    estimate::Mean,
    probe::{Distance, ProbeStart, Probed, ProbedModule},
};

/// Kind of a step, by the change of doors before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first step of an episode, where carry and reset are the same.
    First,
    /// No door moved since the last observation.
    NoChange,
    /// A door moved, on the chosen path or elsewhere.
    Change,
    /// A door on the chosen path closed. Such steps also count as [`Kind::Change`].
    ClosedAhead,
}

impl Kind {
    /// All kinds, in the order of a report.
    pub(crate) const ALL: [Self; 4] =
        [Self::First, Self::NoChange, Self::Change, Self::ClosedAhead];

    /// Returns true when steps of this kind also count as `other`.
    pub(super) fn is_among(self, other: Self) -> bool {
        self == other || (self, other) == (Self::ClosedAhead, Self::Change)
    }
}

/// One point of a curve: the mean distance to the state at the end of the decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConvergencePoint {
    /// The state from which the decision starts.
    pub start: ProbeStart,
    /// The steps in the mean.
    pub steps: Kind,
    /// The module whose state is measured.
    pub module: ProbedModule,
    /// Number of segments run; 0 is the start of the decision.
    pub segment: usize,
    /// Euclidean norm of the difference, averaged over positions.
    pub distance: Mean,
    /// The same distance, divided by the norm of the final state.
    pub relative: Mean,
}

/// A measured step.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbedStep {
    pub episode: usize,
    pub kind: Kind,
}

/// Returns the curves, by start, steps, module and segment; curves without a step are left out.
pub(super) fn points(probed: &[(ProbedStep, Probed)]) -> Vec<ConvergencePoint> {
    // Sorted by episode, because means need one episode after the other, but lanes walk side by side.
    let mut probed: Vec<_> = probed.iter().collect();
    probed.sort_by_key(|(step, _)| step.episode);
    let mut points = Vec::new();
    for start in [ProbeStart::Carry, ProbeStart::Reset] {
        for steps in Kind::ALL {
            for module in [ProbedModule::ZH, ProbedModule::ZL] {
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
                    Some(ConvergencePoint {
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
