//! Initial values, from an RNG of our own so that a seed gives the same bits on every run and device.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Standard deviation of a unit normal that is cut off at two: dividing by it makes the result's exact.
const CUT_STD: f64 = 0.879_625_661_034_239_8;

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Init {
    /// Every element is this.
    Constant(f32),
    /// Truncated normal: cut off at two standard deviations of the uncut normal, which is widened so
    /// that what is left has exactly this standard deviation (as HRM's published code does).
    TruncatedNormal(f64),
}

impl Init {
    /// LeCun's rule for a matrix that maps `fan_in` inputs: standard deviation `1 / sqrt(fan_in)`.
    pub(super) fn lecun(fan_in: usize) -> Self {
        Self::TruncatedNormal(1.0 / (fan_in as f64).sqrt())
    }
}

/// The one source of initial values of a model.
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

    /// A unit normal (Box-Muller), drawn again until it is within two.
    fn cut_normal(&mut self) -> f64 {
        loop {
            // 1 - [0, 1) leaves out the zero whose logarithm is infinite.
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
