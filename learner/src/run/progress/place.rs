//! The place of a run in its study.

use std::{fmt, time::Duration};

/// The place of a run in its study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StudyPlace {
    /// The run's number, from 1.
    pub(crate) number: usize,
    /// The runs of the study.
    pub(crate) of: usize,
    /// The time of the runs after this one, if it can be estimated.
    pub(crate) others: Option<Duration>,
}

impl StudyPlace {
    /// Returns the time of the rest of the study, from that of the run.
    pub(super) fn time_left(&self, run: Option<Duration>) -> Option<Duration> {
        run?.checked_add(self.others?)
    }
}

impl fmt::Display for StudyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} of {}", self.number, self.of)
    }
}
