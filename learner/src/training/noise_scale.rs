//! The gradient noise scale (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1).
//!
//! It is `tr(S) / |G|^2`, with the true gradient `G` and the covariance `S` of one frame's gradient. Its unit is
//! frames. A minibatch much smaller than it gains from more frames; for one much larger, more frames change little.

/// Share of the running means that an update keeps: they cover about 500 updates.
const DECAY: f64 = 0.998;

/// The squared norms of a minibatch's mean gradient and of those of its shards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SquaredNorms {
    /// Squared norm of the minibatch's mean gradient.
    pub(crate) whole: f64,
    /// 1 / (frames of the minibatch).
    pub(crate) inverse_frames: f64,
    /// Mean over the shards of the squared norm of a shard's mean gradient.
    pub(crate) shard: f64,
    /// Mean over the shards of 1 / (frames of the shard).
    pub(crate) inverse_shard_frames: f64,
}

/// Running means of the two parts of the noise scale. Each part alone is unbiased; their ratio is not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoiseScale {
    signal: f64,
    noise: f64,
}

impl NoiseScale {
    /// Adds the estimate of one minibatch. `E |g|^2 = |G|^2 + tr(S) / frames` holds for the minibatch and for a shard.
    pub(crate) fn add(&mut self, norms: SquaredNorms) {
        let noise =
            (norms.shard - norms.whole) / (norms.inverse_shard_frames - norms.inverse_frames);
        let signal = norms.whole - noise * norms.inverse_frames;
        if noise.is_finite() && signal.is_finite() {
            // Both means begin at 0, and their ratio cancels the same share of it.
            self.noise += (1.0 - DECAY) * (noise - self.noise);
            self.signal += (1.0 - DECAY) * (signal - self.signal);
        }
    }

    /// Returns the noise scale in frames, once there is an estimate with a positive signal.
    pub(crate) fn frames(self) -> Option<f64> {
        (self.signal > 0.0 && self.noise > 0.0).then(|| self.noise / self.signal)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    /// Draws mean gradients of shards of `sizes` frames: each coordinate of `G` is 1, and one frame's deviation is
    /// uniform with the variance `variance`.
    fn drawn(rng: &mut Xoshiro256PlusPlus, sizes: &[usize], variance: f64) -> SquaredNorms {
        const COORDINATES: usize = 40;
        let half = (3.0 * variance).sqrt();
        let shards: Vec<Vec<f64>> = sizes
            .iter()
            .map(|&size| {
                let mut coordinate = || {
                    (0..size)
                        .map(|_| rng.random_range(-half..half))
                        .sum::<f64>()
                        / size as f64
                };
                (0..COORDINATES).map(|_| 1.0 + coordinate()).collect()
            })
            .collect();
        let frames: usize = sizes.iter().sum();
        let whole = (0..COORDINATES).map(|i| {
            let weighted = shards.iter().zip(sizes);
            weighted.map(|(s, &n)| s[i] * n as f64).sum::<f64>() / frames as f64
        });
        let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
        let count = sizes.len() as f64;
        SquaredNorms {
            whole: square(&mut whole.into_iter()),
            inverse_frames: 1.0 / frames as f64,
            shard: shards
                .iter()
                .map(|s| square(&mut s.iter().copied()))
                .sum::<f64>()
                / count,
            inverse_shard_frames: sizes.iter().map(|&n| 1.0 / n as f64).sum::<f64>() / count,
        }
    }

    #[test]
    fn the_scale_is_the_variance_over_the_squared_gradient() {
        for (sizes, variance) in [
            (vec![8, 8], 4.0),
            (vec![5, 11], 4.0),
            (vec![4, 4, 4], 30.0),
            (vec![32, 32], 0.5),
        ] {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
            let mut scale = NoiseScale::default();
            assert_eq!(scale.frames(), None);
            (0..6000).for_each(|_| scale.add(drawn(&mut rng, &sizes, variance)));
            // All coordinates have the same gradient and the same variance.
            let found = scale.frames().expect("a signal");
            assert!(
                (found - variance).abs() < 0.1 * variance,
                "{found} is not {variance}, with shards of {sizes:?}"
            );
        }
    }

    #[test]
    fn an_estimate_that_is_not_finite_is_left_out() {
        let mut scale = NoiseScale::default();
        let norms = SquaredNorms {
            whole: 1.0,
            inverse_frames: 0.1,
            shard: 2.0,
            inverse_shard_frames: 0.2,
        };
        scale.add(norms);
        let before = scale.frames();
        assert!(before.is_none(), "noise 10, signal 0");
        scale.add(SquaredNorms {
            shard: 1.5,
            ..norms
        });
        let before = scale.frames().expect("a signal");
        for shard in [f64::NAN, f64::INFINITY] {
            scale.add(SquaredNorms { shard, ..norms });
        }
        assert_eq!(scale.frames(), Some(before));
    }
}
