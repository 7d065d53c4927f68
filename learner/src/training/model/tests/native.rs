//! The native forward pass against this model, with the kernels that this processor has.

use hrm_common::{
    model::{Parameters, PositionEncoding, native::Lanes},
    policy::RecurrentNetwork as _,
};
use hrm_kernels::Instructions;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::*;
use crate::training::host::host;

/// Ticks of a recurrent walk.
const TICKS: usize = 80;

/// A model, the observations and the ends of episodes of a walk.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) config: ModelConfig,
    pub(super) grid: Grid,
    pub(super) seed: u64,
}

pub(super) fn cases() -> impl Strategy<Value = Case> {
    let mixing = prop_oneof![
        3 => Just((Mixing::Conv, PositionEncoding::Learned)),
        1 => Just((Mixing::Attention, PositionEncoding::Learned)),
        1 => Just((Mixing::Attention, PositionEncoding::Rotary)),
        1 => Just((Mixing::Attention, PositionEncoding::Directional)),
    ];
    let readout = prop_oneof![
        Just(Readout::Last),
        Just(Readout::Prefix),
        Just(Readout::Agent)
    ];
    let carry = prop_oneof![
        Just(CarryMode::Full),
        Just(CarryMode::Last),
        Just(CarryMode::Reset)
    ];
    let depth = (1_usize..3, 1_usize..3, 1_usize..3, 1_usize..3, 1_usize..3);
    let sizes = (
        1_usize..10,
        1_usize..3,
        1_usize..9,
        1_usize..9,
        any::<u64>(),
    );
    (mixing, readout, carry, depth, sizes).prop_map(
        move |((mixing, position), readout, carry, depth, sizes)| {
            let (h_layers, l_layers, h_cycles, l_cycles, segments) = depth;
            let (pairs, heads, height, width, seed) = sizes;
            Case {
                config: ModelConfig {
                    hidden: 2 * pairs * heads,
                    heads,
                    h_layers,
                    l_layers,
                    h_cycles,
                    l_cycles,
                    segments: Segments::new(segments),
                    expansion: 2.0,
                    inter_multiple: 1,
                    position,
                    mixing,
                    readout,
                    carry,
                    dtype: Dtype::F32,
                    halt_head: false,
                },
                grid: Grid { height, width },
                seed,
            }
        },
    )
}

/// Numbers that look random, the same for the same seed (SplitMix64).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

pub(super) const ENVS: usize = 2;

/// One tick of this model.
pub(super) struct Tick {
    /// u8 `[N, S]`.
    pub(super) codes: Vec<u8>,
    /// The carry of each environment before the tick.
    pub(super) carries: Vec<Vec<f32>>,
    /// Logits `[N, 4]` and values `[N]` of each segment.
    heads: Vec<(Vec<f32>, Vec<f32>)>,
    /// The episodes that end with the tick.
    ended: [bool; ENVS],
}

/// Walks with this model, from the parameters that the native model gets too. `heads` multiplies the fresh heads, which
/// are so small that mistakes would hide in a tolerance.
pub(super) fn walk(case: &Case, ticks: usize, heads: f32) -> (Parameters, Vec<Tick>) {
    tch::set_num_threads(1);
    let Case { config, grid, seed } = case;
    let mut parameters = Parameters::new(config, *grid, *seed).expect("valid");
    let trained = parameters.trained().len();
    for value in &mut parameters.values_mut()[trained - 5 * config.hidden..trained] {
        *value *= heads;
    }
    let model = Hrm::from_parameters(parameters.clone(), Device::Cpu);
    let mut draws = Draws(*seed);
    let mut carry = model.initial_carry(ENVS);
    let cells = grid.len();
    let walked = (0..ticks).map(|_| {
        let codes: Vec<u8> = (0..ENVS * cells)
            .map(|_| (draws.next() % 6) as u8)
            .collect();
        let tokens = Tensor::from_slice(&codes).view([ENVS as i64, cells as i64]);
        let decision = model.forward(&tokens, &carry, Gradient::None);
        let tick = Tick {
            codes,
            carries: carries_of(&carry),
            heads: (decision.segments.iter())
                .map(|heads| (host(&heads.logits), host(&heads.value)))
                .collect(),
            ended: [(); ENVS].map(|()| draws.next().is_multiple_of(10)),
        };
        let prepared = model.prepare(Gradient::None);
        carry = model.reset_carry(&prepared, &decision.carry, &Tensor::from_slice(&tick.ended));
        tick
    });
    let walked = walked.collect();
    (parameters, walked)
}

