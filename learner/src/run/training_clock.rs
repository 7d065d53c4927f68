//! Training time, which `learner.max_minutes`, the learning-rate schedule and all `seconds` in a run's files use.
//!
//! ```text
//!   actors      ____/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾\_________/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾
//!   batches          |     |     |     |                    |     |     |
//!   counted          ===== ===== ===== =====             ==  ===== =====
//! ```
//!
//! Wall-clock time counts from the end of one batch to the end of the next, while at least one actor works. An
//! interruption, such as a suspended process or a network outage, is a gap much longer than the others. A gap counts
//! for at most [`BOUND`] times the median gap.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A gap counts for at most this multiple of the median of earlier gaps.
pub(crate) const BOUND: u32 = 10;

/// Number of gaps in the running median.
const WINDOW: usize = 101;

/// Gaps of a start before the median is used. With this many, one interruption does not move the median.
const FIRST_GAPS: usize = 3;

/// The most that a gap counts for before a median exists.
const FIRST_BOUND: Duration = Duration::from_secs(1);

/// Counts training time. It reads no clock; its owner passes the time of each event.
#[derive(Debug, Clone)]
pub(crate) struct TrainingClock {
    /// Seconds counted so far.
    counted: f64,
    /// The time of the last observation, and true if an actor worked then.
    seen: Option<(Instant, bool)>,
    /// Time with actors since the end of the last batch.
    gap: Duration,
    /// The last [`WINDOW`] gaps, oldest first.
    gaps: VecDeque<Duration>,
}

impl TrainingClock {
    /// Creates a clock that continues from the `seconds` of earlier starts.
    pub(crate) fn new(seconds: f64) -> Self {
        Self {
            counted: seconds,
            seen: None,
            gap: Duration::ZERO,
            gaps: VecDeque::with_capacity(WINDOW),
        }
    }

    /// Records whether an actor works at `now`. The time since the last observation belongs to the gap if an actor
    /// worked then.
    pub(crate) fn observe(&mut self, now: Instant, actors: bool) {
        if let Some((before, true)) = self.seen {
            self.gap += now.saturating_duration_since(before);
        }
        self.seen = Some((now, actors));
    }

    /// Counts the gap that ends with a batch at `now`. The last observation of actors remains valid.
    pub(crate) fn batch(&mut self, now: Instant) {
        let actors = self.seen.is_some_and(|(_, actors)| actors);
        self.observe(now, actors);
        let gap = std::mem::take(&mut self.gap);
        self.counted += gap.min(self.bound()).as_secs_f64();
        if self.gaps.len() == WINDOW {
            self.gaps.pop_front();
        }
        self.gaps.push_back(gap);
        if self.gaps.len() == FIRST_GAPS {
            self.counted += self.underrated();
        }
    }

    /// Returns the seconds missing from the first gaps of a start, measured with the current median. The first gaps of
    /// a slow model exceed [`FIRST_BOUND`].
    fn underrated(&self) -> f64 {
        let counted = |bound: Duration| -> f64 {
            let gaps = self.gaps.iter().map(|gap| *gap.min(&bound));
            gaps.sum::<Duration>().as_secs_f64()
        };
        (counted(self.bound()) - counted(FIRST_BOUND)).max(0.0)
    }

    /// Seconds counted so far, over all starts. Increases only at the end of a batch.
    pub(crate) fn seconds(&self) -> f64 {
        self.counted
    }

