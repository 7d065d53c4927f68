//! The random numbers of the mazes: one small generator per environment.
//!
//! The two draws are written here rather than taken from a library, so that a seed gives the same episodes after an
//! upgrade.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

/// Separates the seeds of evaluation from those of training.
const HELD_OUT: u64 = 0x4845_4c44_5f4f_5554;

/// Returns the seed of held-out episode `index` of the evaluation with `seed`. It is the first episode of a
/// [`Maze`](super::Maze) with this seed.
pub fn held_out_seed(seed: u64, index: u64) -> u64 {
    env_seed(seed ^ HELD_OUT, index)
}

/// Returns the seed of environment `index` of the environments that share `seed`.
///
/// The algorithm is SplitMix64 (Steele, Lea and Flood, 2014). Its state starts from the mixed seed, so that
/// neighbouring seeds share no environment.
pub fn env_seed(seed: u64, index: u64) -> u64 {
    const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let state = mix(seed.wrapping_add(GOLDEN_GAMMA));
    mix(state.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
}

/// A probability, in units of 2^-53. 0 never holds, and 1 always holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(probability: f64) -> Self {
        Self((probability * (1u64 << 53) as f64) as u64)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Rng(Xoshiro256PlusPlus);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    #[inline]
    pub(super) fn holds(&mut self, chance: Chance) -> bool {
        self.0.next_u64() >> 11 < chance.0
    }

    /// Draws a number uniformly from `0..n`, with `n` at least 1. Takes the high half of a product, so the
    /// probabilities differ by a relative n / 2^64 at most.
    #[inline]
    pub(super) fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0, "nothing to choose from");
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The expected values come from a separate Python program.
    #[test]
    fn seeds_equal_those_of_a_separate_program() {
        assert_eq!(env_seed(0, 0), 0xa706dd2f4d197e6f);
        assert_eq!(env_seed(0, 1), 0xb382a305f4414f5e);
        assert_eq!(env_seed(1, 0), 0x5e41ab087439611e);
        assert_eq!(held_out_seed(7, 3), 0x55ed56ac0b4019c6);
    }

    #[test]
    fn seeds_of_environments_differ_across_seeds_and_indices() {
        let seeds: HashSet<u64> = (0..64)
            .flat_map(|seed| (0..64).map(move |index| env_seed(seed, index)))
            .collect();
        assert_eq!(seeds.len(), 64 * 64);
    }

    #[test]
    fn chances_zero_and_one_are_certain() {
        let mut rng = Rng::new(1);
        for _ in 0..10_000 {
            assert!(!rng.holds(Chance::new(0.0)));
            assert!(rng.holds(Chance::new(1.0)));
        }
    }

    #[test]
    fn a_chance_holds_with_its_probability() {
        let mut rng = Rng::new(2);
        let n = 200_000.0;
        for p in [0.01, 0.05, 0.5, 0.97] {
            let held = (0..n as u32).filter(|_| rng.holds(Chance::new(p))).count() as f64;
            assert!(
                (held - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(),
                "{p}: {held}"
            );
        }
    }

    #[test]
    fn below_reaches_every_value_equally_often() {
        let mut rng = Rng::new(3);
        let mut counts = [0.0_f64; 7];
        for _ in 0..70_000 {
            counts[rng.below(7)] += 1.0;
        }
        let sigma = (70_000.0_f64 / 7.0 * 6.0 / 7.0).sqrt();
        assert!(
            counts
                .iter()
                .all(|count| (count - 10_000.0).abs() < 5.0 * sigma),
            "{counts:?}"
        );
    }
}
