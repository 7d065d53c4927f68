//! Runs one long decision on one observation, and measures its state after each segment.

use hrm_common::{
    invalid_value::InvalidValue,
    model::{CarryMode, ModelConfig, Parameters, Segments, native::Lanes},
    policy::RecurrentNetwork as _,
};
use serde::Serialize;

/// The start of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeStart {
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
    pub start: ProbeStart,
    pub(crate) module: ProbedModule,
    /// Distances before the first segment and after each segment; the last one is 0.
    pub(crate) distances: Vec<Distance>,
}

/// The measurements at one step.
pub(super) type Probed = Vec<Course>;

/// Decisions of several segments with a model's weights, at steps of its walk. All segments see the same observation.
/// In training, a model with one segment per decision saw its own moves between segments.
#[derive(Debug, Clone)]
pub struct Probe {
    lanes: Lanes,
    /// The carry mode of the walking model; the probe's own is full.
    carry: CarryMode,
}

impl Probe {
    /// Creates a probe of `segments` segments with the weights of a model.
    ///
    /// # Errors
    ///
    /// Returns an error when a decision cannot have so many segments.
    pub fn new(parameters: &Parameters, segments: usize) -> Result<Self, InvalidValue> {
        let config = ModelConfig {
            carry: CarryMode::Full,
            ..parameters.config().clone()
        };
        let mut probe = Parameters::new(&config, parameters.grid(), 0)?
            .with_segments(Segments::new(segments))?;
        // Neither segments nor the carry decide which tensors a model has.
        probe.values_mut().copy_from_slice(parameters.values());
        Ok(Self {
            lanes: Lanes::new(probe, 0),
            carry: parameters.config().carry,
        })
    }

    /// Returns the number of segments per decision.
    pub fn segments(&self) -> usize {
        self.lanes.parameters().config().segments.most
    }

    /// Returns `zH` and `zL` of every position, `[2, P, d]`, at the start of a decision that receives a carry. Returns
    /// `None` for a model without a carry.
    fn carried(&self, carry: &[f32]) -> Option<Vec<f32>> {
        match self.carry {
            CarryMode::Full => Some(carry.to_vec()),
            CarryMode::Last => {
                let positions = self.lanes.parameters().grid().len() + 1;
                let [z_h, z_l] = halves(carry).map(|vector| vector.repeat(positions));
                Some([z_h, z_l].concat())
            }
            CarryMode::Output => {
                let initial = self.initial();
                let ([z_h, _], [_, z_l]) = (halves(carry), halves(&initial));
                Some([z_h, z_l].concat())
            }
            CarryMode::Reset => None,
        }
    }

    /// Returns the initial vectors at every position, `[2, P, d]`.
    fn initial(&self) -> Vec<f32> {
        let mut fresh = self.lanes.clone();
        fresh.set_carries(&[vec![0.0; self.state_len()]]);
        fresh.reset(0);
        fresh.carry(0)
    }

    /// Elements of `zH` and `zL` of every position.
    fn state_len(&self) -> usize {
        let parameters = self.lanes.parameters();
        2 * (parameters.grid().len() + 1) * parameters.config().hidden
    }

    /// Probes each row: tokens u8 `[N, S]`, and the carry of each that the walk passes to this step.
    pub(super) fn measure(&mut self, tokens: &[u8], carries: &[Vec<f32>]) -> Vec<Probed> {
        let initial = self.initial();
        let carried: Option<Vec<_>> = carries.iter().map(|carry| self.carried(carry)).collect();
        let starts = [
            carried.map(|states| (ProbeStart::Carry, states)),
            Some((ProbeStart::Reset, vec![initial; carries.len()])),
        ];
        let d = self.lanes.parameters().config().hidden;
        let mut rows = vec![Probed::new(); carries.len()];
        for (start, states) in starts.into_iter().flatten() {
            self.lanes.set_carries(&states);
            let traces = self.lanes.trace(tokens);
            for ((row, first), trace) in rows.iter_mut().zip(&states).zip(&traces) {
                let course: Vec<&[f32]> = std::iter::once(first.as_slice())
                    .chain(
                        trace
                            .segments
                            .iter()
                            .map(|segment| segment.state.as_slice()),
                    )
                    .collect();
                for (part, module) in [ProbedModule::ZH, ProbedModule::ZL].into_iter().enumerate() {
                    let states: Vec<&[f32]> =
                        course.iter().map(|state| halves(state)[part]).collect();
                    row.push(Course {
                        start,
                        module,
                        distances: distances(&states, d),
                    });
                }
            }
        }
        rows
    }
}

/// Returns the parts of a state: `zH` and `zL`.
fn halves(state: &[f32]) -> [&[f32]; 2] {
    let (z_h, z_l) = state.split_at(state.len() / 2);
    [z_h, z_l]
}