    /// Returns the most that the next gap counts for.
    fn bound(&self) -> Duration {
        if self.gaps.len() < FIRST_GAPS {
            return FIRST_BOUND;
        }
        let mut gaps: Vec<Duration> = self.gaps.iter().copied().collect();
        let middle = gaps.len() / 2;
        let (_, median, _) = gaps.select_nth_unstable(middle);
        median.saturating_mul(BOUND)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPSILON: f64 = 1e-9;

    /// A clock and a simulated time.
    struct Run {
        clock: TrainingClock,
        now: Instant,
    }

    impl Run {
        fn new() -> Self {
            Self {
                clock: TrainingClock::new(0.0),
                now: Instant::now(),
            }
        }

        /// Lets time pass with or without actors; returns the seconds counted.
        fn pass(&mut self, time: Duration, actors: bool) {
            self.clock.observe(self.now, actors);
            self.now += time;
            self.clock.observe(self.now, actors);
        }

        /// Ends a batch after `gap`; returns the seconds counted.
        fn batch(&mut self, gap: Duration) -> f64 {
            let before = self.clock.seconds();
            self.pass(gap, true);
            self.clock.batch(self.now);
            self.clock.seconds() - before
        }

        fn batches(&mut self, gaps: &[Duration]) {
            for gap in gaps {
                self.batch(*gap);
            }
        }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn gaps(range: std::ops::Range<u64>) -> impl Strategy<Value = Vec<Duration>> {
        prop::collection::vec(range.prop_map(ms), 1..300)
    }

    #[test]
    fn time_without_a_batch_counts_nothing() {
        let mut run = Run::new();
        run.pass(ms(3_600_000), false);
        run.pass(ms(3_600_000), true);
        assert_eq!(run.clock.seconds(), 0.0);
        run.clock.batch(run.now);
        assert!(run.clock.seconds() <= FIRST_BOUND.as_secs_f64());
    }

    #[test]
    fn a_suspension_among_the_first_gaps_counts_no_more_than_one_elsewhere() {
        for at in 0..FIRST_GAPS {
            let mut run = Run::new();
            for index in 0..20 {
                let gap = if index == at { ms(3_600_000) } else { ms(50) };
                run.batch(gap);
            }
            let expected = 19.0 * 0.05 + FIRST_BOUND.as_secs_f64();
            assert!((run.clock.seconds() - expected).abs() < EPSILON, "{at}");
        }
    }

    #[test]
    fn a_slow_model_is_counted_in_full_from_the_start() {
        let mut run = Run::new();
        run.batches(&[ms(40_000); 3]);
        assert!((run.clock.seconds() - 120.0).abs() < EPSILON);
        // The model's own median also bounds a suspension among the first gaps.
        let mut run = Run::new();
        run.batches(&[ms(40_000), ms(36_000_000), ms(40_000)]);
        assert!((run.clock.seconds() - 480.0).abs() < EPSILON);
    }

    #[test]
    fn a_fleet_that_stays_slower_is_counted_in_full_before_long() {
        let mut run = Run::new();
        run.batches(&[ms(10); WINDOW]);
        run.batches(&[ms(1000); WINDOW]);
        assert!((run.batch(ms(1000)) - 1.0).abs() < EPSILON);
    }

    #[test]
    fn the_clock_continues_from_earlier_starts() {
        let mut clock = TrainingClock::new(12.5);
        let start = Instant::now();
        clock.observe(start, true);
        assert_eq!(clock.seconds(), 12.5);
        clock.batch(start + ms(500));
        assert_eq!(clock.seconds(), 13.0);
    }

    proptest! {
        #[test]
        fn gaps_of_one_order_count_in_full(gaps in gaps(100..1000)) {
            let mut run = Run::new();
            run.batches(&gaps);
            let total: f64 = gaps.iter().map(Duration::as_secs_f64).sum();
            prop_assert!((run.clock.seconds() - total).abs() < EPSILON);
        }

        #[test]
        fn no_gap_counts_for_more_than_the_bound(gaps in gaps(0..100_000)) {
            let mut run = Run::new();
            for (index, gap) in gaps.iter().enumerate() {
                let counted = run.batch(*gap);
                let mut before = gaps[index.saturating_sub(WINDOW)..index].to_vec();
                before.sort_unstable();
                prop_assert!(counted >= 0.0);
                if index < FIRST_GAPS {
                    continue;
                }
                let bound = before[before.len() / 2] * BOUND;
                prop_assert!((counted - bound.min(*gap).as_secs_f64()).abs() < EPSILON);
            }
        }

        #[test]
        fn the_first_gaps_count_by_their_median_or_a_second_each(gaps in prop::array::uniform3(0u64..100_000)) {
            let mut run = Run::new();
            run.batches(&gaps.map(ms));
            let mut sorted = gaps;
            sorted.sort_unstable();
            let by = |bound: u64| gaps.iter().map(|gap| (*gap).min(bound)).sum::<u64>() as f64 / 1000.0;
            let expected = by(sorted[1] * u64::from(BOUND)).max(by(1000));
            prop_assert!((run.clock.seconds() - expected).abs() < EPSILON);
        }

        #[test]
        fn absence_counts_nothing_in_any_gap(
            gaps in gaps(1..1000), absences in prop::collection::vec((any::<prop::sample::Index>(), 0u64..10_000_000), 1..9),
        ) {
            let mut steady = Run::new();
            steady.batches(&gaps);
            let mut away = vec![Duration::ZERO; gaps.len()];
            for (index, absence) in absences {
                away[index.index(gaps.len())] += ms(absence);
            }
            let mut run = Run::new();
            for (gap, away) in gaps.iter().zip(away) {
                run.pass(*gap / 2, true);
                run.pass(away, false);
                run.batch(*gap - *gap / 2);
            }
            prop_assert!((run.clock.seconds() - steady.clock.seconds()).abs() < EPSILON);
        }

        #[test]
        fn extra_observations_do_not_change_the_time(gaps in gaps(0..5000), pieces in 1u32..20) {
            let mut once = Run::new();
            once.batches(&gaps);
            let mut often = Run::new();
            for gap in &gaps {
                let piece = *gap / pieces;
                for _ in 1..pieces {
                    often.pass(piece, true);
                }
                often.batch(*gap - piece * (pieces - 1));
            }
            prop_assert!((once.clock.seconds() - often.clock.seconds()).abs() < EPSILON);
        }
    }
}
