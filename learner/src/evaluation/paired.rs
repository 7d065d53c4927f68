//! The length of a policy's paths divided by the oracle's, paired by episode.
//!
//! The result has two ratios of sums, because each alone misleads. One covers the episodes that both walkers solve, and
//! shows nothing of failures. The other covers all episodes, where a failure counts as `env.max_steps` moves. A
//! percentile bootstrap over episodes (Efron and Tibshirani 1993, chapter 13) gives the 95% interval of each.

use hrm_common::env::EpisodeSummary;
use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::storage::records::{LengthRatio, VersusOracle};

/// Resamples of the bootstrap. Another seed moves the ends of an interval by about a hundredth of its width.
const RESAMPLES: usize = 4000;

/// Seed of the resampling, fixed so that the same episodes give the same interval.
const SEED: u64 = 0x5041_4952_4544;

impl VersusOracle {
    /// Compares two walks of the same episodes in the same order. Returns `None` without an episode.
    ///
    /// # Panics
    ///
    /// Panics when the walks differ in their number of episodes.
    pub fn new(
        policy: &[EpisodeSummary],
        oracle: &[EpisodeSummary],
        max_steps: u32,
    ) -> Option<Self> {
        assert_eq!(policy.len(), oracle.len(), "walks of the same episodes");
        let pairs = || policy.iter().zip(oracle);
        let on_both: Vec<_> = pairs()
            .filter(|(policy, oracle)| policy.success && oracle.success)
            .map(|(policy, oracle)| (policy.length, oracle.length))
            .collect();
        let counted = |episode: &EpisodeSummary| match episode.success {
            true => episode.length,
            false => max_steps,
        };
        let on_all: Vec<_> = pairs()
            .map(|(policy, oracle)| (counted(policy), counted(oracle)))
            .collect();
        Some(Self {
            both_solve: on_both.len(),
            on_both: length_ratio(&on_both),
            on_all: length_ratio(&on_all)?,
        })
    }
}

