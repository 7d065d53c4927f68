//! A number over seeds: median and range, when some runs have no value.

/// Median, smallest and largest value of a number over runs. `None` stands for a run that never reached the value, and
/// ranks above all measured values. Such runs are not dropped; otherwise the arms that fail most often would look best.
///
/// The range from smallest to largest is also a confidence interval of the median, for any distribution, by order
/// statistics. All n values are on one side of the true median with probability 2 / 2^n. (A bootstrap of the median
/// over five runs gives the same interval.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// The median; for an even number, the mean of the two middle values.
    pub median: Option<f64>,
    /// The smallest value.
    pub low: Option<f64>,
    /// The largest value.
    pub high: Option<f64>,
    /// Number of runs.
    pub runs: usize,
    /// Number of runs that reached the value.
    pub reached: usize,
}

impl Spread {
    /// Computes the spread of these values.
    pub(crate) fn new(values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let mut values: Vec<f64> = values
            .into_iter()
            .map(|value| value.unwrap_or(f64::INFINITY))
            .collect();
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().filter(|value| value.is_finite());
        let n = values.len();
        Self {
            median: match n {
                0 => None,
                _ => (|| Some((at((n - 1) / 2)? + at(n / 2)?) / 2.0))(),
            },
            low: at(0),
            high: n.checked_sub(1).and_then(at),
            runs: n,
            reached: values.iter().filter(|value| value.is_finite()).count(),
        }
    }
}

/// Returns the probability that the range of `runs` values holds the true median.
pub(crate) fn coverage(runs: usize) -> f64 {
    1.0 - 2.0 / 2_f64.powi(runs.max(1) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[Option<f64>]) -> (Option<f64>, Option<f64>, Option<f64>) {
        let found = Spread::new(values.iter().copied());
        (found.median, found.low, found.high)
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(
            spread(&[Some(3.0), Some(1.0), Some(2.0)]),
            (Some(2.0), Some(1.0), Some(3.0))
        );
        assert_eq!(
            spread(&[Some(4.0), Some(1.0), Some(2.0), Some(9.0)]),
            (Some(3.0), Some(1.0), Some(9.0))
        );
        assert_eq!(spread(&[Some(7.0)]), (Some(7.0), Some(7.0), Some(7.0)));
        assert_eq!(spread(&[]), (None, None, None));
    }

    #[test]
    fn a_run_that_never_reaches_the_threshold_counts_as_the_last() {
        let (some, none) = (Some(1.0), None);
        assert_eq!(spread(&[none, some, Some(2.0)]), (Some(2.0), some, none));
        assert_eq!(spread(&[none, some, none]), (none, some, none));
        assert_eq!(spread(&[none, some]), (none, some, none));
        assert_eq!(spread(&[none, none]), (none, none, none));
        let found = Spread::new([none, some, Some(2.0)]);
        assert_eq!((found.runs, found.reached), (3, 2));
    }

    #[test]
    fn the_interval_states_its_coverage() {
        let found = [1, 2, 3, 5].map(coverage);
        assert_eq!(found, [0.0, 0.5, 0.75, 0.9375]);
    }
}
