//! Runs one long decision on one observation, and measures its state after each segment.

use hrm_common::{
    invalid_value::InvalidValue,
    model::{CarryMode, Gradient, Hrm, ModelConfig},
};
use serde::Serialize;
use tch::{Kind, Tensor};

/// The start of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The carry of the previous decision.
    Carry,
    /// The initial vectors, as at the start of an episode.
    Reset,
}

/// A module of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ProbedModule {
    /// zH, the slow module's state.
    #[serde(rename = "zH")]
    ZH,
    /// zL, the fast module's state.
    #[serde(rename = "zL")]
    ZL,
}

/// The distance of a state from the final state of its decision.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Distance {
    /// Euclidean norm of the difference, averaged over positions.
    pub(crate) absolute: f64,
    /// The same distance divided by the norm of the final state, averaged over positions.
    pub(crate) relative: f64,
}

/// The distances of one decision.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Course {
    pub start: Start,
    pub(crate) module: ProbedModule,
    /// Distances before the first segment and after each segment; the last one is 0.
    pub(crate) distances: Vec<Distance>,
}

/// The measurements at one step.
pub(super) type Probed = Vec<Course>;

/// Decisions of several segments with a model's weights, at steps of its walk. All segments see the same observation.
/// In training, a model with one segment per decision saw its own moves between segments.
#[derive(Debug)]
pub struct Probe {
    model: Hrm,
    carry: CarryMode,
}

impl Probe {
    /// Creates a probe of `segments` segments with the weights of `model`.
    ///
    /// # Errors
    ///
    /// Returns an error when a decision cannot have so many segments.
    pub fn new(model: &Hrm, segments: usize) -> Result<Self, InvalidValue> {
        let config = ModelConfig {
            segments,
            carry: CarryMode::Full,
            ..model.config().clone()
        };
        let mut probe = Hrm::new(&config, model.grid(), 0, model.device())?;
        probe
            .load(&model.named_tensors())
            .expect("neither segments nor the carry decide which tensors a model has");
        Ok(Self {
            model: probe,
            carry: model.config().carry,
        })
    }

    /// Returns the same probe for another thread.
    pub fn share(&self) -> Self {
        Self {
            model: self.model.share(),
            carry: self.carry,
        }
    }

    /// Returns the number of segments per decision.
    pub fn segments(&self) -> usize {
        self.model.config().segments
    }

    /// Returns the start of a decision that receives `carry`, as `[2, N, P, d]`. Returns `None` for a model without a
    /// carry.
    fn carried(&self, carry: &Tensor) -> Option<Tensor> {
        match self.carry {
            CarryMode::Full => Some(carry.shallow_clone()),
            CarryMode::Last => {
                let shape = self.model.carry_shape(carry.size()[1] as usize);
                Some(carry.unsqueeze(2).expand(shape, false))
            }
            CarryMode::Reset => None,
        }
    }

    /// Probes each row: tokens u8 `[N, S]`, and the carry that the walk passes to this step.
    pub(super) fn measure(&self, tokens: &Tensor, carry: &Tensor) -> Vec<Probed> {
        let envs = tokens.size()[0] as usize;
        let initial = self.model.initial_carry(envs);
        let starts = [
            self.carried(carry).map(|carry| (Start::Carry, carry)),
            Some((Start::Reset, initial)),
        ];
        let mut rows = vec![Probed::new(); envs];
        for (start, carry) in starts.into_iter().flatten() {
            for (module, states) in [ProbedModule::ZH, ProbedModule::ZL]
                .into_iter()
                .zip(self.states(tokens, &carry))
            {
                for (row, distances) in rows.iter_mut().zip(distances(&states)) {
                    row.push(Course {
                        start,
                        module,
                        distances,
                    });
                }
            }
        }
        rows
    }

    /// Returns zH and zL, `[N, P, d]` each, before the first segment and after each.
    fn states(&self, tokens: &Tensor, carry: &Tensor) -> [Vec<Tensor>; 2] {
        let trace = self.model.trace(tokens, carry, Gradient::None);
        let (mut z_h, mut z_l) = (vec![carry.get(0)], vec![carry.get(1)]);
        for segment in trace.segments {
            z_h.push(segment.z_h);
            z_l.push(segment.z_l);
        }
        [z_h, z_l]
    }
}

