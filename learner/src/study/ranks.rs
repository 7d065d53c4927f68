//! The exact two-sided rank test of Mann & Whitney (1947) for two small samples, ties included.
//!
//! Under the hypothesis that both samples have the same distribution, all splits of the pooled values into the two
//! samples are equally likely. The p-value is the share of splits whose U is at least as far from its mean as the
//! observed U. Ties share the mean of their ranks.

/// The result of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RankTest {
    /// Number of pairs in which the first sample's value is larger; a tie counts half.
    pub u: f64,
    /// The exact two-sided p-value.
    pub p: f64,
    /// The probability that a random value of the first sample is larger than one of the second; a tie counts half. It
    /// is U divided by the number of pairs (McGraw & Wong 1992, "common language effect size").
    pub(crate) larger: f64,
}

/// Compares two samples. Returns `None` when one of them is empty. Infinite values are allowed; NaN ranks above all
/// others.
pub(crate) fn mann_whitney(first: &[f64], second: &[f64]) -> Option<RankTest> {
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let pooled: Vec<f64> = first.iter().chain(second).copied().collect();
    let ranks = doubled_midranks(&pooled);
    let (n, m) = (first.len(), second.len());
    // In halves, so that integers hold midranks.
    let least = n * (n + 1);
    let mean = n * m;
    let doubled_u = ranks[..n].iter().sum::<usize>() - least;
    let splits = splits_by_sum(&ranks, n);
    let all: f64 = splits.iter().sum();
    let as_far: f64 = splits
        .iter()
        .enumerate()
        .filter(|(sum, _)| sum.saturating_sub(least).abs_diff(mean) >= doubled_u.abs_diff(mean))
        .map(|(_, count)| count)
        .sum();
    let u = doubled_u as f64 / 2.0;
    Some(RankTest {
        u,
        p: as_far / all,
        larger: u / (n * m) as f64,
    })
}

/// Returns twice the rank of each value, from 1; equal values share the mean of their ranks.
fn doubled_midranks(values: &[f64]) -> Vec<usize> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| other.total_cmp(value).is_lt());
        let equal = values.iter().filter(|other| other.total_cmp(value).is_eq());
        2 * below.count() + equal.count() + 1
    };
    values.iter().map(rank).collect()
}

