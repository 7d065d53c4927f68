//! Environments side by side, and their carry.

use super::*;

fn carries(lanes: &Lanes) -> Vec<Vec<f32>> {
    (0..lanes.envs()).map(|env| lanes.carry(env)).collect()
}

fn forms() -> impl Iterator<Item = ModelConfig> {
    let carry = CarryMode::ALL;
    let forms = carry.map(|carry| [small(), paper()].map(|form| ModelConfig { carry, ..form }));
    let dtypes = [Dtype::F32, Dtype::Bf16];
    forms.into_iter().flatten().flat_map(move |form| {
        dtypes.map(|dtype| ModelConfig {
            dtype,
            ..form.clone()
        })
    })
}

#[test]
fn other_environments_never_change_a_result() {
    for config in forms() {
        let mut many = Lanes::new(model(&config), 5);
        let mut few = Lanes::new(model(&config), 2);
        for _ in 0..3 {
            let (all, first) = (many.trace(&tokens(5)), few.trace(&tokens(2)));
            assert_eq!(all[..2], first, "{config:?}");
        }
        assert_eq!(carries(&many)[..2], carries(&few));
    }
}

#[test]
fn a_carry_is_exported_and_imported_bit_for_bit() {
    for config in forms() {
        let mut lanes = Lanes::new(model(&config), 3);
        lanes.trace(&tokens(3));
        let carry = carries(&lanes);
        assert_eq!(carry[0].len(), config.carry_elements(CELLS));
        let expected = lanes.trace(&tokens(3));
        // Into another number of environments, in another order.
        let mut others = Lanes::new(model(&config), 1);
        let turned: Vec<_> = carry.iter().rev().cloned().collect();
        others.set_carries(&turned);
        assert_eq!(carries(&others), turned);
        let observed: Vec<u8> = tokens(3).chunks(CELLS).rev().flatten().copied().collect();
        let mut found = others.trace(&observed);
        found.reverse();
        assert_eq!(found, expected, "{config:?}");
    }
}

#[test]
fn a_decision_starts_from_its_carry_at_every_position() {
    for config in forms() {
        let mut lanes = Lanes::new(model(&config), 1);
        let initial = lanes.trace(&tokens(1))[0].start.clone();
        let last = |lanes: &mut Lanes| lanes.trace(&tokens(1))[0].clone();
        let first = last(&mut lanes);
        let ended = &first.segments.last().expect("a segment").state;
        let vectors = ended.chunks_exact(config.hidden).collect::<Vec<_>>();
        let expected = match config.carry {
            CarryMode::Full => ended.clone(),
            CarryMode::Last => {
                let parts = [vectors[CELLS], vectors[2 * CELLS + 1]];
                parts.map(|vector| vector.repeat(CELLS + 1)).concat()
            }
            CarryMode::Output => {
                let half = ended.len() / 2;
                [&ended[..half], &initial[half..]].concat()
            }
            CarryMode::Reset => initial,
        };
        assert_eq!(last(&mut lanes).start, expected, "{config:?}");
    }
}

#[test]
fn a_reset_gives_one_environment_the_initial_vectors() {
    for config in forms() {
        let mut lanes = Lanes::new(model(&config), 3);
        let initial = carries(&lanes);
        lanes.trace(&tokens(3));
        let walked = carries(&lanes);
        if config.carry != CarryMode::Reset {
            assert!(walked.iter().zip(&initial).all(|(a, b)| a != b));
        }
        lanes.reset(1);
        assert_eq!(
            carries(&lanes),
            [walked[0].clone(), initial[1].clone(), walked[2].clone()]
        );
    }
}

#[test]
fn retained_environments_keep_their_carry_in_order() {
    let mut lanes = Lanes::new(model(&small()), 4);
    lanes.trace(&tokens(4));
    let before = carries(&lanes);
    lanes.retain(&[3, 1]);
    assert_eq!(carries(&lanes), [before[3].clone(), before[1].clone()]);
}

#[test]
fn published_weights_replace_the_old_ones_and_keep_the_carry() {
    let other = Parameters::new(&small(), GRID, 8).expect("valid");
    let mut lanes = Lanes::new(model(&small()), 2);
    lanes.trace(&tokens(2));
    let carry = carries(&lanes);
    assert!(lanes.load(b"no weights").is_err());
    assert_eq!(
        state::encode(lanes.parameters()),
        state::encode(&model(&small()))
    );
    lanes.load(&state::encode(&other)).expect("the same form");
    assert_eq!(carries(&lanes), carry);
    let mut expected = Lanes::new(other, 2);
    expected.set_carries(&carry);
    assert_eq!(lanes.trace(&tokens(2)), expected.trace(&tokens(2)));
}

