//! The gradient modes, and where the gradient reaches.

use super::*;
use crate::training::model::carry::CarryTensors as _;

#[test]
fn gradient_modes_compute_the_same_numbers() {
    for config in [small(), paper()] {
        let model = model(&config);
        let carry = some_carry(&model);
        let none = model.forward(&tokens(), &carry, Gradient::None);
        assert!(!none.segments[0].logits.requires_grad());
        for gradient in [Gradient::OneStep, Gradient::Full] {
            let other = model.forward(&tokens(), &carry, gradient);
            assert_same_decision(&other, &none);
            assert_close("carry", &other.carry, &none.carry);
            assert_eq!(other.carry.requires_grad(), gradient == Gradient::Full);
        }
    }
}

/// Computes the state before the last call of L without gradient, then one call of L and H with a full gradient. The
/// result must equal the one-step gradient of the whole decision.
#[test]
fn one_step_gradient_is_that_of_the_last_l_and_h_call() {
    for (config, l_cycles) in [(small(), 2), (small(), 1), (paper(), 2), (paper(), 1)] {
        // The same seed and shapes give the same parameters. Only the cycles differ.
        let cycles = |h_cycles, l_cycles, segments| {
            model(&ModelConfig {
                h_cycles,
                l_cycles,
                segments: Segments::new(segments),
                ..config.clone()
            })
        };
        let carried = |model: Hrm, carry| model.forward(&tokens(), carry, Gradient::None).carry;
        let whole = cycles(2, l_cycles, 2);
        let carry = some_carry(&whole);
        let decision = whole.forward(&tokens(), &carry, Gradient::OneStep);

        // Segment one, the first H cycle of segment two, and all calls of L but the last in its second H cycle.
        let begun = carried(cycles(2, l_cycles, 1), &carry);
        let mut before = carried(cycles(1, l_cycles, 1), &begun);
        if l_cycles > 1 {
            let after_l = carried(cycles(1, l_cycles - 1, 1), &before);
            before = Tensor::stack(&[before.get(0), after_l.get(1)], 0);
        }
        let rest = cycles(1, 1, 1);
        let last = rest.forward(&tokens(), &before, Gradient::Full);

        assert_close(
            "logits",
            &decision.segments[1].logits,
            &last.segments[0].logits,
        );
        let expected = gradients(&rest, loss(&last.segments));
        let found = gradients(&whole, loss(&decision.segments[1..]));
        assert_same_gradients(&whole, &found, &expected);

        let full = whole.forward(&tokens(), &carry, Gradient::Full);
        let full = gradients(&whole, loss(&full.segments[1..]));
        let differs = |(a, b)| max_error(a, b) > 1e-3;
        assert!(
            full.iter().zip(&expected).any(differs),
            "and not the full gradient"
        );
    }
}

/// The graph of one segment at a time gives the gradient of the whole graph, from a carry and from kept prefixes.
#[test]
fn the_gradient_segment_by_segment_is_that_of_the_whole_graph() {
    for (config, dtype, bound) in [
        (small(), Dtype::F32, 1e-5),
        (paper(), Dtype::F32, 1e-5),
        (small(), Dtype::Bf16, 0.02),
        (paper(), Dtype::Bf16, 0.02),
    ] {
        let model = model(&ModelConfig {
            segments: Segments::new(3),
            h_cycles: 2,
            dtype,
            ..config
        });
        let carry = some_carry(&model);
        for first in [0, 2] {
            let decision = model.forward(&tokens(), &carry, Gradient::OneStep);
            // Each segment has a weight of its own.
            let weighted = |index: usize, heads: &Heads| {
                loss(std::slice::from_ref(heads)) * (1.0 + index as f64)
            };
            let trained = decision.segments[first..].iter().enumerate();
            let whole = trained.map(|(index, heads)| weighted(index, heads)).sum();
            let expected = model.gradient(&whole);
            let prepared = model.prepare(Gradient::None);
            let (_, prefixes) =
                model.forward_with_prefixes(&prepared, &tokens(), &carry, None, first);
            let size = expected.abs().max().double_value(&[]);
            assert!(size > 1e-2);
            for start in [Start::Carry(&carry), Start::Prefixes(&prefixes)] {
                let found =
                    model.one_step_gradient(&tokens(), start, (first, None), |s, heads, _| {
                        weighted(s, heads)
                    });
                let error = max_error(&found, &expected);
                assert!(
                    error < bound * size,
                    "{start:?} from {first} in {dtype:?}: {error:e} of {size:e}"
                );
            }
        }
    }
}

/// A graph of segments without a loss would only take memory and time.
#[test]
fn untrained_segments_have_no_graph() {
    for config in [small(), paper()] {
        let model = model(&ModelConfig {
            segments: Segments::new(3),
            ..config
        });
        let carry = some_carry(&model);
        let trace = model.trace(&tokens(), &carry, Gradient::None);
        let prepared = model.prepare(Gradient::OneStep);
        let observed = model.observe(&prepared, &tokens());
        let open = model
            .config()
            .carry
            .open(&observed.rows, &carry, &prepared.initial);
        let z = model.untrained(&prepared, &observed, open, 2);
        assert!(z.iter().all(|z| !z.requires_grad()));
        let second = &trace.segments[1];
        let found = z.each_ref().map(|z| observed.rows.unpack(z));
        assert_close("zH", &found[0], &second.z_h);
        assert_close("zL", &found[1], &second.z_l);
        let trained = model.last_calls(&prepared, &observed, z);
        assert!(trained.iter().all(Tensor::requires_grad));
    }
}

#[test]
fn gradient_is_flat_and_zero_where_the_loss_does_not_reach() {
    let model = model(&small());
    let forward = || model.forward(&tokens(), &some_carry(&model), Gradient::OneStep);
    let expected: Vec<Tensor> = gradients(&model, loss(&forward().segments))
        .iter()
        .map(|gradient| gradient.reshape(-1))
        .collect();
    let found = model.gradient(&loss(&forward().segments));
    assert_eq!(found, Tensor::cat(&expected, 0));

    let value = model.gradient(&forward().segments[0].value.sum(Kind::Float));
    let count = found.size()[0];
    let (policy, value_head) = (4 * 8, 8);
    let of_policy = value.narrow(0, count - policy - value_head, policy);
    assert_eq!(of_policy.abs().max().double_value(&[]), 0.0);
    assert!(
        value
            .narrow(0, count - value_head, value_head)
            .abs()
            .min()
            .double_value(&[])
            > 0.0
    );
}

#[test]
fn full_gradient_reaches_earlier_ticks_and_is_the_derivative() {
    for config in [small(), paper()] {
        let model = model(&config);
        let after_two_ticks = |carry: &Tensor| {
            let first = model.forward(&tokens(), carry, Gradient::Full);
            let second = model.forward(&tokens().flip([0]), &first.carry, Gradient::Full);
            loss(&second.segments)
        };
        let carry = some_carry(&model).set_requires_grad(true);
        let gradient =
            &Tensor::run_backward(&[after_two_ticks(&carry)], &[&carry], false, false)[0];

        let direction = gradient / gradient.norm();
        let step = 1e-3;
        let ahead = |step: f64| {
            no_grad(|| after_two_ticks(&(&carry + &direction * step)).double_value(&[]))
        };
        let slope = (ahead(step) - ahead(-step)) / (2.0 * step);
        let expected = gradient.norm().double_value(&[]);
        assert!(expected > 1e-3);
        assert!(
            (slope / expected - 1.0).abs() < 0.02,
            "{slope} for {expected}"
        );
    }
}
