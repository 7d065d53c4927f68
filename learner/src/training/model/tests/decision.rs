//! A decision of a batch: rows, heads and precision.

use super::*;

#[test]
fn rows_of_a_batch_do_not_affect_each_other() {
    for config in [small(), paper()] {
        let model = model(&config);
        let carry = some_carry(&model);
        let together = model.forward(&tokens(), &carry, Gradient::None);
        for row in 0..BATCH {
            let alone = model.forward(
                &tokens().narrow(0, row, 1),
                &carry.narrow(1, row, 1),
                Gradient::None,
            );
            assert_close("carry", &alone.carry, &together.carry.narrow(1, row, 1));
            for (alone, together) in alone.segments.iter().zip(&together.segments) {
                assert_close("logits", &alone.logits, &together.logits.narrow(0, row, 1));
                assert_close("value", &alone.value, &together.value.narrow(0, row, 1));
            }
        }
    }
}

#[test]
fn heads_read_the_token_they_are_told_to() {
    for mixing in [Mixing::Attention, Mixing::Conv] {
        for (readout, positions) in [
            (Readout::Agent, AGENTS.map(|cell| cell + 1)),
            (Readout::Last, [CELLS; 3]),
            (Readout::Prefix, [0; 3]),
        ] {
            let config = ModelConfig {
                mixing,
                readout,
                ..small()
            };
            assert_read(&model(&config), &tokens(), positions);
        }
    }
}

#[test]
fn without_an_agent_the_prefix_is_read_and_of_several_the_first() {
    let model = model(&small());
    let mut tokens = tokens();
    let _ = tokens.get(0).fill_(i64::from(tile::FLOOR));
    let _ = tokens.get(1).narrow(0, 5, 4).fill_(i64::from(tile::AGENT));
    tokens = tokens.contiguous();
    assert_read(&model, &tokens, [0, 6, CELLS]);
}

fn assert_read(model: &Hrm, tokens: &Tensor, positions: [i64; 3]) {
    let trace = model.trace(tokens, &some_carry(model), Gradient::None);
    let segment = &trace.segments[0];
    let named = model.named_tensors();
    let weight = |name: &str| {
        let (_, weight) = named.iter().find(|(found, _)| found == name).expect(name);
        weight.shallow_clone()
    };
    for (row, position) in positions.into_iter().enumerate() {
        let row = row as i64;
        let read = segment.z_h.get(row).get(position);
        let logits = weight("policy").mv(&read);
        assert_close("logits", &segment.heads.logits.get(row), &logits);
        let value = weight("value").mv(&read).get(0);
        assert_close("value", &segment.heads.value.get(row), &value);
    }
}

#[test]
fn bf16_is_close_to_f32() {
    for config in [small(), paper()] {
        let with = |dtype| {
            model(&ModelConfig {
                dtype,
                segments: Segments::new(1),
                ..config.clone()
            })
        };
        let (narrow, wide) = (with(Dtype::Bf16), with(Dtype::F32));
        let carry = some_carry(&narrow);
        assert_eq!(carry.kind(), Kind::BFloat16);
        let a = narrow.forward(&tokens(), &carry, Gradient::OneStep);
        let b = wide.forward(&tokens(), &carry.to_kind(Kind::Float), Gradient::OneStep);
        let error = max_error(&a.carry, &b.carry);
        assert!(error > 0.0 && error < 0.15, "{error}");
        let error = max_error(&a.segments[0].logits, &b.segments[0].logits);
        assert!(error < 0.03, "{error}");
        let (a, b) = (
            narrow.gradient(&loss(&a.segments)),
            wide.gradient(&loss(&b.segments)),
        );
        assert_eq!(a.kind(), Kind::Float);
        let cosine = (a.dot(&b) / (a.norm() * b.norm())).double_value(&[]);
        assert!(cosine > 0.99, "{cosine}");
    }
}
