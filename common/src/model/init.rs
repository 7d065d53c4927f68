//! Initial values, from our own random generator, so that a seed gives the same bits in every run and on every device.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Standard deviation of a unit normal distribution that is cut off at two. Division by it gives exactly the requested
/// standard deviation.
const CUT_STD: f64 = 0.879_625_661_034_239_8;

/// The distribution of initial values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Init {
    /// One value for all elements.
    Constant(f32),
    /// A normal distribution that is cut off at two of its standard deviations. It is scaled so that the result has
    /// exactly this standard deviation (as in HRM's published code).
    TruncatedNormal(f64),
}

impl Init {
    /// Returns LeCun's distribution for a matrix with `fan_in` inputs: standard deviation `1 / sqrt(fan_in)`.
    pub(super) fn lecun(fan_in: usize) -> Self {
        Self::TruncatedNormal(1.0 / (fan_in as f64).sqrt())
    }
}

/// The random source of all initial values of a model.
pub(super) struct Initialiser(Xoshiro256PlusPlus);

impl Initialiser {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Appends `count` values to `values`.
    pub(super) fn fill(&mut self, init: Init, count: usize, values: &mut Vec<f32>) {
        match init {
            Init::Constant(value) => values.resize(values.len() + count, value),
            Init::TruncatedNormal(std) => {
                values.extend((0..count).map(|_| (self.cut_normal() * std / CUT_STD) as f32));
            }
        }
    }

    /// Draws from a unit normal distribution (Box-Muller), again until the value is within two.
    fn cut_normal(&mut self) -> f64 {
        loop {
            // 1 - [0, 1) excludes zero, whose logarithm is infinite.
            let radius = (-2.0 * (1.0 - self.0.random::<f64>()).ln()).sqrt();
            let value = radius * (std::f64::consts::TAU * self.0.random::<f64>()).cos();
            if value.abs() <= 2.0 {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_normal_has_exactly_the_asked_standard_deviation() {
        let count = 400_000;
        let mut values = Vec::new();
        Initialiser::new(1).fill(Init::TruncatedNormal(0.5), count, &mut values);
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count as f64;
        let var = values
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / count as f64;
        // Five standard errors; the kurtosis of the cut normal is below the normal's 3.
        assert!(
            mean.abs() < 5.0 * 0.5 / (count as f64).sqrt(),
            "mean {mean}"
        );
        assert!(
            (var.sqrt() / 0.5 - 1.0).abs() < 5.0 / (2.0 * count as f64).sqrt(),
            "std {}",
            var.sqrt()
        );
        let limit = (2.0 * 0.5 / CUT_STD) as f32;
        let most = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        assert!(
            most <= limit && most > 0.99 * limit,
            "largest {most}, limit {limit}"
        );
    }
}
