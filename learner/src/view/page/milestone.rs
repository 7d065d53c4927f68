//! The run at its newest training record, from which the page's progress follows.

use std::time::Duration;

use hrm_common::config::LearnerConfig;

use crate::storage::records::TrainRecord;

/// The run at its newest training record, and its speed until then.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Milestone {
    frames: u64,
    seconds: f64,
    updates: u64,
    /// `None` until this start of the run has a record.
    speed: Option<MeasuredSpeed>,
}

/// The growth of a run between two records, per second of wall-clock time.
#[derive(Debug, Clone, Copy)]
struct MeasuredSpeed {
    frames: f64,
    /// Seconds of training, as in `ProgressSnapshot::pace`.
    pace: f64,
}

impl Milestone {
    /// Returns the milestone of a record of an earlier start.
    pub(super) fn earlier(record: &TrainRecord) -> Self {
        Self {
            frames: record.frames,
            seconds: record.seconds,
            updates: record.updates,
            speed: None,
        }
    }

    /// Returns the milestone of a record that follows this one.
    pub(super) fn next(self, record: &TrainRecord) -> Self {
        // Updates are tried even when none has an effect, so they measure the time between the records best. A resumed
        // run does not begin exactly at its last record, but its time per update is about the same.
        let updates = record.updates.saturating_sub(self.updates);
        let pace = match updates {
            0 => 0.0,
            _ => (record.seconds - self.seconds) / updates as f64 * record.updates_per_second,
        };
        Self {
            speed: Some(MeasuredSpeed {
                frames: record.frames_per_second,
                pace,
            }),
            ..Self::earlier(record)
        }
    }

    /// Returns the frames of a run that was last seen at `frames`.
    pub(super) fn frames(&self, frames: u64) -> u64 {
        self.frames.max(frames)
    }

    /// Returns the completed share of a run that is at `frames`, at most 1.
    pub(super) fn share_done(&self, learner: &LearnerConfig, frames: u64) -> f64 {
        learner.share_done(frames, self.seconds).min(1.0)
    }

    /// Estimates the time until the end of a run that is at `frames`. Returns `None` while the speed is unknown.
    pub(super) fn time_left(&self, learner: &LearnerConfig, frames: u64) -> Option<Duration> {
        let MeasuredSpeed {
            frames: frames_per_second,
            pace,
        } = self.speed?;
        learner.time_left(frames, self.seconds, frames_per_second, pace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fixture::train_record;

    fn goal(total_frames: u64, max_minutes: f64) -> LearnerConfig {
        LearnerConfig {
            total_frames,
            max_minutes,
            ..LearnerConfig::default()
        }
    }

    /// Returns a record after `seconds` of training, made in twice the time.
    fn record(seconds: f64) -> TrainRecord {
        TrainRecord {
            seconds,
            updates: (10.0 * seconds) as u64,
            frames_per_second: 50.0,
            updates_per_second: 5.0,
            ..train_record((100.0 * seconds) as u64)
        }
    }

    #[test]
    fn the_time_left_is_wall_clock_time() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let first = Milestone::default().next(&record(10.0));
        let second = first.next(&record(20.0));
        assert_eq!(first.time_left(&goal(10_000, 0.0), 1000), seconds(180));
        // 50 seconds of training take 100 seconds.
        assert_eq!(first.time_left(&goal(10_000, 1.0), 1000), seconds(100));
        assert_eq!(second.time_left(&goal(10_000, 1.0), 2000), seconds(80));
        assert_eq!(second.time_left(&goal(2500, 1.0), 2000), seconds(10));
    }

    #[test]
    fn a_resumed_run_first_measures_its_speed() {
        let earlier = Milestone::earlier(&record(10.0));
        assert_eq!(earlier.time_left(&goal(10_000, 1.0), 1000), None);
        assert_eq!(earlier.share_done(&goal(10_000, 0.0), 1000), 0.1);
        assert_eq!(earlier.share_done(&goal(10_000, 0.5), 1000), 10.0 / 30.0);
        let next = earlier.next(&record(20.0));
        let left = next.time_left(&goal(10_000, 1.0), 2000);
        assert_eq!(left, Some(Duration::from_secs(80)));
    }

    #[test]
    fn a_run_that_does_not_train_has_no_time_left() {
        let idle = TrainRecord {
            frames_per_second: 0.0,
            ..record(10.0)
        };
        let milestone = Milestone::earlier(&record(10.0)).next(&idle);
        assert_eq!(milestone.time_left(&goal(10_000, 1.0), 1000), None);
    }

    #[test]
    fn a_run_beyond_its_end_is_complete() {
        let milestone = Milestone::default().next(&record(90.0));
        assert_eq!(milestone.share_done(&goal(5000, 1.0), 9000), 1.0);
        let left = milestone.time_left(&goal(5000, 1.0), 9000);
        assert_eq!(left, Some(Duration::ZERO));
        assert_eq!(milestone.frames(8000), 9000);
        assert_eq!(milestone.frames(9001), 9001);
    }
}
