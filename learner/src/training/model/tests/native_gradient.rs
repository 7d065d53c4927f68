//! The native one-step gradient against autograd of this model, with the kernels that this processor has.

use hrm_common::{
    config::Prefix,
    model::native::{HeadGradients, Lanes, OneStepGradient},
    policy::RecurrentNetwork as _,
};
use hrm_kernels::Instructions;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::{
    native::{Case, ENVS, cases, walk},
    *,
};
use crate::training::host::host;

/// Weights of the heads' outputs in the loss.
const WEIGHTS: [f32; 5] = [0.7, -0.4, 0.2, -0.6, 0.5];

/// Returns autograd's gradient of the weighted outputs, summed over environments and trained segments, and the
/// kernels'.
fn both(
    case: &Case,
    deep_supervision: bool,
    prefix: Prefix,
    instructions: Instructions,
) -> [Vec<f32>; 2] {
    let (parameters, ticks) = walk(case, 2, 10.0);
    let tick = &ticks[1];
    let segments = case.config.segments;
    let first = if deep_supervision { 0 } else { segments - 1 };
    let model = Hrm::from_parameters(parameters.clone(), Device::Cpu);
    let cells = case.grid.len();
    let tokens = Tensor::from_slice(&tick.codes).view([ENVS as i64, cells as i64]);
    let carry = carry_tensor(&tick.carries, &model.carry_shape(ENVS));
    let loss = |heads: &Heads| {
        let logits = &heads.logits * Tensor::from_slice(&WEIGHTS[..4]);
        logits.sum(Kind::Float) + heads.value.sum(Kind::Float) * f64::from(WEIGHTS[4])
    };
    let expected = host(&match prefix {
        Prefix::Fresh => {
            let decision = model.forward(&tokens, &carry, Gradient::OneStep);
            model.gradient(&decision.segments[first..].iter().map(loss).sum())
        }
        Prefix::Cached => {
            let prepared = model.prepare(Gradient::None);
            let (_, prefixes) = model.forward_with_prefixes(&prepared, &tokens, &carry, first);
            let start = Start::Prefixes(&prefixes);
            model.one_step_gradient(&tokens, start, first, |_, heads| loss(heads))
        }
    });

    let mut native = OneStepGradient::with_instructions(&parameters, instructions);
    let loss = |segment, _| {
        (segment >= first).then_some(HeadGradients {
            logits: [WEIGHTS[0], WEIGHTS[1], WEIGHTS[2], WEIGHTS[3]],
            value: WEIGHTS[4],
        })
    };
    let codes = tick.codes.chunks_exact(cells);
    match prefix {
        Prefix::Fresh => {
            for (codes, carry) in codes.zip(&tick.carries) {
                native.add(codes, carry.split_at(carry.len() / 2).into(), loss);
            }
        }
        Prefix::Cached => {
            let mut lanes = Lanes::with_instructions(parameters, ENVS, instructions);
            lanes.set_carries(&tick.carries);
            let mut prefixes = vec![];
            lanes.decide_with_prefixes(&tick.codes, first, &mut prefixes, |_, _, _| {});
            assert_eq!(prefixes.len(), ENVS);
            let state = 2 * (cells + 1) * case.config.hidden;
            for (codes, prefixes) in codes.zip(&prefixes) {
                assert_eq!(prefixes.len(), (segments - first) * state);
                for (segment, prefix) in (first..).zip(prefixes.chunks_exact(state)) {
                    native.add_from_prefix(codes, segment, prefix, loss);
                }
            }
        }
    }
    [expected, native.finish()]
}

/// Returns the norm of the difference, as a share of the norm of autograd's gradient.
fn difference([expected, found]: &[Vec<f32>; 2]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let norm = |numbers: &mut dyn Iterator<Item = f32>| {
        numbers.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    let apart = norm(&mut expected.iter().zip(found).map(|(a, b)| a - b));
    apart / norm(&mut expected.iter().copied())
}

#[test]
fn the_native_gradient_is_autograds() {
    let mut runner = TestRunner::deterministic();
    let mut checked = 0;
    while checked < 40 {
        let case = cases().new_tree(&mut runner).expect("a case").current();
        if !OneStepGradient::supports(case.config.mixing) {
            continue;
        }
        checked += 1;
        Instructions::for_each_available(|instructions| {
            for (deep, prefix) in [true, false]
                .into_iter()
                .flat_map(|deep| [(deep, Prefix::Fresh), (deep, Prefix::Cached)])
            {
                let apart = difference(&both(&case, deep, prefix, instructions));
                assert!(apart < 1e-5, "{instructions}: {apart:e} in {case:?}");
            }
        });
    }
}

#[test]
fn the_native_gradient_of_the_small_preset_is_autograds() {
    for (dtype, most) in [(Dtype::F32, 1e-5), (Dtype::Bf16, 0.03)] {
        let case = Case {
            config: ModelConfig {
                segments: 2,
                dtype,
                ..ModelConfig::small()
            },
            grid: Grid {
                height: 11,
                width: 11,
            },
            seed: 5,
        };
        Instructions::for_each_available(|instructions| {
            for prefix in [Prefix::Fresh, Prefix::Cached] {
                let apart = difference(&both(&case, true, prefix, instructions));
                assert!(
                    apart < most,
                    "{instructions} {dtype:?} {prefix:?}: {apart:e}"
                );
            }
        });
    }
}
