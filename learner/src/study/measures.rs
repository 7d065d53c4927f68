//! The measures of a run, and the direction in which each is better.

use hrm_common::config::Effective;

use super::{
    curve::{self, Acting, CurvePoint},
    raw::{FurtherResult, Machine, RawRun},
};
use crate::{
    storage::{
        records::{Evaluation, VersusOracle, WalkBy},
        summary::Summary,
    },
    view::plot::Unit,
};

/// The success rates for which the time of the first reaching is reported, in percent.
pub(crate) const THRESHOLDS: [u32; 5] = [50, 80, 90, 95, 99];

/// A finished run, with its curves.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The run's seed.
    pub seed: u64,
    /// The run's configuration.
    pub effective: Effective,
    /// The run's result.
    pub summary: Summary,
    /// The machine that trained it.
    pub machine: Machine,
    /// The further evaluations of its model.
    pub evaluations: Vec<FurtherResult>,
    sampled: Vec<CurvePoint>,
    greedy: Vec<CurvePoint>,
}

impl Run {
    /// Creates a run from its raw data.
    pub(crate) fn new(seed: u64, raw: RawRun) -> Self {
        Self {
            seed,
            sampled: curve::points(&raw.records, Acting::Sampled),
            greedy: curve::points(&raw.records, Acting::Greedy),
            effective: raw.effective,
            summary: raw.summary,
            machine: raw.machine,
            evaluations: raw.evaluations,
        }
    }

    /// Returns a learning curve of the run.
    pub(crate) fn curve(&self, acting: Acting) -> &[CurvePoint] {
        match acting {
            Acting::Sampled => &self.sampled,
            Acting::Greedy => &self.greedy,
        }
    }

    /// Returns the point at which a success rate was first reached.
    pub(crate) fn reached(&self, acting: Acting, percent: u32) -> Option<&CurvePoint> {
        curve::first_at(self.curve(acting), f64::from(percent) / 100.0)
    }

    /// Returns the mean success over all frames of the run, which is high when a run learns early and well.
    pub(crate) fn mean_success(&self, acting: Acting) -> Option<f64> {
        let points: Vec<_> = self
            .curve(acting)
            .iter()
            .map(|point| (point.frames as f64, point.success))
            .collect();
        curve::mean_over(&points, self.summary.frames as f64)
    }

    /// Returns the final evaluation of a policy.
    pub(crate) fn at_the_end(&self, policy: WalkBy) -> Option<&Evaluation> {
        let evaluations = &self.summary.evaluations;
        evaluations.iter().find(|e| e.policy == policy)
    }

    /// Returns the path ratio of a final evaluation.
    pub(crate) fn path_ratio(&self, policy: WalkBy) -> Option<f64> {
        self.at_the_end(policy)?.path_ratio
    }

    /// Returns the final greedy lengths divided by the oracle's, paired by episode.
    pub(crate) fn versus_oracle(&self) -> Option<VersusOracle> {
        self.at_the_end(WalkBy::Greedy)?.versus_oracle
    }
}

/// A number that summarises a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    /// The measure's name.
    pub name: &'static str,
    /// True when a larger value is better.
    pub(crate) more_is_better: bool,
    /// The unit of the value.
    pub(crate) unit: Unit,
    /// Computes the value; `None` ranks below all other values.
    pub of: fn(&Run) -> Option<f64>,
}

/// The measures of the rank tests. Final paths are compared with the oracle's by episode, because the path ratio alone
/// would leave out each policy's own failures, the hardest episodes.
pub(crate) const TESTED: [Measure; 6] = [
    MEAN_SAMPLED,
    Measure {
        name: "mean greedy success over the run",
        more_is_better: true,
        unit: Unit::Share,
        of: |run| run.mean_success(Acting::Greedy),
    },
    FRAMES_TO_90,
    FRAMES_TO_99_GREEDY,
    FINAL_SUCCESS,
    FINAL_LENGTH,
];

/// The area below the sampled curve.
pub(crate) const MEAN_SAMPLED: Measure = Measure {
    name: "mean sampled success over the run",
    more_is_better: true,
    unit: Unit::Share,
    of: |run| run.mean_success(Acting::Sampled),
};

/// Frames until most episodes succeed.
pub(crate) const FRAMES_TO_90: Measure = Measure {
    name: "frames to 90% sampled success",
    more_is_better: false,
    unit: Unit::Frames,
    of: |run| Some(run.reached(Acting::Sampled, 90)?.frames as f64),
};

/// Frames until nearly all held-out episodes succeed.
pub(crate) const FRAMES_TO_99_GREEDY: Measure = Measure {
    name: "frames to 99% greedy success",
    more_is_better: false,
    unit: Unit::Frames,
    of: |run| Some(run.reached(Acting::Greedy, 99)?.frames as f64),
};

/// Minutes until nearly all held-out episodes succeed.
pub(crate) const MINUTES_TO_99_GREEDY: Measure = Measure {
    name: "minutes to 99% greedy success",
    more_is_better: false,
    unit: Unit::Minutes,
    of: |run| Some(run.reached(Acting::Greedy, 99)?.seconds / 60.0),
};

/// The quality of the final policy.
pub(crate) const FINAL_SUCCESS: Measure = Measure {
    name: "final greedy success",
    more_is_better: true,
    unit: Unit::Share,
    of: |run| Some(run.at_the_end(WalkBy::Greedy)?.success),
};

/// The length of the final policy's walks over the oracle's, on the same episodes, failures included.
pub(crate) const FINAL_LENGTH: Measure = Measure {
    name: "final greedy length over the oracle's on all episodes",
    more_is_better: false,
    unit: Unit::Ratio,
    of: |run| Some(run.versus_oracle()?.on_all.ratio),
};

impl Measure {
    /// Returns the value, signed so that larger is better; a missing value ranks last.
    pub(crate) fn rank(&self, run: &Run) -> f64 {
        match (self.of)(run) {
            None => f64::NEG_INFINITY,
            Some(value) if self.more_is_better => value,
            Some(value) => -value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::fixture::{self, run};

    #[test]
    fn a_threshold_that_was_never_reached_ranks_last() {
        let (fast, slow, never) = (run(1, 0.0, 1.0), run(1, 0.5, 1.0), run(1, 0.0, 0.8));
        let frames = |run| (FRAMES_TO_90.of)(run);
        assert!(frames(&fast) < frames(&slow), "{:?}", frames(&slow));
        assert_eq!(frames(&never), None);
        let ranks = [&fast, &slow, &never].map(|run| FRAMES_TO_90.rank(run));
        assert!(ranks[0] > ranks[1] && ranks[1] > ranks[2], "{ranks:?}");
        let ranks = [&fast, &slow, &never].map(|run| MEAN_SAMPLED.rank(run));
        assert!(ranks[0] > ranks[1] && ranks[0] > ranks[2], "{ranks:?}");
    }

    #[test]
    fn path_lengths_are_relative_to_the_oracles() {
        let run = run(1, 0.0, 1.0);
        let versus = fixture::versus_oracle(1.56);
        assert_eq!(run.versus_oracle(), Some(versus));
        assert_eq!((FINAL_LENGTH.of)(&run), Some(versus.on_all.ratio));
        assert_eq!(run.path_ratio(WalkBy::Greedy), Some(1.56));
    }
}
