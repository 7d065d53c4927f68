//! The progress of a walk of episodes.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hrm_common::{output, telemetry};
use indicatif::ProgressBar;

use super::{log_line_timer::LogLineTimer, screen};

const TEMPLATE: &str = "{bar:24.cyan} {pos} / {len} episodes  ETA {eta}";

/// Time between two log lines about a walk.
const LINES: Duration = Duration::from_secs(10);

/// The progress of a walk of episodes: a bar on a terminal, which vanishes at the end, and log lines elsewhere.
#[derive(Debug)]
pub(crate) struct Walk {
    bar: Option<ProgressBar>,
    lines: Mutex<Lines>,
}

/// A walk that is shown by log lines.
#[derive(Debug)]
struct Lines {
    pace: LogLineTimer,
    ended: usize,
    episodes: usize,
}

impl Walk {
    /// Starts a walk of `episodes` episodes now.
    pub(crate) fn new(episodes: usize) -> Self {
        let bar = telemetry::stderr_redraws().then(|| {
            let bar = ProgressBar::new(episodes as u64).with_style(screen::bar_style(TEMPLATE));
            bar.tick();
            bar
        });
        Self {
            bar,
            lines: Mutex::new(Lines {
                pace: LogLineTimer::new(LINES, Instant::now()),
                ended: 0,
                episodes,
            }),
        }
    }

    /// Adds `episodes` ended episodes.
    pub(crate) fn ended(&self, episodes: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(episodes as u64);
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.ended(episodes, Instant::now()) {
            output::remark(line);
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    /// Adds `episodes` ended episodes. Returns the log line if one is due.
    fn ended(&mut self, episodes: usize, now: Instant) -> Option<String> {
        self.ended += episodes;
        let due = self.pace.due(now);
        due.then(|| format!("walked {} of {} episodes", self.ended, self.episodes))
    }
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressStyle;

    use super::*;

    #[test]
    fn the_template_is_one_that_indicatif_takes() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn a_walk_without_a_bar_says_how_far_it_is() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut lines = Lines {
            pace: LogLineTimer::new(10 * second, start),
            ended: 0,
            episodes: 1000,
        };
        assert_eq!(lines.ended(64, start + 5 * second), None);
        let line = lines.ended(64, start + 10 * second).expect("it is due");
        assert_eq!(line, "walked 128 of 1000 episodes");
    }
}