#[test]
fn carry_bytes_are_zh_then_zl_and_rounded_where_they_travel_as_bf16() {
    let mut lanes = Lanes::new(model(&small()), 2);
    lanes.trace(&tokens(2));
    let carry = carries(&lanes);
    let half = carry[0].len() / 2;
    let expected: Vec<u8> = [0, 1]
        .into_iter()
        .flat_map(|part| carry.iter().map(move |carry| &carry[part * half..][..half]))
        .flatten()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    assert_eq!(lanes.carry_bytes(Dtype::F32)[..], expected);
    assert_eq!(carries(&lanes), carry);
    let bytes = lanes.carry_bytes(Dtype::Bf16);
    assert_eq!(bytes.len(), expected.len() / 2);
    let first = half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    assert_eq!(lanes.carry(0)[0], first);
    assert_ne!(carries(&lanes), carry);
    assert_eq!(lanes.carry_bytes(Dtype::Bf16), bytes);
}

#[test]
#[should_panic(expected = "is not a token")]
fn an_observation_with_an_unknown_code_panics() {
    Lanes::new(model(&small()), 1).trace(&[9; CELLS]);
}

/// Returns the changes of `zH` and the entropies of one environment's segments.
fn judged(trace: &DecisionTrace) -> [Vec<f64>; 2] {
    let mut before = &trace.start;
    let (mut changes, mut entropies) = (vec![], vec![]);
    for StateAfterSegment { state, heads } in &trace.segments {
        let half = state.len() / 2;
        let squares = state[..half].iter().zip(&before[..half]).map(|(a, b)| {
            let change = f64::from(a - b);
            change * change
        });
        changes.push((squares.sum::<f64>() / half as f64).sqrt());
        entropies.push(entropy(&heads.logits).into());
        before = state;
    }
    [changes, entropies]
}

/// Returns a threshold between two of these numbers.
fn between(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    f64::midpoint(sorted[1], sorted[2])
}

#[test]
fn a_decision_ends_with_the_first_segment_that_meets_the_rule() {
    const ENVS: usize = 4;
    let mut numbers_seen = std::collections::BTreeSet::new();
    for form in forms() {
        let range = Segments::range(1, 4);
        let form = ModelConfig {
            segments: range,
            ..form
        };
        let traces = Lanes::new(model(&form), ENVS).trace(&tokens(ENVS));
        let judged: Vec<_> = traces.iter().map(judged).collect();
        for (rule, halt) in [Halt::Change, Halt::Entropy].into_iter().enumerate() {
            let threshold = between(&judged[0][rule]);
            let config = ModelConfig {
                segments: Segments {
                    halt: Some(halt(threshold)),
                    ..range
                },
                ..form.clone()
            };
            let fewest = [1, 2, 1, 4];
            let expected: Vec<u8> = judged
                .iter()
                .zip(fewest)
                .map(|(judged, fewest)| {
                    let met = |number: &u8| judged[rule][usize::from(number - 1)] <= threshold;
                    (fewest..4).find(met).unwrap_or(4)
                })
                .collect();
            let mut lanes = Lanes::new(model(&config), ENVS);
            let mut depths = fewest.map(Depth::at_least);
            let mut logits = [0.0; ENVS * ACTIONS];
            lanes.decide(&tokens(ENVS), &mut depths, &mut logits);
            let numbers = depths.map(|depth| depth.segments);
            assert_eq!(numbers[..], expected, "{config:?}");
            numbers_seen.extend(numbers);

            // The learner runs these numbers again, without the rule.
            let mut again = Lanes::new(model(&config), ENVS);
            let (rows, _) = logits.as_chunks::<ACTIONS>();
            let mut last = [[0.0; ACTIONS]; ENVS];
            again.decide_all(&tokens(ENVS), &numbers, |env, _, heads| {
                last[env] = heads.logits;
            });
            assert_eq!(last, rows);
            assert_eq!(carries(&again), carries(&lanes));
        }
    }
    assert!(numbers_seen.len() > 2, "{numbers_seen:?}");
}
