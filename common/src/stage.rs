//! Where a thread's time goes: it is always in exactly one stage, so that the shares of the stages
//! add up to the whole and the largest names the bottleneck.

use std::time::Instant;

pub use crate::telemetry::names::{ActorStage, LearnerStage};
use crate::telemetry::names::{Histogram, Labelled};

/// Books the time of one thread to its stages.
#[derive(Debug)]
pub struct StageClock<S> {
    histogram: Histogram<S>,
    stage: S,
    since: Instant,
}

impl<S: Labelled + Copy + PartialEq> StageClock<S> {
    /// A clock that starts in `stage` now.
    pub fn new(histogram: Histogram<S>, stage: S) -> Self {
        Self {
            histogram,
            stage,
            since: Instant::now(),
        }
    }

    /// Leaves the present stage, whose time is recorded, for another. Nothing happens when it is the same.
    pub fn enter(&mut self, stage: S) {
        if stage == self.stage {
            return;
        }
        let now = Instant::now();
        self.histogram.with(self.stage).record(now - self.since);
        (self.stage, self.since) = (stage, now);
    }
}