/// Returns the ratio of the sums of these pairs of lengths, with its interval. Returns `None` without a pair.
fn length_ratio(pairs: &[(u32, u32)]) -> Option<LengthRatio> {
    if pairs.is_empty() {
        return None;
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            ratio_of_sums(
                pairs
                    .iter()
                    .map(|_| pairs[rng.random_range(0..pairs.len())]),
            )
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    let quantile = |q: f64| resampled[(q * (RESAMPLES - 1) as f64).round() as usize];
    Some(LengthRatio {
        ratio: ratio_of_sums(pairs.iter().copied()),
        ci95: [quantile(0.025), quantile(0.975)],
    })
}

/// Divides the sums. An episode takes at least one move, so the denominator is positive.
fn ratio_of_sums(pairs: impl Iterator<Item = (u32, u32)>) -> f64 {
    let (policy, oracle) = pairs.fold((0_u64, 0_u64), |sums, (policy, oracle)| {
        (sums.0 + u64::from(policy), sums.1 + u64::from(oracle))
    });
    policy as f64 / oracle as f64
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MAX_STEPS: u32 = 80;

    fn solved(length: u32) -> EpisodeSummary {
        EpisodeSummary {
            episode_return: 1.0,
            length,
            shortest_path: 1,
            success: true,
            curriculum_distance: 0,
        }
    }

    fn failed() -> EpisodeSummary {
        EpisodeSummary {
            success: false,
            ..solved(MAX_STEPS)
        }
    }

    fn versus(policy: &[EpisodeSummary], oracle: &[EpisodeSummary]) -> VersusOracle {
        VersusOracle::new(policy, oracle, MAX_STEPS).expect("episodes")
    }

    /// Each walker fails a long episode that the other solves. The quotient of the two path ratios over each walker's
    /// own successes would be (12 / 10) / (14 / 11).
    #[test]
    fn the_ratios_are_those_counted_by_hand() {
        let policy = [solved(4), solved(8), failed(), solved(40), failed()];
        let oracle = [solved(4), solved(6), solved(20), failed(), failed()];
        let found = versus(&policy, &oracle);
        assert_eq!(found.both_solve, 2);
        assert_eq!(found.on_both.expect("two").ratio, 12.0 / 10.0);
        assert_eq!(
            found.on_all.ratio,
            f64::from(4 + 8 + 80 + 40 + 80) / f64::from(4 + 6 + 20 + 80 + 80)
        );
    }

    #[test]
    fn a_failure_counts_as_max_steps_regardless_of_its_length() {
        let short = EpisodeSummary {
            length: 3,
            ..failed()
        };
        let found = versus(&[short], &[solved(10)]);
        assert_eq!((found.both_solve, found.on_both), (0, None));
        assert_eq!(found.on_all.ratio, 8.0);
    }

    #[test]
    fn zero_episodes_have_no_ratio() {
        assert_eq!(VersusOracle::new(&[], &[], MAX_STEPS), None);
    }

    /// Two episodes have three resamples; each outer one has probability 1/4.
    #[test]
    fn two_episodes_span_the_interval_from_one_to_the_other() {
        let found = length_ratio(&[(10, 10), (30, 20)]).expect("two pairs");
        assert_eq!(found.ratio, 40.0 / 30.0);
        assert_eq!(found.ci95, [1.0, 1.5]);
    }

    /// Compares the bootstrap of 2,000 episodes with the linearised standard error of a ratio (Cochran 1977, section
    /// 6.4).
    #[test]
    fn the_interval_is_that_of_the_normal_approximation() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let pairs: Vec<(u32, u32)> = (0..2000)
            .map(|_| {
                let oracle = rng.random_range(1..30);
                (
                    oracle + rng.random_range(0..2) * rng.random_range(0..9),
                    oracle,
                )
            })
            .collect();
        let n = pairs.len() as f64;
        let ratio = ratio_of_sums(pairs.iter().copied());
        let residuals = pairs
            .iter()
            .map(|&(policy, oracle)| (f64::from(policy) - ratio * f64::from(oracle)).powi(2));
        let mean = pairs.iter().map(|pair| f64::from(pair.1)).sum::<f64>() / n;
        let error = (residuals.sum::<f64>() / (n - 1.0) / n).sqrt() / mean;
        let found = length_ratio(&pairs).expect("pairs");
        for (found, expected) in found
            .ci95
            .iter()
            .zip([ratio - 1.96 * error, ratio + 1.96 * error])
        {
            assert!(
                (found - expected).abs() < 0.15 * error,
                "{found} {expected}"
            );
        }
    }

    fn episode() -> impl Strategy<Value = EpisodeSummary> {
        prop_oneof![4 => (1..MAX_STEPS).prop_map(solved), 1 => Just(failed())]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn ratios_stay_between_the_extremes_of_single_episodes(
            pairs in vec((1_u32..80, 1_u32..80), 1..40),
        ) {
            let found = length_ratio(&pairs).expect("pairs");
            let single = pairs.iter().map(|&(p, o)| f64::from(p) / f64::from(o));
            let least = single.clone().fold(f64::INFINITY, f64::min);
            let largest = single.fold(0.0, f64::max);
            let slack = 1e-12;
            for value in found.ci95.into_iter().chain([found.ratio]) {
                prop_assert!(value >= least - slack && value <= largest + slack);
            }
            prop_assert!(found.ci95[0] <= found.ci95[1]);
        }

        #[test]
        fn the_oracle_compared_with_itself_is_exactly_one(walk in vec(episode(), 1..40)) {
            let found = versus(&walk, &walk);
            let one = LengthRatio { ratio: 1.0, ci95: [1.0, 1.0] };
            prop_assert_eq!(found.on_all, one);
            prop_assert_eq!(found.on_both.is_some(), found.both_solve > 0);
            prop_assert!(found.on_both.is_none_or(|ratio| ratio == one));
        }

        #[test]
        fn the_ratio_does_not_depend_on_the_order_of_the_episodes(
            pairs in vec((episode(), episode()), 1..40),
        ) {
            let (policy, oracle): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            let (backwards, oracle_backwards): (Vec<_>, Vec<_>) =
                pairs.iter().rev().copied().unzip();
            let (there, back) =
                (versus(&policy, &oracle), versus(&backwards, &oracle_backwards));
            prop_assert_eq!(there.on_all.ratio, back.on_all.ratio);
            prop_assert_eq!(there.on_both.map(|r| r.ratio), back.on_both.map(|r| r.ratio));
            prop_assert_eq!(there, versus(&policy, &oracle), "the same interval again");
        }
    }
}
