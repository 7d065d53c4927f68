//! The progress of a walk of episodes.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;

use super::{log_line_timer::LogLineTimer, screen, screen::Screen};
use crate::evaluation::evaluate::WalkObserver;

/// The text beside the bar.
const BESIDE: &str = "{percent:>3}%  {human_pos} / {human_len} episodes  ETA {msg}";

/// The progress of a walk of episodes: a bar on a terminal, which vanishes at the end, and log lines elsewhere.
#[derive(Debug)]
pub(crate) struct Walk {
    bar: Option<ProgressBar>,
    count: Mutex<WalkCount>,
}

/// The episodes of a walk, and the rhythm of its log lines.
#[derive(Debug)]
struct WalkCount {
    pace: LogLineTimer,
    began: Instant,
    ended: usize,
    episodes: usize,
}

impl Walk {
    /// Starts a walk of `episodes` episodes now.
    pub(crate) fn new(screen: &Screen, episodes: usize) -> Self {
        let bar = screen.bar(episodes as u64, BESIDE);
        if let Some(bar) = &bar {
            bar.set_message(screen::human(None));
        }
        Self {
            bar,
            count: Mutex::new(WalkCount {
                pace: screen.lines(),
                began: Instant::now(),
                ended: 0,
                episodes,
            }),
        }
    }

    /// Adds `episodes` ended episodes.
    pub(crate) fn add(&self, episodes: usize) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = count.add(episodes, now);
        let left = count.time_left(now);
        if let Some(bar) = &self.bar {
            bar.set_position(count.ended as u64);
            bar.set_message(screen::human(left));
        } else if due {
            tracing::info!(
                ended = count.ended,
                episodes = count.episodes,
                eta_seconds = left.map(|left| left.as_secs()),
                "walking"
            );
        }
    }
}

/// A walk that only a signal's default action ends.
impl WalkObserver for Walk {
    fn stops(&self) -> bool {
        false
    }

    fn ended(&self) {
        self.add(1);
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl WalkCount {
    /// Adds `episodes` ended episodes. Returns true if a log line is due.
    fn add(&mut self, episodes: usize, now: Instant) -> bool {
        self.ended += episodes;
        self.pace.due(now)
    }

    /// Estimates the time for the other episodes. Returns `None` while none has ended.
    fn time_left(&self, now: Instant) -> Option<Duration> {
        let elapsed = now.duration_since(self.began).as_secs_f64();
        let left = self.episodes.saturating_sub(self.ended) as f64;
        Duration::try_from_secs_f64(elapsed * left / self.ended as f64).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indicatif_accepts_the_template() {
        assert!(screen::template(BESIDE).is_ok());
    }

    #[test]
    fn a_walk_without_a_bar_says_how_far_it_is_and_how_long_it_takes() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut count = WalkCount {
            pace: LogLineTimer::new(10 * second, start),
            began: start,
            ended: 0,
            episodes: 1000,
        };
        assert_eq!(count.time_left(start + second), None);
        assert!(!count.add(100, start + 5 * second));
        assert_eq!(count.time_left(start + 5 * second), Some(45 * second));
        assert!(count.add(100, start + 10 * second));
        assert_eq!(count.time_left(start + 10 * second), Some(40 * second));
        count.add(800, start + 11 * second);
        assert_eq!(count.time_left(start + 50 * second), Some(Duration::ZERO));
    }
}
