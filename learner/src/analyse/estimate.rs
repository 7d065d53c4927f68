//! Means and shares with 95% intervals.

use serde::Serialize;

use crate::evaluation::figures::wilson;

/// Two-sided 95% quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A mean over steps of several episodes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The mean over all steps.
    pub mean: f64,
    /// The 95% interval, cluster-robust over episodes. Steps of one episode are similar, so only episodes are
    /// independent samples.
    pub ci95: [f64; 2],
    /// Number of steps.
    pub count: usize,
}

impl Mean {
    /// Estimates the mean of values with their episodes, episode after episode. Returns `None` without values. The
    /// variance is the linearised variance of a ratio of sums over episodes (Cochran, "Sampling Techniques", 1977,
    /// chapter 6). For a single episode it is unknown, and the interval is infinite.
    pub(crate) fn clustered(values: &[(usize, f64)]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let n = count as f64;
        let mean = values.iter().map(|(_, value)| value).sum::<f64>() / n;
        let residuals: Vec<f64> = values
            .chunk_by(|(a, _), (b, _)| a == b)
            .map(|episode| episode.iter().map(|(_, value)| value - mean).sum())
            .collect();
        let clusters = residuals.len() as f64;
        let squares = residuals.iter().map(|r| r * r).sum::<f64>();
        let margin = match residuals.len() {
            1 => f64::INFINITY,
            _ => Z * (clusters / (clusters - 1.0) * squares).sqrt() / n,
        };
        Some(Self {
            mean,
            ci95: [mean - margin, mean + margin],
            count,
        })
    }
}

/// A share of a number of events.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Number of events that count.
    pub count: usize,
    /// Number of all events.
    pub of: usize,
    /// `count / of`; `None` when `of` is 0.
    pub share: Option<f64>,
    /// 95% Wilson score interval. It treats events as independent, because an episode has few of them.
    pub ci95: [f64; 2],
}

impl Share {
    /// Creates the share of `count` in `of` events.
    pub fn new(count: usize, of: usize) -> Self {
        Self {
            count,
            of,
            share: (of > 0).then(|| count as f64 / of as f64),
            ci95: wilson(count, of),
        }
    }

    /// Returns the share of events for which a condition holds.
    pub(crate) fn matching<T>(events: &[T], holds: impl Fn(&T) -> bool) -> Self {
        Self::new(
            events.iter().filter(|event| holds(event)).count(),
            events.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With one value per episode, the result is the textbook interval of a mean.
    #[test]
    fn single_steps_give_the_interval_of_a_mean() {
        let values = [1.0, 2.0, 4.0, 9.0];
        let found = Mean::clustered(&values.map(|v| (v as usize, v))).expect("values");
        let deviation = (values.iter().map(|v| (v - 4.0_f64).powi(2)).sum::<f64>() / 3.0).sqrt();
        let margin = 1.96 * deviation / 2.0;
        assert_eq!((found.mean, found.count), (4.0, 4));
        assert!((found.ci95[1] - (4.0 + margin)).abs() < 1e-3, "{found:?}");
        assert!((found.ci95[0] - (4.0 - margin)).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn repeated_values_of_an_episode_do_not_narrow_the_interval() {
        let once = [(0, 1.0), (1, 3.0), (2, 5.0)];
        let often: Vec<_> = once.iter().flat_map(|&value| [value; 10]).collect();
        let (once, often) = (Mean::clustered(&once), Mean::clustered(&often));
        let (once, often) = (once.expect("values"), often.expect("values"));
        assert_eq!((once.mean, often.mean), (3.0, 3.0));
        assert!((once.ci95[0] - often.ci95[0]).abs() < 1e-12);
    }

    #[test]
    fn one_episode_gives_an_infinite_interval_and_no_episode_no_mean() {
        let one = Mean::clustered(&[(7, 1.0), (7, 2.0)]).expect("values");
        assert_eq!(one.mean, 1.5);
        assert_eq!(one.ci95, [f64::NEG_INFINITY, f64::INFINITY]);
        assert_eq!(Mean::clustered(&[]), None);
        assert_eq!(Share::new(0, 0).share, None);
    }

    #[test]
    fn a_share_counts_the_values_that_match() {
        let share = Share::matching(&[1, 2, 3, 4], |n| *n > 1);
        assert_eq!((share.count, share.of, share.share), (3, 4, Some(0.75)));
        assert!(share.ci95[0] < 0.75 && 0.75 < share.ci95[1]);
    }
}
