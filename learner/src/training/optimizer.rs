//! Adam over one flat parameter vector, with a state that checkpoints hold.

use hrm_common::{
    checkpoint::{Checkpoint, CheckpointError, Moments},
    config::OptimizerConfig,
};
use tch::{Kind, Tensor, no_grad};

use crate::training::{host::host, queued::Queued, schedule};

/// Adam with bias correction (Kingma & Ba 2015, algorithm 1), and gradient clipping by global norm.
#[derive(Debug)]
pub struct Adam {
    config: OptimizerConfig,
    moments: Moments<Tensor>,
    steps: u64,
}

/// The steps on one batch.
#[derive(Debug)]
pub(crate) struct Steps {
    /// f64 `[steps, 2]`: the learning rate over the correction of the mean, and the correction of the square.
    table: Queued,
    /// i64: the number made so far.
    made: Queued,
    one: Queued,
    zero: Queued,
    beta1: Queued,
    beta2: Queued,
    max_norm: Queued,
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

    /// Returns the learning rate of the step that follows `made` more steps, when the share `done` of the run is over.
    pub(crate) fn learning_rate_after(&self, made: u64, done: f64) -> f64 {
        schedule::learning_rate(&self.config, self.steps + made, done)
    }

    /// Prepares up to `most` steps on the parameters' device, when the share `done` of the run is over. Their learning
    /// rate is multiplied by `factor`.
    pub(crate) fn begin(&self, most: usize, done: f64, factor: f64) -> Steps {
        let device = self.moments.mean.device();
        let OptimizerConfig {
            beta1,
            beta2,
            max_grad_norm,
            ..
        } = self.config;
        let rows = (0..most as u64).flat_map(|made| {
            let step = (self.steps + made + 1) as f64;
            let learning_rate = factor * self.learning_rate_after(made, done);
            [
                learning_rate / (1.0 - beta1.powf(step)),
                1.0 - beta2.powf(step),
            ]
        });
        let table = Tensor::from_slice(&rows.collect::<Vec<f64>>()).view([-1, 2]);
        let number = |value| Queued::number(value, device);
        Steps {
            table: Queued::new(table.to_device(device)),
            made: Queued::new(Tensor::zeros([0; 0], (Kind::Int64, device))),
            one: number(1.0),
            zero: number(0.0),
            beta1: number(beta1),
            beta2: number(beta2),
            max_norm: number(max_grad_norm),
        }
    }

    /// Clips the gradient's norm and moves `parameters` by one step, in place. Returns the norm before clipping. A
    /// gradient that is not finite changes nothing, which its norm shows. Nothing waits for the device.
    pub(crate) fn step(
        &mut self,
        parameters: &Tensor,
        gradient: &Queued,
        steps: &mut Steps,
    ) -> Queued {
        no_grad(|| {
            let norm = gradient.norm();
            let finite = norm.is_finite();
            let share = steps.max_norm.over(&norm).at_most(1.0);
            let gradient = gradient.times(&share).or_zeros(&finite);
            let OptimizerConfig {
                beta1,
                beta2,
                epsilon,
                ..
            } = self.config;
            let Moments { mean, square } = &self.moments;
            let (mut mean, mut square) = (Queued::share(mean), Queued::share(square));
            mean.multiply(&steps.beta1.if_true(&finite, &steps.one));
            mean.add(&gradient.scaled(1.0 - beta1));
            square.multiply(&steps.beta2.if_true(&finite, &steps.one));
            square.add(&gradient.times(&gradient).scaled(1.0 - beta2));
            let [rate, correction2] = steps.table.row(&steps.made);
            let direction = mean.over(&square.over(&correction2).sqrt_plus(epsilon));
            let rate = rate.if_true(&finite, &steps.zero);
            Queued::share(parameters).subtract(&direction.times(&rate));
            steps.made.add(&finite);
            norm
        })
    }