/// Returns, for each of the N rows, the distance of each state `[N, P, d]` from the last one.
fn distances(states: &[Tensor]) -> Vec<Vec<Distance>> {
    let wide: Vec<Tensor> = states.iter().map(|z| z.to_kind(Kind::Double)).collect();
    let Some(last) = wide.last() else {
        return Vec::new();
    };
    let envs = last.size()[0] as usize;
    let norm = |z: &Tensor| z.square().sum_dim_intlist(-1, false, Kind::Double).sqrt();
    let scale = norm(last);
    let mut rows = vec![Vec::with_capacity(wide.len()); envs];
    for z in &wide {
        let apart = norm(&(z - last));
        let mean = |positions: Tensor| {
            let mut values = vec![0.0_f64; envs];
            positions
                .mean_dim(-1, false, Kind::Double)
                .copy_data(&mut values, envs);
            values
        };
        let pairs = mean(&apart / &scale).into_iter().zip(mean(apart));
        for (row, (relative, absolute)) in rows.iter_mut().zip(pairs) {
            row.push(Distance { absolute, relative });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use hrm_common::env::{EnvConfig, Maze};
    use tch::Device;

    use super::*;

    fn model(carry: CarryMode, segments: usize) -> Hrm {
        let config = ModelConfig {
            hidden: 8,
            inter_multiple: 8,
            carry,
            segments,
            ..ModelConfig::small()
        };
        let grid = EnvConfig::four_rooms().grid();
        Hrm::new(&config, grid, 3, Device::Cpu).expect("a model")
    }

    fn tokens() -> Tensor {
        let mazes =
            [1, 2, 3].map(|seed| Maze::new(&EnvConfig::four_rooms(), seed).expect("a maze"));
        super::super::walk::observe(mazes.iter())
    }

    fn course(row: &Probed, start: Start, module: ProbedModule) -> &[Distance] {
        let found = row.iter().find(|c| c.start == start && c.module == module);
        &found.expect("measured").distances
    }

    #[test]
    fn distances_are_norms_averaged_over_positions() {
        // One environment, two positions, two dimensions.
        let state = |values: [f32; 4]| Tensor::from_slice(&values).view([1, 2, 2]);
        let states = [
            state([3.0, 4.0, 0.0, 0.0]),
            state([0.0, 0.0, 0.0, 1.0]),
            state([0.0, 0.0, 0.0, 2.0]) + 1.0,
        ];
        let found = distances(&states);
        let norms = [
            // The differences are (2, 3) and (-1, -3), then (-1, -1) and (-1, -2).
            [13.0_f64.sqrt(), 10.0_f64.sqrt()],
            [2.0_f64.sqrt(), 5.0_f64.sqrt()],
            [0.0, 0.0],
        ];
        // The last state is (1, 1) and (1, 3).
        let scale = [2.0_f64.sqrt(), 10.0_f64.sqrt()];
        assert_eq!((found.len(), found[0].len()), (1, 3));
        for (found, [a, b]) in found[0].iter().zip(norms) {
            assert!((found.absolute - (a + b) / 2.0).abs() < 1e-12, "{found:?}");
            let relative = (a / scale[0] + b / scale[1]) / 2.0;
            assert!((found.relative - relative).abs() < 1e-12, "{found:?}");
        }
    }

    #[test]
    fn at_the_start_of_an_episode_the_carry_is_the_reset() {
        for carry in [CarryMode::Full, CarryMode::Last] {
            let model = model(carry, 1);
            let probe = Probe::new(&model, 4).expect("a probe");
            for row in probe.measure(&tokens(), &model.initial_carry(3)) {
                for module in [ProbedModule::ZH, ProbedModule::ZL] {
                    let carried = course(&row, Start::Carry, module);
                    assert_eq!(carried.len(), 5);
                    assert_eq!(carried, course(&row, Start::Reset, module));
                    assert!(carried[0].absolute > 0.0);
                    assert_eq!(carried[4], Distance::default());
                }
            }
        }
    }

    #[test]
    fn a_carried_state_goes_on_where_it_was() {
        let model = model(CarryMode::Full, 1);
        let tokens = tokens();
        let one = model.forward(&tokens, &model.initial_carry(3), Gradient::None);
        let probe = Probe::new(&model, 3).expect("a probe");
        let later = probe.measure(&tokens, &one.carry);
        let whole = Probe::new(&model, 4).expect("a probe");
        let whole = whole.measure(&tokens, &model.initial_carry(3));
        for (later, whole) in later.iter().zip(&whole) {
            for module in [ProbedModule::ZH, ProbedModule::ZL] {
                let (a, b) = (
                    course(later, Start::Carry, module),
                    course(whole, Start::Reset, module),
                );
                for (a, b) in a.iter().zip(&b[1..]) {
                    assert!((a.absolute - b.absolute).abs() < 1e-5, "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn a_model_that_carries_nothing_is_probed_from_the_initial_vectors_only() {
        let model = model(CarryMode::Reset, 2);
        let probe = Probe::new(&model, 2).expect("a probe");
        let rows = probe.measure(&tokens(), &model.initial_carry(3));
        assert_eq!(rows.len(), 3);
        for row in rows {
            assert!(row.iter().all(|course| course.start == Start::Reset));
            assert_eq!(row.len(), 2);
        }
    }

    #[test]
    fn no_segment_is_too_few() {
        let error = Probe::new(&model(CarryMode::Full, 1), 0).expect_err("none");
        assert_eq!(error.key, "model.segments");
    }
}