/// Returns the largest difference of logits and values at any tick. Each side has its own carry, unless each tick
/// `resumes` from this model's.
fn difference(
    parameters: &Parameters,
    walked: &[Tick],
    instructions: Instructions,
    resumes: bool,
) -> f64 {
    let mut lanes = Lanes::with_instructions(parameters.clone(), ENVS, instructions);
    let mut worst: f64 = 0.0;
    for tick in walked {
        if resumes {
            lanes.set_carries(&tick.carries);
        }
        let segments = lanes.segments().deepest(ENVS);
        lanes.decide_all(&tick.codes, &segments, |env, segment, heads| {
            let (logits, values) = &tick.heads[segment];
            let logits = logits[4 * env..].iter().zip(&heads.logits);
            for (a, b) in logits.chain([(&values[env], &heads.value)]) {
                let apart = f64::from((a - b).abs());
                assert!(apart.is_finite(), "{a} and {b}");
                worst = worst.max(apart);
            }
        });
        for (env, _) in tick.ended.iter().enumerate().filter(|(_, ended)| **ended) {
            lanes.reset(env);
        }
    }
    worst
}

/// Returns the largest change of an output of this model, each tick from its carry, when the last bit of half of the
/// parameters changes; of three draws of that half.
fn last_bit(parameters: &Parameters, walked: &[Tick]) -> f64 {
    let mut draws = Draws(1);
    let mut most: f64 = 0.0;
    for _ in 0..3 {
        let mut nudged = parameters.clone();
        for value in nudged.values_mut() {
            *value = f32::from_bits(value.to_bits() ^ (draws.next() & 1) as u32);
        }
        let model = Hrm::from_parameters(nudged, Device::Cpu);
        for tick in walked {
            for (a, b) in outputs(&model, tick).into_iter().zip(expected(tick)) {
                most = most.max((a - b).abs().into());
            }
        }
    }
    most
}

/// Returns the outputs of a tick: logits and value, segment by segment and environment by environment.
fn expected(tick: &Tick) -> impl Iterator<Item = f32> {
    let segments = tick.heads.iter();
    segments
        .flat_map(|(logits, values)| {
            (0..ENVS).flat_map(|env| logits[4 * env..][..4].iter().chain([&values[env]]))
        })
        .copied()
}

/// Returns the same model in bfloat16.
fn in_bf16(parameters: &Parameters) -> Parameters {
    let config = ModelConfig {
        dtype: Dtype::Bf16,
        ..parameters.config().clone()
    };
    let mut narrow = Parameters::new(&config, parameters.grid(), 0).expect("valid");
    narrow.values_mut().copy_from_slice(parameters.values());
    narrow
}

/// Returns the root of the mean squared difference of all outputs from a walk in f32, each tick from its carry.
/// `decide` returns what [`expected`] does.
fn root_mean_square(walked: &[Tick], mut decide: impl FnMut(&Tick) -> Vec<f32>) -> f64 {
    let (mut squares, mut count) = (0.0, 0.0);
    for tick in walked {
        for (a, b) in expected(tick).zip(decide(tick)) {
            squares += f64::from(a - b).powi(2);
            count += 1.0;
        }
    }
    f64::sqrt(squares / count)
}

