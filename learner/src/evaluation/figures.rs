//! Figures over episodes: the interval of a success rate, and the path ratio.

use hrm_common::env::EpisodeSummary;

use crate::{
    evaluation::evaluate::{HeldOut, Walked},
    storage::records::{Evaluation, VersusOracle, WalkBy},
};

/// Returns the figures of a walk, paired with the oracle's by episode.
pub fn evaluation(
    held_out: &HeldOut<'_>,
    by: WalkBy,
    walk: &Walked,
    oracle: &Walked,
) -> Evaluation {
    let walked = &walk.episodes;
    let n = walked.len();
    let mean = |value: &dyn Fn(&EpisodeSummary) -> f64| {
        walked.iter().map(value).sum::<f64>() / n.max(1) as f64
    };
    let successes = walked.iter().filter(|e| e.success).count();
    Evaluation {
        policy: by,
        seed: Some(held_out.seed),
        episodes: n,
        success: mean(&|e| f64::from(u8::from(e.success))),
        success_ci95: wilson(successes, n),
        path_ratio: path_ratio(walked.iter()),
        mean_length: mean(&|e| e.length.into()),
        mean_return: mean(&|e| e.episode_return.into()),
        versus_oracle: match by {
            WalkBy::Oracle => None,
            _ => VersusOracle::new(walked, &oracle.episodes, held_out.env.max_steps),
        },
        segments: walk.mean_segments(),
    }
}

/// Returns the 95% score interval of a proportion (Wilson 1927).
pub(crate) fn wilson(successes: usize, n: usize) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let z = 1.959_963_984_540_054;
    let (n, p) = (n as f64, successes as f64 / n as f64);
    let centre = p + z * z / (2.0 * n);
    let margin = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    [
        ((centre - margin) / scale).max(0.0),
        ((centre + margin) / scale).min(1.0),
    ]
}

/// Returns the sum of lengths divided by the sum of shortest paths, successes only. The shortest paths are measured at
/// reset with all moving doors open, so 1 is a lower bound. Returns `None` without a success.
pub fn path_ratio<'a>(episodes: impl Iterator<Item = &'a EpisodeSummary>) -> Option<f64> {
    let (length, shortest) = episodes
        .filter(|e| e.success)
        .fold((0_u64, 0_u64), |sums, e| {
            (
                sums.0 + u64::from(e.length),
                sums.1 + u64::from(e.shortest_path),
            )
        });
    (shortest > 0).then(|| length as f64 / shortest as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
    #[test]
    fn the_interval_is_that_of_the_literature() {
        for (successes, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let [found_low, found_high] = wilson(successes, n);
            assert!(
                (found_low - low).abs() < 5e-5,
                "{successes}/{n}: {found_low}"
            );
            assert!(
                (found_high - high).abs() < 5e-5,
                "{successes}/{n}: {found_high}"
            );
            // Exchanging success and failure mirrors the interval.
            let [failed_low, failed_high] = wilson(n - successes, n);
            assert!((failed_low - (1.0 - high)).abs() < 5e-5);
            assert!((failed_high - (1.0 - low)).abs() < 5e-5);
        }
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }
}
