//! Adam over one flat parameter vector, with a state that checkpoints hold.

use hrm_common::config::OptimizerConfig;
use tch::{Kind, Tensor, no_grad};

use crate::{
    storage::checkpoint::{Checkpoint, CheckpointError, Moments},
    training::{host::host, schedule},
};

/// Adam with bias correction (Kingma & Ba 2015, algorithm 1), and gradient clipping by global norm.
#[derive(Debug)]
pub struct Adam {
    config: OptimizerConfig,
    moments: Moments<Tensor>,
    steps: u64,
}

impl Adam {
    /// Creates an optimiser for a flat f32 vector like `parameters`, before its first step.
    pub fn new(config: OptimizerConfig, parameters: &Tensor) -> Self {
        Self {
            config,
            moments: Moments {
                mean: parameters.zeros_like().detach(),
                square: parameters.zeros_like().detach(),
            },
            steps: 0,
        }
    }

    /// Returns the learning rate of the next step, when the share `done` of the run is over.
    pub fn learning_rate(&self, done: f64) -> f64 {
        schedule::learning_rate(&self.config, self.steps, done)
    }

    /// Clips the gradient's norm and moves `parameters` by one step, in place. Returns the norm before clipping. A
    /// gradient that is not finite changes nothing; its norm is returned, so that the caller can reject it.
    pub fn step(&mut self, parameters: &Tensor, gradient: &Tensor, learning_rate: f64) -> f64 {
        no_grad(|| {
            let norm = f64::try_from(gradient.norm()).unwrap_or(f64::NAN);
            if !norm.is_finite() {
                return norm;
            }
            let gradient = if norm > self.config.max_grad_norm {
                gradient * (self.config.max_grad_norm / norm)
            } else {
                gradient.shallow_clone()
            };
            self.steps += 1;
            let OptimizerConfig {
                beta1,
                beta2,
                epsilon,
                ..
            } = self.config;
            let Moments { mean, square } = &mut self.moments;
            let _ = mean
                .g_mul_scalar_(beta1)
                .g_add_(&(&gradient * (1.0 - beta1)));
            let _ = square
                .g_mul_scalar_(beta2)
                .g_add_(&(&gradient * &gradient * (1.0 - beta2)));
            let correction1 = 1.0 - beta1.powf(self.steps as f64);
            let correction2 = 1.0 - beta2.powf(self.steps as f64);
            let denominator = (&*square / correction2).sqrt() + epsilon;
            let mut parameters = parameters.shallow_clone();
            let _ = parameters.g_sub_(&(&*mean / denominator * (learning_rate / correction1)));
            norm
        })
    }

    /// Returns the number of steps made, and the running means.
    pub fn state(&self) -> (u64, Moments<&Tensor>) {
        let Moments { mean, square } = &self.moments;
        (self.steps, Moments { mean, square })
    }

    /// Returns the number of steps made, and copies of the running means.
    pub fn saved(&self) -> (u64, Moments<Vec<f32>>) {
        let Moments { mean, square } = &self.moments;
        let moments = Moments {
            mean: host(mean),
            square: host(square),
        };
        (self.steps, moments)
    }

    /// Restores an earlier state. Both tensors are f32 `[n]`.
    pub fn restore(&mut self, steps: u64, moments: Moments<&Tensor>) {
        no_grad(|| {
            self.steps = steps;
            let Moments { mean, square } = &mut self.moments;
            mean.copy_(&moments.mean.to_kind(Kind::Float));
            square.copy_(&moments.square.to_kind(Kind::Float));
        });
    }

    /// Restores the state of a checkpoint.
    ///
    /// # Errors
    ///
    /// Returns an error when the checkpoint holds no running means, or those of another model.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let Moments { mean, square } = checkpoint.moments(self.moments.mean.numel())?;
        let (mean, square) = (Tensor::from_slice(mean), Tensor::from_slice(square));
        let moments = Moments {
            mean: &mean,
            square: &square,
        };
        self.restore(checkpoint.state.optimizer_steps, moments);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> OptimizerConfig {
        OptimizerConfig {
            learning_rate: 0.1,
            final_learning_rate_fraction: 0.1,
            warmup_updates: 4,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            max_grad_norm: 2.0,
        }
    }

    /// Compares with algorithm 1 of the paper, computed one number at a time.
    #[test]
    fn steps_as_the_algorithm_says() {
        let start = [0.5_f64, -1.0, 2.0];
        let gradients = [[0.1_f64, -0.2, 0.3], [3.0, 4.0, 0.0], [-0.5, 0.0, 0.25]];
        let parameters = Tensor::from_slice(&start).to_kind(Kind::Float);
        let mut adam = Adam::new(config(), &parameters);
        let (mut theta, mut m, mut v) = (start, [0.0; 3], [0.0; 3]);
        for (t, gradient) in gradients.iter().enumerate() {
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let found = adam.step(
                &parameters,
                &Tensor::from_slice(gradient).to_kind(Kind::Float),
                0.1,
            );
            assert!((found - norm).abs() < 1e-5);
            let clip = (2.0 / norm).min(1.0);
            for i in 0..3 {
                let g = gradient[i] * clip;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.99 * v[i] + 0.01 * g * g;
                let m_hat = m[i] / (1.0 - 0.9_f64.powi(t as i32 + 1));
                let v_hat = v[i] / (1.0 - 0.99_f64.powi(t as i32 + 1));
                theta[i] -= 0.1 * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        for (i, expected) in theta.iter().enumerate() {
            assert!((parameters.double_value(&[i as i64]) - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_moves_nothing() {
        let parameters = Tensor::from_slice(&[1.0_f32, 2.0]);
        let mut adam = Adam::new(config(), &parameters);
        let norm = adam.step(&parameters, &Tensor::from_slice(&[f32::NAN, 1.0]), 0.1);
        assert!(!norm.is_finite());
        assert_eq!(
            Vec::<f32>::try_from(&parameters).expect("two floats"),
            [1.0, 2.0]
        );
        assert_eq!(adam.state().0, 0);
    }

    #[test]
    fn warms_up_and_decays() {
        let parameters = Tensor::from_slice(&[1.0_f32]);
        let mut adam = Adam::new(config(), &parameters);
        assert!((adam.learning_rate(0.0) - 0.025).abs() < 1e-12);
        for _ in 0..4 {
            adam.step(&parameters, &Tensor::from_slice(&[0.1_f32]), 0.1);
        }
        assert!((adam.learning_rate(0.0) - 0.1).abs() < 1e-12);
        assert!((adam.learning_rate(0.5) - 0.055).abs() < 1e-12);
        assert!((adam.learning_rate(2.0) - 0.01).abs() < 1e-12);
    }
}
