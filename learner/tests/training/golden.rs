//! The paper preset against numbers from an independent implementation, `golden/reference.py`, which says
//! what `golden/golden.safetensors` holds: two mazes, two decisions of eight segments each, one sequence
//! that starts from the initial vectors and one that starts from anything.

use std::collections::HashMap;

use hrm_common::{
    env::{Grid, tile},
    model::{Dtype, ModelConfig, NamedTensor, Parameters, native::Lanes, published, state},
    policy::RecurrentNetwork as _,
};
use hrm_kernels::Instructions;
use hrm_learner::training::model::{Gradient, Hrm, Trace};
use tch::{Device, Kind, Tensor};

const GOLDEN: &[u8] = include_bytes!("golden/golden.safetensors");
const TOLERANCE: f64 = 1e-5;
/// Every how many positions zH and zL were recorded.
const STRIDE: i64 = 8;

/// The recorded tensors: the weights under their published names, and the rest.
fn golden() -> (Vec<NamedTensor>, HashMap<String, Tensor>) {
    let (weights, rest): (Vec<NamedTensor>, Vec<NamedTensor>) = state::decode(GOLDEN)
        .expect("the committed file")
        .into_iter()
        .partition(|tensor| tensor.name.starts_with("model.inner."));
    let rest = rest.into_iter().map(|tensor| {
        let shape: Vec<i64> = tensor.shape.iter().map(|&n| n as i64).collect();
        let values = Tensor::from_slice(&tensor.values).view(shape.as_slice());
        (tensor.name, values)
    });
    (weights, rest.collect())
}

/// Characters of a screen as tile codes, u8.
fn codes(characters: &Tensor) -> Tensor {
    let mut codes = characters.full_like(255).to_kind(Kind::Uint8);
    for (character, code) in [
        (b'.', tile::FLOOR),
        (b'|', tile::WALL),
        (b'#', tile::CLOSED_DOOR),
        (b'@', tile::AGENT),
        (b'>', tile::GOAL),
    ] {
        codes = codes.masked_fill(&characters.eq(i64::from(character)), i64::from(code));
    }
    codes
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let error = (found - expected).abs().max().double_value(&[]);
    // Written so that NaN fails.
    assert!(error <= TOLERANCE, "{what}: off by {error:e}");
}

/// Checks the native forward pass.
fn check_natively(maze: &str, grid: Grid, instructions: Instructions) {
    let (weights, recorded) = golden();
    let expected = |name: &str| &recorded[&format!("{maze}.{name}")];
    let floats = |tensor: &Tensor| Vec::<f32>::try_from(tensor.reshape(-1)).expect("floats");
    let config = ModelConfig {
        dtype: Dtype::F32,
        ..ModelConfig::paper()
    };
    let mut parameters = Parameters::new(&config, grid, 0).expect("the preset");
    published::load_published(&mut parameters, &weights).expect("the published names");
    let mut lanes = Lanes::with_instructions(parameters, 2, instructions);
    let given = expected("carry");
    let given = floats(given);
    lanes.set_carries(&[lanes.carry(0), given]);
    for decision in 0..2 {
        let tokens = codes(&expected("tokens").get(decision));
        let tokens = Vec::<u8>::try_from(tokens.reshape(-1)).expect("codes");
        let segments = lanes.segments().deepest(2);
        lanes.decide_all(&tokens, &segments, |env, segment, heads| {
            let of = |name| {
                expected(name)
                    .get(decision)
                    .get(segment as i64)
                    .get(env as i64)
            };
            let what = format!("{maze}, decision {decision}, segment {segment}, {instructions}");
            assert_close(&what, &Tensor::from_slice(&heads.logits), &of("logits"));
            assert_close(&what, &Tensor::from(heads.value), &of("value"));
        });
    }
    let last: Vec<f32> = (0..2).flat_map(|env| lanes.carry(env)).collect();
    let ours = expected("final").transpose(0, 1);
    assert_close(maze, &Tensor::from_slice(&last), &ours.reshape(-1));
}

fn check(maze: &str, grid: Grid, gradient: Gradient) {
    let (weights, recorded) = golden();
    let expected = |name: &str| &recorded[&format!("{maze}.{name}")];
    let config = ModelConfig {
        dtype: Dtype::F32,
        ..ModelConfig::paper()
    };
    let mut parameters = Parameters::new(&config, grid, 0).expect("the preset");
    published::load_published(&mut parameters, &weights).expect("the published names");
    let model = Hrm::from_parameters(parameters, Device::Cpu);

    let mut carry = model.initial_carry(2);
    carry.select(1, 1).copy_(expected("carry"));
    for decision in 0..2 {
        let tokens = codes(&expected("tokens").get(decision));
        let Trace {
            segments,
            carry: next,
        } = model.trace(&tokens, &carry, gradient);
        carry = next.detach();
        assert_eq!(segments.len() as i64, expected("z").size()[1]);
        for (at, segment) in segments.iter().enumerate() {
            let of = |name| expected(name).get(decision).get(at as i64);
            let what = format!("{maze}, decision {decision}, segment {at}, {gradient:?}");
            let z = Tensor::stack(&[&segment.z_h, &segment.z_l], 0);
            let positions = z.size()[2];
            assert_close(&what, &z.slice(2, 0, positions, STRIDE), &of("z"));
            assert_close(&what, &segment.heads.logits, &of("logits"));
            assert_close(&what, &segment.heads.value, &of("value"));
        }
    }
    assert_close(maze, &carry, expected("final"));
}

const FOUR_ROOMS: Grid = Grid {
    height: 11,
    width: 11,
};

const RANDOM_MAZE: Grid = Grid {
    height: 11,
    width: 13,
};

#[test]
fn four_rooms_agrees_with_the_reference() {
    for gradient in [Gradient::None, Gradient::OneStep, Gradient::Full] {
        check("four_rooms", FOUR_ROOMS, gradient);
    }
}

#[test]
fn random_maze_agrees_with_the_reference() {
    for gradient in [Gradient::None, Gradient::OneStep, Gradient::Full] {
        check("random_maze", RANDOM_MAZE, gradient);
    }
}

#[test]
fn the_native_forward_pass_agrees_with_the_reference() {
    Instructions::for_each_available(|instructions| {
        check_natively("four_rooms", FOUR_ROOMS, instructions);
        check_natively("random_maze", RANDOM_MAZE, instructions);
    });
}
