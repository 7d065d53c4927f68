//! The native one-step gradient against autograd of this model, with the kernels that this processor has.

use hrm_common::{
    config::Prefix,
    model::{
        Segments,
        native::{HeadGradients, Lanes, OneStepGradient},
    },
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

/// The gradient of one parameter.
struct OfParameter {
    name: String,
    by_autograd: Vec<f32>,
    by_kernels: Vec<f32>,
}

/// Computes the gradient of the weighted outputs, summed over environments and trained segments, by autograd and by the
/// kernels.
fn both(
    case: &Case,
    deep_supervision: bool,
    prefix: Prefix,
    instructions: Instructions,
) -> Vec<OfParameter> {
    let (parameters, ticks) = walk(case, 2, 10.0);
    let tick = &ticks[1];
    let segments = case.config.segments.most;
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
            let (_, prefixes) =
                model.forward_with_prefixes(&prepared, &tokens, &carry, None, first);
            let start = Start::Prefixes(&prefixes);
            model.one_step_gradient(&tokens, start, (first, None), |_, heads, _| loss(heads))
        }
    });

    let mut native = OneStepGradient::with_instructions(&parameters, instructions);
    let loss = |segment, _| {
        (segment >= first).then_some(HeadGradients {
            logits: [WEIGHTS[0], WEIGHTS[1], WEIGHTS[2], WEIGHTS[3]],
            value: WEIGHTS[4],
            halt: [0.0; 2],
        })
    };
    let codes = tick.codes.chunks_exact(cells);
    match prefix {
        Prefix::Fresh => {
            for (codes, carry) in codes.zip(&tick.carries) {
                native.add(
                    codes,
                    segments,
                    carry.split_at(carry.len() / 2).into(),
                    loss,
                );
            }
        }
        Prefix::Cached => {
            let mut lanes = Lanes::with_instructions(parameters.clone(), ENVS, instructions);
            lanes.set_carries(&tick.carries);
            let mut prefixes = vec![];
            let deepest = lanes.segments().deepest(ENVS);
            lanes.decide_with_prefixes(&tick.codes, &deepest, first, &mut prefixes, |_, _, _| {});
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
    let found = native.finish();
    assert_eq!(expected.len(), found.len());
    let mut from = 0;
    let of_parameter = |(name, _, values): (&str, &[usize], &[f32])| {
        let part = from..from + values.len();
        from = part.end;
        Some(OfParameter {
            name: name.to_owned(),
            by_autograd: expected.get(part.clone())?.to_vec(),
            by_kernels: found[part].to_vec(),
        })
    };
    // The parameters that are trained come first.
    parameters.iter().map_while(of_parameter).collect()
}

/// Returns the parameter whose two gradients are farthest apart, with the norm of the difference as a share of the norm
/// of autograd's gradient. The gradient of a parameter can cancel out almost to nothing, so a norm below a thousandth
/// of the largest counts as that.
fn farthest(all: &[OfParameter]) -> (f64, &str) {
    let norm = |numbers: &mut dyn Iterator<Item = f32>| {
        numbers.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    let size = |of: &OfParameter| norm(&mut of.by_autograd.iter().copied());
    let least = 1e-3 * all.iter().map(size).fold(0.0, f64::max);
    let apart = |of: &OfParameter| {
        let pairs = of.by_autograd.iter().zip(&of.by_kernels);
        norm(&mut pairs.map(|(a, b)| a - b)) / size(of).max(least)
    };
    let shares = all.iter().map(|of| (apart(of), of.name.as_str()));
    shares.fold((0.0, ""), |a, b| if b.0 > a.0 { b } else { a })
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
                let gradients = both(&case, deep, prefix, instructions);
                let (apart, name) = farthest(&gradients);
                assert!(
                    apart < 1e-5,
                    "{instructions}: {apart:e} of {name} in {case:?}"
                );
            }
        });
    }
}

#[test]
fn the_native_gradient_of_the_small_preset_is_autograds() {
    for (dtype, most) in [(Dtype::F32, 1e-5), (Dtype::Bf16, 0.03)] {
        let case = Case {
            config: ModelConfig {
                segments: Segments::new(2),
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
                let gradients = both(&case, true, prefix, instructions);
                let (apart, name) = farthest(&gradients);
                assert!(
                    apart < most,
                    "{instructions} {dtype:?} {prefix:?}: {apart:e} of {name}"
                );
            }
        });
    }
}