    /// Counts the steps that a batch made: those whose gradient was finite.
    pub(crate) fn end(&mut self, made: u64) {
        self.steps += made;
    }

    /// Makes one step at the start of a run, and returns the norm of the gradient.
    #[cfg(test)]
    pub(crate) fn step_once(&mut self, parameters: &Tensor, gradient: &Tensor) -> f64 {
        let mut steps = self.begin(1, 0.0, 1.0);
        let norm = self.step(parameters, &Queued::share(gradient), &mut steps);
        let norm = super::host::read(&[norm])[0][0];
        self.end(u64::from(norm.is_finite()));
        norm
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
    use crate::training::host::read;

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

    /// Compares with algorithm 1 of the paper, computed one number at a time. A gradient that is not finite is left out
    /// as if it had never been there.
    #[test]
    fn adam_steps_as_its_published_algorithm() {
        let start = [0.5_f64, -1.0, 2.0];
        let gradients = [
            [0.1_f64, -0.2, 0.3],
            [3.0, 4.0, 0.0],
            [1.0, f64::NAN, 0.0],
            [-0.5, 0.0, 0.25],
            [f64::INFINITY, 0.0, 0.0],
            [0.2, 0.2, -0.1],
        ];
        let parameters = Tensor::from_slice(&start).to_kind(Kind::Float);
        let config = config();
        let mut adam = Adam::new(config.clone(), &parameters);
        let mut steps = adam.begin(gradients.len(), 0.5, 1.0);
        let norms = gradients.map(|gradient| {
            let gradient = Tensor::from_slice(&gradient).to_kind(Kind::Float);
            adam.step(&parameters, &Queued::new(gradient), &mut steps)
        });
        adam.end(4);
        let (mut theta, mut m, mut v, mut made) = (start, [0.0; 3], [0.0; 3], 0);
        for (found, gradient) in read(&norms).concat().into_iter().zip(gradients) {
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            if !norm.is_finite() {
                assert!(!found.is_finite());
                continue;
            }
            assert!((found - norm).abs() < 1e-5);
            let rate = schedule::learning_rate(&config, made, 0.5);
            made += 1;
            let clip = (2.0 / norm).min(1.0);
            for i in 0..3 {
                let g = gradient[i] * clip;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.99 * v[i] + 0.01 * g * g;
                let m_hat = m[i] / (1.0 - 0.9_f64.powi(made as i32));
                let v_hat = v[i] / (1.0 - 0.99_f64.powi(made as i32));
                theta[i] -= rate * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        assert_eq!(adam.state().0, made);
        for (i, expected) in theta.iter().enumerate() {
            assert!((parameters.double_value(&[i as i64]) - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_moves_nothing() {
        let parameters = Tensor::from_slice(&[1.0_f32, 2.0]);
        let mut adam = Adam::new(config(), &parameters);
        let norm = adam.step_once(&parameters, &Tensor::from_slice(&[f32::NAN, 1.0]));
        assert!(!norm.is_finite());
        assert_eq!(
            Vec::<f32>::try_from(&parameters).expect("two floats"),
            [1.0, 2.0]
        );
        assert_eq!(adam.state().0, 0);
    }

    #[test]
    fn the_learning_rate_warms_up_and_decays() {
        let parameters = Tensor::from_slice(&[1.0_f32]);
        let mut adam = Adam::new(config(), &parameters);
        assert!((adam.learning_rate_after(0, 0.0) - 0.025).abs() < 1e-12);
        for _ in 0..4 {
            adam.step_once(&parameters, &Tensor::from_slice(&[0.1_f32]));
        }
        assert!((adam.learning_rate_after(0, 0.0) - 0.1).abs() < 1e-12);
        assert!((adam.learning_rate_after(0, 0.5) - 0.055).abs() < 1e-12);
        assert!((adam.learning_rate_after(0, 2.0) - 0.01).abs() < 1e-12);
    }
}