/// Decides with this model, from the carry of a tick.
fn outputs(model: &Hrm, tick: &Tick) -> Vec<f32> {
    let carry = carry_tensor(&tick.carries, &model.carry_shape(ENVS)).to_kind(model.kind());
    let tokens = Tensor::from_slice(&tick.codes).view([ENVS as i64, -1]);
    let decision = model.forward(&tokens, &carry, Gradient::None);
    let heads = decision.segments.iter();
    heads
        .flat_map(|heads| {
            let (logits, values) = (host(&heads.logits), host(&heads.value));
            (0..ENVS)
                .flat_map(|env| [&logits[4 * env..][..4], &values[env..][..1]].concat())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Decides with the native model in bfloat16.
fn rounded_natively(lanes: &mut Lanes, tick: &Tick) -> Vec<f32> {
    lanes.set_carries(&tick.carries);
    let segments = lanes.segments();
    let mut outputs = vec![0.0; segments.most * ENVS * 5];
    lanes.decide_all(
        &tick.codes,
        &segments.deepest(ENVS),
        |env, segment, heads| {
            let to = &mut outputs[(segment * ENVS + env) * 5..][..5];
            to[..4].copy_from_slice(&heads.logits);
            to[4] = heads.value;
        },
    );
    outputs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each tick starts from this model's carry. A fresh model of several blocks can multiply a difference by a hundred
    /// within a decision, so ten times what the last bit of the parameters changes is allowed on top: rounding is of
    /// that size in each of the operations in between.
    #[test]
    fn in_f32_logits_and_values_agree(case in cases()) {
        let (parameters, walked) = walk(&case, TICKS, 10.0);
        let bit = last_bit(&parameters, &walked);
        Instructions::for_each_available(|instructions| {
            let worst = difference(&parameters, &walked, instructions, true);
            assert!(worst < 1e-5 + 10.0 * bit, "{instructions}: {worst:e}, last bit {bit:e}");
        });
    }
}

/// Measured against f32, over models that are the same in every run. In a single one, the two roundings differ by
/// chance.
#[test]
fn in_bf16_rounding_costs_no_more_than_in_libtorch() {
    let mut runner = TestRunner::deterministic();
    let mut ratios = vec![Vec::new(); Instructions::ALL.len()];
    for _ in 0..25 {
        let case = cases().new_tree(&mut runner).expect("a case").current();
        let (parameters, walked) = walk(&case, 20, 10.0);
        let narrow = in_bf16(&parameters);
        let model = Hrm::from_parameters(narrow.clone(), Device::Cpu);
        let here = root_mean_square(&walked, |tick| outputs(&model, tick));
        Instructions::for_each_available(|instructions| {
            let mut lanes = Lanes::with_instructions(narrow.clone(), ENVS, instructions);
            let native = root_mean_square(&walked, |tick| rounded_natively(&mut lanes, tick));
            ratios[instructions as usize].push(native / here);
        });
    }
    Instructions::for_each_available(|instructions| {
        let ratios = &mut ratios[instructions as usize];
        ratios.sort_by(f64::total_cmp);
        let (median, most) = (ratios[12], ratios[24]);
        assert!(median < 1.2 && most < 6.0, "{instructions}: {ratios:?}");
    });
}

#[test]
fn the_small_preset_agrees_through_80_recurrent_ticks_with_resets() {
    let grid = Grid {
        height: 11,
        width: 11,
    };
    for carry in CarryMode::ALL {
        let config = ModelConfig {
            carry,
            ..ModelConfig::small()
        };
        let case = Case {
            config,
            grid,
            seed: 3,
        };
        // Rounding grows over the ticks, by as much as this processor's libtorch rounds: heads as they are.
        let (parameters, walked) = walk(&case, TICKS, 1.0);
        assert!(walked.iter().any(|tick| tick.ended.contains(&true)));
        Instructions::for_each_available(|instructions| {
            let worst = difference(&parameters, &walked, instructions, false);
            assert!(worst < 1e-5, "{instructions}, {carry:?}: {worst:e}");
        });
    }
}
