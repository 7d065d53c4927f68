//! Work that is due every so many frames.

/// The next multiple of an interval, in frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameMark {
    interval: u64,
    next: u64,
}

impl FrameMark {
    /// Creates the mark that follows `frames`. An `interval` of 0 is never reached.
    pub(crate) fn new(frames: u64, interval: u64) -> Self {
        Self {
            interval,
            next: multiple_after(frames, interval),
        }
    }

    /// Returns true when `frames` reaches the mark, and moves the mark past them.
    pub(crate) fn reached(&mut self, frames: u64) -> bool {
        let reached = frames >= self.next;
        if reached {
            self.next = multiple_after(frames, self.interval);
        }
        reached
    }

    /// Moves the mark forward, to the first multiple of a `share`-th of the interval after `frames`.
    pub(crate) fn sooner(&mut self, frames: u64, share: u64) {
        self.next = multiple_after(frames, (self.interval / share).max(1));
    }
}

/// Returns the first multiple of `interval` after `frames`, or the largest value when `interval` is 0.
fn multiple_after(frames: u64, interval: u64) -> u64 {
    match interval {
        0 => u64::MAX,
        interval => (frames / interval + 1) * interval,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_passes_several_marks_reaches_one() {
        let mut mark = FrameMark::new(0, 100);
        let reached: Vec<bool> = [99, 100, 150, 420, 499, 500]
            .map(|frames| mark.reached(frames))
            .into();
        assert_eq!(reached, [false, true, false, true, false, true]);
    }

    #[test]
    fn an_interval_of_zero_is_never_reached() {
        assert!(!FrameMark::new(0, 0).reached(u64::MAX - 1));
    }

    #[test]
    fn a_failed_attempt_is_repeated_sooner() {
        let mut mark = FrameMark::new(1000, 100);
        assert!(mark.reached(1100));
        mark.sooner(1100, 10);
        assert!(!mark.reached(1109));
        assert!(mark.reached(1110));
        assert!(!mark.reached(1199));
        assert!(mark.reached(1200), "the interval is the old one again");
    }

    #[test]
    fn an_interval_below_the_share_still_moves() {
        let mut mark = FrameMark::new(0, 3);
        mark.sooner(5, 10);
        assert!(!mark.reached(5));
        assert!(mark.reached(6));
    }
}
