//! The waits between attempts.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

/// The factor by which the longest possible wait grows with every attempt.
const GROWTH: u32 = 2;

/// Exponential backoff with full jitter: a wait is uniform between the shortest wait and a ceiling that doubles with
/// every attempt. Many actors that lose their learner together therefore do not reconnect together (Brooker,
/// "Exponential Backoff And Jitter", 2015).
///
/// Computes the waits only. The caller does the waiting.
#[derive(Debug, Clone)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    ceiling: Duration,
    rng: Xoshiro256PlusPlus,
}

impl Backoff {
    /// Returns a backoff with waits from `shortest` to `longest`. The same seed gives the same waits. If `longest` is
    /// below `shortest`, every wait is `shortest`.
    pub fn new(shortest: Duration, longest: Duration, seed: u64) -> Self {
        Self {
            shortest,
            longest: longest.max(shortest),
            ceiling: shortest,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    /// Returns the next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.ceiling = self.ceiling.saturating_mul(GROWTH).min(self.longest);
        self.rng.random_range(self.shortest..=self.ceiling)
    }

    /// Restarts from the shortest waits, after a success.
    pub fn reset(&mut self) {
        self.ceiling = self.shortest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHORTEST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    fn waits(backoff: &mut Backoff, count: usize) -> Vec<Duration> {
        (0..count).map(|_| backoff.next_wait()).collect()
    }

    proptest! {
        #[test]
        fn every_wait_is_below_a_ceiling_that_doubles(
            shortest in any::<Duration>(), longest in any::<Duration>(), seed: u64, resets: u16,
        ) {
            let mut backoff = Backoff::new(shortest, longest, seed);
            let mut attempt = 0;
            for i in 0..16 {
                let wait = backoff.next_wait();
                attempt += 1;
                let ceiling = shortest.saturating_mul(1 << attempt).min(longest).max(shortest);
                prop_assert!(wait >= shortest && wait <= ceiling, "attempt {attempt}: {wait:?}");
                if resets >> i & 1 == 1 {
                    backoff.reset();
                    attempt = 0;
                }
            }
        }

        #[test]
        fn waits_spread_over_the_whole_range(seed: u64) {
            let mut backoff = Backoff::new(SHORTEST, LONGEST, seed);
            let late = waits(&mut backoff, 206).split_off(6);
            prop_assert!(late.iter().any(|wait| *wait < LONGEST / 4));
            prop_assert!(late.iter().any(|wait| *wait > LONGEST * 3 / 4));
        }

        #[test]
        fn the_same_seed_gives_the_same_waits(seed: u64) {
            let new = || Backoff::new(SHORTEST, LONGEST, seed);
            prop_assert_eq!(waits(&mut new(), 20), waits(&mut new(), 20));
        }

        #[test]
        fn different_seeds_give_different_waits(seed: u64) {
            let new = |seed| Backoff::new(SHORTEST, LONGEST, seed);
            prop_assert_ne!(waits(&mut new(seed), 20), waits(&mut new(seed ^ 1), 20));
        }
    }
}
