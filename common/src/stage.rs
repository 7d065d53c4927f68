//! Measures how a thread divides its time between stages.
//!
//! A thread is always in exactly one stage. The shares of the stages therefore add up to 1, and the largest one is the
//! bottleneck.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

pub use crate::telemetry::names::{ActorStage, LearnerStage};
use crate::telemetry::names::{Histogram, Labelled};

/// A stage of a loop that several threads of a process may run.
pub trait Stage: Labelled + Copy + PartialEq {
    /// The nanoseconds that the threads of this process have spent in the stage so far.
    fn nanoseconds(self) -> &'static AtomicU64;

    /// Returns the time that the threads of this process have spent in the stage so far, as far as it is recorded.
    fn spent(self) -> Duration {
        Duration::from_nanos(self.nanoseconds().load(Ordering::Relaxed))
    }
}

impl Stage for ActorStage {
    fn nanoseconds(self) -> &'static AtomicU64 {
        static SPENT: [AtomicU64; ActorStage::COUNT] =
            [const { AtomicU64::new(0) }; ActorStage::COUNT];
        &SPENT[self as usize]
    }
}

impl Stage for LearnerStage {
    fn nanoseconds(self) -> &'static AtomicU64 {
        static SPENT: [AtomicU64; LearnerStage::COUNT] =
            [const { AtomicU64::new(0) }; LearnerStage::COUNT];
        &SPENT[self as usize]
    }
}

/// Records the time that one thread spends in each stage, in seconds.
#[derive(Debug)]
pub struct StageClock<S> {
    histogram: Histogram<S>,
    stage: S,
    since: Instant,
}

impl<S: Stage> StageClock<S> {
    /// Returns a clock that starts in `stage` now.
    pub fn new(histogram: Histogram<S>, stage: S) -> Self {
        Self {
            histogram,
            stage,
            since: Instant::now(),
        }
    }

    /// Records the time of the current stage and enters another. Does nothing if the stage is the same.
    pub fn enter(&mut self, stage: S) {
        if stage == self.stage {
            return;
        }
        self.book();
        self.stage = stage;
    }

    /// Records the time in the current stage so far, so that a long stage shows before it ends.
    pub fn book(&mut self) {
        let now = Instant::now();
        let spent = now - self.since;
        self.histogram.with(self.stage).record(spent);
        self.stage
            .nanoseconds()
            .fetch_add(spent.as_nanos() as u64, Ordering::Relaxed);
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use metrics::{
        Counter, Gauge, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use super::*;
    use crate::telemetry::names::LEARNER_STAGE_SECONDS;

    /// Keeps the recorded values, by label.
    #[derive(Clone, Default)]
    struct Book(Arc<Mutex<Vec<(String, f64)>>>);

    struct Page(Book, String);

    impl HistogramFn for Page {
        fn record(&self, value: f64) {
            let mut entries = self.0.0.lock().expect("one thread");
            entries.push((self.1.clone(), value));
        }
    }

    impl Recorder for Book {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
            let stage = key.labels().map(|label| label.value()).collect();
            metrics::Histogram::from_arc(Arc::new(Page(self.clone(), stage)))
        }
    }

    #[test]
    fn time_is_recorded_under_the_stage_in_which_it_passed() {
        let book = Book::default();
        metrics::with_local_recorder(&book, || {
            let before = Instant::now();
            let mut clock = StageClock::new(LEARNER_STAGE_SECONDS, LearnerStage::Wait);
            let began = Instant::now();
            for stage in [
                LearnerStage::Wait,
                LearnerStage::Batch,
                LearnerStage::Batch,
                LearnerStage::Passes,
                LearnerStage::Wait,
            ] {
                clock.enter(stage);
            }
            clock.book();
            let left = Instant::now();
            clock.enter(LearnerStage::Publish);
            let after = Instant::now();

            let entries = book.0.lock().expect("one thread");
            let stages: Vec<&str> = entries.iter().map(|(stage, _)| stage.as_str()).collect();
            assert_eq!(stages, ["wait", "batch", "passes", "wait", "wait"]);
            // Seconds as f64: the sum is off by less than a nanosecond for each entry.
            let rounding = Duration::from_nanos(5).as_secs_f64();
            let booked: f64 = entries.iter().map(|(_, seconds)| seconds).sum();
            assert!(booked >= (left - began).as_secs_f64() - rounding);
            assert!(booked <= (after - before).as_secs_f64() + rounding);
        });
    }
}
