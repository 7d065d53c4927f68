//! The times at which the unrolls of a session are due.

use std::time::Duration;

use tokio::time::Instant;

use super::options::LoadOptions;

/// The times at which the unrolls of one session are due: evenly spaced, and between those of the other sessions. A
/// session that falls behind sends at once until it has caught up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Time between the unrolls of a session; zero if none has to wait.
    interval: Duration,
    /// Time from the start to the next unroll.
    next: Duration,
}

impl Pace {
    /// Returns the pace of session `index`, with unrolls of `frames` frames.
    pub(super) fn new(options: &LoadOptions, index: usize, frames: u64) -> Self {
        let apart = match options.frames_per_second {
            Some(rate) => {
                Duration::try_from_secs_f64(frames as f64 / rate).unwrap_or(Duration::MAX)
            }
            None => Duration::ZERO,
        };
        let times = |count: usize| apart.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        Self {
            interval: times(options.sessions),
            next: times(index),
        }
    }

    /// Returns the time at which the next unroll is due, if the test began at `began`. None is due later than a
    /// century.
    pub(super) fn due(&self, began: Instant) -> Instant {
        const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
        began + self.next.min(CENTURY)
    }

    /// Records that an unroll was sent.
    pub(super) fn advance(&mut self) {
        self.next = self.next.saturating_add(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::config::Config;

    use super::*;
    use crate::ActorOptions;

    fn options(sessions: usize, frames_per_second: Option<f64>) -> LoadOptions {
        LoadOptions {
            actor: ActorOptions::new(&Config::default(), "test".into()),
            sessions,
            frames_per_second,
            duration: Duration::from_secs(1),
            log_interval: Duration::from_secs(1),
        }
    }

    /// All sessions together send one unroll of 512 frames every 10 ms.
    #[test]
    fn the_sessions_together_keep_the_rate() {
        let options = options(4, Some(51_200.0));
        let began = Instant::now();
        let mut due = Vec::new();
        for index in 0..4 {
            let mut pace = Pace::new(&options, index, 512);
            for _ in 0..3 {
                due.push((pace.due(began) - began).as_millis());
                pace.advance();
            }
        }
        due.sort_unstable();
        assert_eq!(due, (0..12).map(|unroll| unroll * 10).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_rate_every_unroll_is_due_at_once() {
        let mut pace = Pace::new(&options(4, None), 3, 512);
        let began = Instant::now();
        pace.advance();
        assert_eq!(pace.due(began), began);
    }

    #[test]
    fn a_tiny_rate_does_not_overflow() {
        let mut pace = Pace::new(&options(4, Some(f64::MIN_POSITIVE)), 3, 512);
        pace.advance();
        assert!(pace.due(Instant::now()) > Instant::now());
    }
}
