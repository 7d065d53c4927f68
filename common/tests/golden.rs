//! The paper preset against numbers from an independent implementation, `golden/reference.py`, which says
//! what `golden/golden.safetensors` holds: two mazes, two decisions of eight segments each, one sequence
//! that starts from the initial vectors and one that starts from anything.

use std::collections::HashMap;

use hrm_common::{
    env::{Grid, token},
    model::{Dtype, Gradient, Hrm, ModelConfig, Trace, published, state},
};
use tch::{Device, Kind, Tensor};

const GOLDEN: &[u8] = include_bytes!("golden/golden.safetensors");
const TOLERANCE: f64 = 1e-5;
/// Every how many positions zH and zL were recorded.
const STRIDE: i64 = 8;

/// The recorded tensors: the weights under their published names, and the rest.
fn golden() -> (Vec<(String, Tensor)>, HashMap<String, Tensor>) {
    let (weights, rest): (Vec<_>, Vec<_>) = state::decode(GOLDEN)
        .expect("the committed file")
        .into_iter()
        .partition(|(name, _)| name.starts_with("model.inner."));
    (weights, rest.into_iter().collect())
}

/// Characters of a screen as token codes, u8.
fn codes(characters: &Tensor) -> Tensor {
    let mut codes = characters.full_like(255).to_kind(Kind::Uint8);
    for (character, code) in [
        (b'.', token::FLOOR),
        (b'|', token::WALL),
        (b'#', token::CLOSED_DOOR),
        (b'@', token::AGENT),
        (b'>', token::GOAL),
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

fn check(maze: &str, grid: Grid, gradient: Gradient) {
    let (weights, recorded) = golden();
    let expected = |name: &str| &recorded[&format!("{maze}.{name}")];
    let config = ModelConfig {
        dtype: Dtype::F32,
        ..ModelConfig::paper()
    };
    let mut model = Hrm::new(&config, grid, 0, Device::Cpu).expect("the preset");
    published::load_published(&mut model, &weights).expect("the published names");

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

#[test]
fn four_rooms_agrees_with_the_reference() {
    for gradient in [Gradient::None, Gradient::OneStep, Gradient::Full] {
        check(
            "four_rooms",
            Grid {
                height: 11,
                width: 11,
            },
            gradient,
        );
    }
}

#[test]
fn random_maze_agrees_with_the_reference() {
    for gradient in [Gradient::None, Gradient::OneStep, Gradient::Full] {
        check(
            "random_maze",
            Grid {
                height: 11,
                width: 13,
            },
            gradient,
        );
    }
}