/// Returns the distance of each state `[P, d]` from the last one.
fn distances(states: &[&[f32]], d: usize) -> Vec<Distance> {
    let Some(last) = states.last() else {
        return Vec::new();
    };
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let positions = (last.len() / d) as f64;
    let distance = |state: &&[f32]| {
        let mut sum = Distance::default();
        for (z, end) in state.chunks_exact(d).zip(last.chunks_exact(d)) {
            let mut differences = z
                .iter()
                .zip(end)
                .map(|(&z, &end)| f64::from(z) - f64::from(end));
            let apart = norm(&mut differences);
            sum.absolute += apart / positions;
            sum.relative += apart / norm(&mut end.iter().map(|&x| f64::from(x))) / positions;
        }
        sum
    };
    states.iter().map(distance).collect()
}

#[cfg(test)]
mod tests {
    use hrm_common::{
        env::{EnvConfig, Maze},
        model::Segments,
    };

    use super::*;

    fn model(carry: CarryMode, segments: usize) -> Parameters {
        let config = ModelConfig {
            hidden: 8,
            inter_multiple: 8,
            carry,
            segments: Segments::new(segments),
            ..ModelConfig::small()
        };
        let grid = EnvConfig::four_rooms().grid();
        Parameters::new(&config, grid, 3).expect("a model")
    }

    /// The carry of three environments at the start of an episode.
    fn start(model: &Parameters) -> Vec<Vec<f32>> {
        let lanes = Lanes::new(model.clone(), 3);
        (0..3).map(|env| lanes.carry(env)).collect()
    }

    fn tokens() -> Vec<u8> {
        let mazes =
            [1, 2, 3].map(|seed| Maze::new(&EnvConfig::four_rooms(), seed).expect("a maze"));
        super::super::walk::observe(mazes.iter())
    }

    fn course(row: &Probed, start: ProbeStart, module: ProbedModule) -> &[Distance] {
        let found = row.iter().find(|c| c.start == start && c.module == module);
        &found.expect("measured").distances
    }

    #[test]
    fn distances_are_norms_averaged_over_positions() {
        // Two positions, two dimensions.
        let states: [&[f32]; 3] = [
            &[3.0, 4.0, 0.0, 0.0],
            &[0.0, 0.0, 0.0, 1.0],
            &[1.0, 1.0, 1.0, 3.0],
        ];
        let found = distances(&states, 2);
        let norms = [
            // The differences are (2, 3) and (-1, -3), then (-1, -1) and (-1, -2).
            [13.0_f64.sqrt(), 10.0_f64.sqrt()],
            [2.0_f64.sqrt(), 5.0_f64.sqrt()],
            [0.0, 0.0],
        ];
        // The last state is (1, 1) and (1, 3).
        let scale = [2.0_f64.sqrt(), 10.0_f64.sqrt()];
        assert_eq!(found.len(), 3);
        for (found, [a, b]) in found.iter().zip(norms) {
            assert!((found.absolute - (a + b) / 2.0).abs() < 1e-12, "{found:?}");
            let relative = (a / scale[0] + b / scale[1]) / 2.0;
            assert!((found.relative - relative).abs() < 1e-12, "{found:?}");
        }
    }

    #[test]
    fn at_the_start_of_an_episode_the_carry_is_the_reset() {
        for carry in [CarryMode::Full, CarryMode::Last, CarryMode::Output] {
            let model = model(carry, 1);
            let mut probe = Probe::new(&model, 4).expect("a probe");
            for row in probe.measure(&tokens(), &start(&model)) {
                for module in [ProbedModule::ZH, ProbedModule::ZL] {
                    let carried = course(&row, ProbeStart::Carry, module);
                    assert_eq!(carried.len(), 5);
                    assert_eq!(carried, course(&row, ProbeStart::Reset, module));
                    assert!(carried[0].absolute > 0.0);
                    assert_eq!(carried[4], Distance::default());
                }
            }
        }
    }

    #[test]
    fn a_probe_of_a_carried_state_continues_the_decision_before() {
        let model = model(CarryMode::Full, 1);
        let tokens = tokens();
        let mut lanes = Lanes::new(model.clone(), 3);
        lanes.trace(&tokens);
        let after: Vec<_> = (0..3).map(|env| lanes.carry(env)).collect();
        let mut probe = Probe::new(&model, 3).expect("a probe");
        let later = probe.measure(&tokens, &after);
        let mut whole = Probe::new(&model, 4).expect("a probe");
        let whole = whole.measure(&tokens, &start(&model));
        for (later, whole) in later.iter().zip(&whole) {
            for module in [ProbedModule::ZH, ProbedModule::ZL] {
                let (a, b) = (
                    course(later, ProbeStart::Carry, module),
                    course(whole, ProbeStart::Reset, module),
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
        let mut probe = Probe::new(&model, 2).expect("a probe");
        let rows = probe.measure(&tokens(), &start(&model));
        assert_eq!(rows.len(), 3);
        for row in rows {
            assert!(row.iter().all(|course| course.start == ProbeStart::Reset));
            assert_eq!(row.len(), 2);
        }
    }

    #[test]
    fn a_probe_of_zero_segments_is_rejected() {
        let error = Probe::new(&model(CarryMode::Full, 1), 0).expect_err("none");
        assert_eq!(error.key, "model.segments");
    }
}
