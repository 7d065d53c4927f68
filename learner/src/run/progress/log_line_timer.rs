//! The rhythm of log lines.

use std::time::{Duration, Instant};

/// Decides when the next log line is due.
#[derive(Debug)]
pub(super) struct LogLineTimer {
    interval: Duration,
    last: Instant,
}

impl LogLineTimer {
    /// Starts now.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            last: now,
        }
    }

    /// Returns true when an interval has passed since it last returned true.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.last) >= self.interval;
        if due {
            self.last = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_distance() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = LogLineTimer::new(10 * second, start);
        assert!(!pace.due(start + 9 * second));
        assert!(pace.due(start + 10 * second));
        assert!(!pace.due(start + 19 * second));
        assert!(pace.due(start + 25 * second));
        assert!(!pace.due(start + 34 * second));
    }
}