/// Counts the ways to choose `n` of the ranks, by their sum.
fn splits_by_sum(ranks: &[usize], n: usize) -> Vec<f64> {
    let total: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0; total + 1]; n + 1];
    ways[0][0] = 1.0;
    for &rank in ranks {
        // Downwards, so that no rank is chosen twice.
        for chosen in (1..=n).rev() {
            for sum in (rank..=total).rev() {
                ways[chosen][sum] += ways[chosen - 1][sum - rank];
            }
        }
    }
    ways.swap_remove(n)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn test(first: &[f64], second: &[f64]) -> RankTest {
        mann_whitney(first, second).expect("two samples")
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    /// Computes the p-value literally: each split is the bits of a number.
    fn by_enumeration(first: &[f64], second: &[f64]) -> f64 {
        let pooled: Vec<f64> = first.iter().chain(second).copied().collect();
        let doubled_u = |chosen: u32| -> i64 {
            let is_first = |i: usize| chosen >> i & 1 == 1;
            let mut sum = 0;
            for i in (0..pooled.len()).filter(|&i| is_first(i)) {
                for j in (0..pooled.len()).filter(|&j| !is_first(j)) {
                    sum += match pooled[i].total_cmp(&pooled[j]) {
                        std::cmp::Ordering::Greater => 2,
                        std::cmp::Ordering::Equal => 1,
                        std::cmp::Ordering::Less => 0,
                    };
                }
            }
            sum
        };
        let mean = (first.len() * second.len()) as i64;
        let found = (doubled_u((1 << first.len()) - 1) - mean).abs();
        let splits: Vec<i64> = (0..1_u32 << pooled.len())
            .filter(|chosen| chosen.count_ones() as usize == first.len())
            .map(|chosen| (doubled_u(chosen) - mean).abs())
            .collect();
        splits.iter().filter(|&&far| far >= found).count() as f64 / splits.len() as f64
    }

    #[test]
    fn samples_that_do_not_overlap_are_as_far_apart_as_can_be() {
        let (low, high) = ([1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]);
        let found = test(&high, &low);
        assert_eq!((found.u, found.larger), (25.0, 1.0));
        assert!(close(found.p, 2.0 / 252.0), "{found:?}");
        assert!(close(test(&low[..3], &high[..3]).p, 2.0 / 20.0));
        assert!(close(test(&[1.0], &[2.0]).p, 1.0));
    }

    /// Mann & Whitney (1947), table I: the distribution function of U for n = m = 5, doubled.
    #[test]
    fn the_p_value_is_that_of_the_literature() {
        let second = [1.0, 2.0, 3.0, 4.0, 5.0];
        for (first, u, one_sided) in [
            ([-5.0, -4.0, -3.0, -2.0, -1.0], 0.0, 0.004),
            ([-5.0, -4.0, -3.0, -2.0, 1.5], 1.0, 0.008),
            ([-5.0, -4.0, -3.0, -2.0, 2.5], 2.0, 0.016),
            ([-5.0, -4.0, -3.0, -2.0, 3.5], 3.0, 0.028),
            ([-5.0, -4.0, -3.0, -2.0, 4.5], 4.0, 0.048),
            ([-5.0, -4.0, -3.0, -2.0, 5.5], 5.0, 0.075),
            ([-5.0, -4.0, -3.0, 1.5, 5.5], 6.0, 0.111),
            ([-5.0, -4.0, -3.0, 2.5, 5.5], 7.0, 0.155),
            ([-5.0, -4.0, -3.0, 3.5, 5.5], 8.0, 0.210),
        ] {
            let found = test(&first, &second);
            assert_eq!(found.u, u);
            assert!(
                (found.p - 2.0 * one_sided).abs() < 1.01e-3,
                "{u}: {found:?}"
            );
        }
    }

    /// By hand: there are six ways to choose two of (1, 2, 2, 3), with ranks 1, 2.5, 2.5, 4. U is 0.5 twice, 2 twice
    /// and 3.5 twice.
    #[test]
    fn ties_share_their_ranks() {
        let found = test(&[1.0, 2.0], &[2.0, 3.0]);
        assert_eq!((found.u, found.larger), (0.5, 0.125));
        assert!(close(found.p, 4.0 / 6.0), "{found:?}");
        let found = test(&[7.0; 5], &[7.0; 5]);
        assert_eq!((found.u, found.p, found.larger), (12.5, 1.0, 0.5));
    }

    #[test]
    fn thresholds_never_reached_are_tied_for_the_last_place() {
        let never = f64::NEG_INFINITY;
        let found = test(&[never, never, -300.0], &[never, -100.0, -200.0]);
        assert_eq!(found.u, 0.5 + 0.5 + 1.0);
        assert!(close(found.p, test(&[0.0, 0.0, 1.0], &[0.0, 3.0, 2.0]).p));
    }

    #[test]
    fn an_empty_sample_has_no_result() {
        assert_eq!(mann_whitney(&[], &[1.0]), None);
        assert_eq!(mann_whitney(&[1.0], &[]), None);
    }

    fn sample() -> impl Strategy<Value = Vec<f64>> {
        // Few distinct values, so that ties occur.
        prop::collection::vec((0..6_u8).prop_map(f64::from), 1..6)
    }

    proptest! {
        #[test]
        fn the_p_value_is_the_share_of_splits(first in sample(), second in sample()) {
            let found = test(&first, &second);
            prop_assert!(close(found.p, by_enumeration(&first, &second)), "{:?}", found);
        }

        #[test]
        fn the_test_is_symmetric(first in sample(), second in sample()) {
            let (there, back) = (test(&first, &second), test(&second, &first));
            prop_assert!(close(there.p, back.p));
            prop_assert!(close(there.larger + back.larger, 1.0));
            prop_assert!((0.0..=1.0).contains(&there.larger) && there.p > 0.0 && there.p <= 1.0);
        }

        #[test]
        fn the_test_depends_only_on_the_order_of_the_values(first in sample(), second in sample()) {
            let stretched = |values: &[f64]| values.iter().map(|v| v.exp()).collect::<Vec<_>>();
            prop_assert_eq!(
                test(&first, &second),
                test(&stretched(&first), &stretched(&second))
            );
        }
    }
}
