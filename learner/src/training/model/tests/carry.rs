//! The four forms of the carry.

use super::*;

#[test]
fn carry_last_is_the_last_token_broadcast() {
    for config in [small(), paper()] {
        let with = |carry| {
            model(&ModelConfig {
                carry,
                ..config.clone()
            })
        };
        let (last, full) = (with(CarryMode::Last), with(CarryMode::Full));
        let carry = some_carry(&last);
        assert_eq!(carry.size(), [2, BATCH, 8]);
        let broadcast = carry.unsqueeze(2).expand([2, BATCH, CELLS + 1, 8], false);
        let a = last.forward(&tokens(), &carry, Gradient::None);
        let b = full.forward(&tokens(), &broadcast, Gradient::None);
        assert_same_decision(&a, &b);
        assert_close("carry", &a.carry, &b.carry.select(2, CELLS));
    }
}

#[test]
fn carry_output_is_zh_with_the_initial_zl() {
    for config in [small(), paper()] {
        let with = |carry| {
            model(&ModelConfig {
                carry,
                ..config.clone()
            })
        };
        let (output, full) = (with(CarryMode::Output), with(CarryMode::Full));
        let carry = some_carry(&output);
        assert_eq!(carry.size(), [2, BATCH, CELLS + 1, 8]);
        let initial = full.initial_carry(BATCH as usize);
        let of_zh = Tensor::stack(&[carry.get(0), initial.get(1)], 0);
        let a = output.forward(&tokens(), &carry, Gradient::None);
        let b = full.forward(&tokens(), &of_zh, Gradient::None);
        assert_same_decision(&a, &b);
        assert_close("carry", &a.carry, &b.carry);
    }
}

#[test]
fn carry_reset_starts_every_decision_from_the_initial_vectors() {
    for config in [small(), paper()] {
        let with = |carry| {
            model(&ModelConfig {
                carry,
                ..config.clone()
            })
        };
        let (reset, full) = (with(CarryMode::Reset), with(CarryMode::Full));
        let first = reset.forward(&tokens(), &reset.initial_carry(3), Gradient::None);
        assert_eq!(first.carry.size(), [2, BATCH, 0]);
        let second = reset.forward(&tokens(), &first.carry, Gradient::None);
        let expected = full.forward(&tokens(), &full.initial_carry(3), Gradient::None);
        assert_same_decision(&first, &expected);
        assert_same_decision(&second, &expected);
    }
}

#[test]
fn reset_carry_puts_ended_rows_back_and_no_other() {
    for carry in CarryMode::ALL {
        let model = model(&ModelConfig { carry, ..paper() });
        let before = some_carry(&model);
        let prepared = model.prepare(Gradient::None);
        let ended = Tensor::from_slice(&[false, true, false]);
        let after = model.reset_carry(&prepared, &before, &ended);
        assert_eq!(after.size(), before.size());
        let initial = model.initial_carry(3);
        for (row, expected) in [(0, &before), (1, &initial), (2, &before)] {
            assert_eq!(after.select(1, row), expected.select(1, row));
        }
    }
}

#[test]
fn initial_carry_is_the_two_initial_vectors() {
    let model = model(&small());
    let carry = model.initial_carry(3);
    for (which, name) in ["h_init", "l_init"].iter().enumerate() {
        let named = model.named_tensors();
        let (_, vector) = named.iter().find(|(found, _)| found == name).expect(name);
        let expected = vector.expand([BATCH, CELLS + 1, 8], false);
        assert_eq!(carry.get(which as i64), expected);
    }
}
