//! Tests of the model beyond the published arithmetic, which `tests/golden.rs` checks.

use proptest::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

use super::*;
use crate::env::{Grid, token};

const GRID: Grid = Grid {
    height: 3,
    width: 4,
};
const CELLS: i64 = 12;
const BATCH: i64 = 3;
/// The cells of the agents in [`tokens`].
const AGENTS: [i64; 3] = [0, 5, 11];

fn small() -> ModelConfig {
    ModelConfig {
        hidden: 8,
        ..ModelConfig::small()
    }
}

/// The published form with smaller sizes, in 32 bits.
fn paper() -> ModelConfig {
    ModelConfig {
        hidden: 8,
        h_layers: 1,
        l_layers: 2,
        segments: 3,
        inter_multiple: 8,
        dtype: Dtype::F32,
        ..ModelConfig::paper()
    }
}

fn model(config: &ModelConfig) -> Hrm {
    Hrm::new(config, GRID, 7, Device::Cpu).expect("a valid configuration")
}

/// Returns three observations with random tokens and one agent each.
fn tokens() -> Tensor {
    let others = [
        token::FLOOR,
        token::WALL,
        token::CLOSED_DOOR,
        token::GOAL,
        token::UNKNOWN,
    ];
    let mut codes: Vec<u8> = (0..36).map(|at| others[at * 7 % 5]).collect();
    for (sequence, cell) in AGENTS.iter().enumerate() {
        codes[sequence * CELLS as usize + *cell as usize] = token::AGENT;
    }
    Tensor::from_slice(&codes).view([BATCH, CELLS])
}

/// Returns a carry that differs from the initial one, the same in every call.
fn some_carry(model: &Hrm) -> Tensor {
    let shape = model.carry_shape(BATCH as usize);
    let count: i64 = shape.iter().product();
    (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.7)
        .sin()
        .view(shape.as_slice())
        .to_kind(model.kind())
}

/// Returns a scalar that depends on all heads of these segments.
fn loss(segments: &[Heads]) -> Tensor {
    segments
        .iter()
        .map(|heads| heads.logits.square().sum(Kind::Float) + heads.value.cos().sum(Kind::Float))
        .sum()
}

fn gradients(model: &Hrm, loss: Tensor) -> Vec<Tensor> {
    Tensor::run_backward(&[loss], model.parameters(), false, false)
}

fn max_error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Float) - b.to_kind(Kind::Float))
        .abs()
        .max()
        .double_value(&[])
}

fn assert_close(what: &str, a: &Tensor, b: &Tensor) {
    let error = max_error(a, b);
    assert!(error < 1e-5, "{what}: {error:e}");
}

fn assert_same_gradients(model: &Hrm, a: &[Tensor], b: &[Tensor]) {
    for ((name, _), (a, b)) in model.named_tensors().iter().zip(a.iter().zip(b)) {
        let size = a.abs().max().double_value(&[]).max(1e-3);
        assert!(max_error(a, b) < 1e-4 * size, "{name}");
    }
}

fn assert_same_decision(a: &Decision, b: &Decision) {
    assert_eq!(a.segments.len(), b.segments.len());
    for (a, b) in a.segments.iter().zip(&b.segments) {
        assert_close("logits", &a.logits, &b.logits);
        assert_close("value", &a.value, &b.value);
    }
}

#[test]
fn shapes_kinds_and_names_are_as_documented() {
    for config in [ModelConfig::paper(), ModelConfig::small()] {
        let model = model(&config);
        let decision = model.forward(&tokens(), &model.initial_carry(3), Gradient::OneStep);
        assert_eq!(decision.segments.len(), config.segments);
        for heads in &decision.segments {
            assert_eq!(heads.logits.size(), [BATCH, 4]);
            assert_eq!(heads.value.size(), [BATCH]);
            assert_eq!(heads.logits.kind(), Kind::Float);
            assert_eq!(heads.value.kind(), Kind::Float);
        }
        assert_eq!(
            decision.carry.size(),
            [2, BATCH, CELLS + 1, config.hidden as i64]
        );
        assert_eq!(decision.carry.size(), model.carry_shape(3));
        assert_eq!(decision.carry.kind(), model.kind());
        assert!(!decision.carry.requires_grad());
        // The graph contains every parameter, with every preset.
        let gradients = gradients(&model, loss(&decision.segments));
        assert!(gradients.iter().all(Tensor::defined));
    }
    let names = |config| -> Vec<String> {
        let named = model(&config).named_tensors();
        named.into_iter().map(|(name, _)| name).collect()
    };
    let h = [
        "h.0.conv.kernel",
        "h.0.conv.prefix",
        "h.0.mlp.gate_up",
        "h.0.mlp.down",
    ];
    let l = [
        "l.0.conv.kernel",
        "l.0.conv.prefix",
        "l.0.mlp.gate_up",
        "l.0.mlp.down",
    ];
    let first = ["embed.token", "embed.prefix", "embed.position"];
    let last = ["policy", "value", "h_init", "l_init"];
    assert_eq!(names(small()), [&first[..], &h, &l, &last].concat());
    assert!(names(paper()).contains(&"l.1.attention.qkv".to_owned()));
    assert_eq!(
        names(paper())[names(paper()).len() - 2..],
        ["halt.weight", "halt.bias"]
    );
}

#[test]
fn parameter_counts_are_the_presets() {
    let grid = Grid {
        height: 11,
        width: 11,
    };
    let count = |config: &ModelConfig| {
        let model = Hrm::new(config, grid, 0, Device::Cpu).expect("a preset");
        model.flat_parameters().size()[0]
    };
    let block = 4 * 64 * 64 + 3 * 256 * 64;
    assert_eq!(
        count(&ModelConfig::paper()),
        8 * block + (6 + 1 + 4 + 1) * 64
    );
    let block = (9 + 1) * 32 * 32 + 3 * 64 * 32;
    assert_eq!(
        count(&ModelConfig::small()),
        2 * block + (6 + 122 + 1 + 4 + 1) * 32
    );
}

/// The small preset for one sequence, written in loops and 64-bit floats.
mod literal {
    use super::*;
    type Rows = Vec<Vec<f64>>;

    struct Weights<'a>(&'a Hrm);

    impl Weights<'_> {
        fn get(&self, name: &str) -> Rows {
            let named = self.0.named_tensors();
            let (_, tensor) = named.iter().find(|(found, _)| found == name).expect(name);
            let width = tensor.size().last().copied().expect("no scalars");
            let rows = tensor.to_kind(Kind::Double).reshape([-1, width]);
            Vec::<Vec<f64>>::try_from(rows).expect("a matrix")
        }
    }

    fn linear(weight: &Rows, x: &[f64]) -> Vec<f64> {
        let dot = |row: &Vec<f64>| row.iter().zip(x).map(|(w, x)| w * x).sum();
        weight.iter().map(dot).collect()
    }

    fn add(a: &Rows, b: &Rows) -> Rows {
        let add = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
        a.iter().zip(b).map(add).collect()
    }

    fn rms_norm(x: Rows) -> Rows {
        x.into_iter()
            .map(|row| {
                let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
                row.iter().map(|x| x / (mean + 1e-5).sqrt()).collect()
            })
            .collect()
    }

    /// Returns the kernel as rows of [out * in * 3, 3].
    fn conv(kernel: &Rows, prefix: &Rows, x: &Rows) -> Rows {
        let (height, width, d) = (GRID.height as i64, GRID.width as i64, x[0].len());
        let mut cells = Vec::new();
        for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column)))
        {
            let mut sum = linear(prefix, &x[0]);
            for (down, right) in (0..3).flat_map(|down| (0..3).map(move |right| (down, right))) {
                let (from_row, from_column) = (row + down - 1, column + right - 1);
                if (0..height).contains(&from_row) && (0..width).contains(&from_column) {
                    let from = &x[(1 + from_row * width + from_column) as usize];
                    for (out, sum) in sum.iter_mut().enumerate() {
                        for (input, from) in from.iter().enumerate() {
                            let at = (out * d + input) * 3 + down as usize;
                            *sum += kernel[at][right as usize] * from;
                        }
                    }
                }
            }
            cells.push(sum);
        }
        let mean =
            (0..d).map(|i| cells.iter().map(|cell| cell[i]).sum::<f64>() / cells.len() as f64);
        std::iter::once(mean.collect())
            .chain(cells.iter().cloned())
            .collect()
    }

    fn swiglu(gate_up: &Rows, down: &Rows, x: &Rows) -> Rows {
        x.iter()
            .map(|x| {
                let both = linear(gate_up, x);
                let (gate, up) = both.split_at(both.len() / 2);
                let silu = |x: &f64| x / (1.0 + (-x).exp());
                let inner: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(gate, up)| silu(gate) * up)
                    .collect();
                linear(down, &inner)
            })
            .collect()
    }

    fn call(weights: &Weights, module: &str, z: &Rows, injection: &Rows) -> Rows {
        let get = |name: &str| weights.get(&format!("{module}.0.{name}"));
        let x = add(z, injection);
        let x = rms_norm(add(&x, &conv(&get("conv.kernel"), &get("conv.prefix"), &x)));
        rms_norm(add(&x, &swiglu(&get("mlp.gate_up"), &get("mlp.down"), &x)))
    }

    /// Returns zH, zL, logits and value after one decision from zH and zL.
    fn decide(model: &Hrm, codes: &[u8], z_h: &Rows, z_l: &Rows) -> (Rows, Rows, Vec<f64>, f64) {
        let weights = Weights(model);
        let (token, prefix) = (weights.get("embed.token"), weights.get("embed.prefix"));
        let sequence: Rows = std::iter::once(prefix[0].clone())
            .chain(codes.iter().map(|&code| token[usize::from(code)].clone()))
            .collect();
        let scale = (model.config().hidden as f64).sqrt() / 2.0f64.sqrt();
        let e: Rows = add(&sequence, &weights.get("embed.position"))
            .into_iter()
            .map(|row| row.into_iter().map(|x| scale * x).collect())
            .collect();
        let (mut z_h, mut z_l) = (z_h.clone(), z_l.clone());
        for _ in 0..2 {
            z_l = call(&weights, "l", &z_l, &add(&z_h, &e));
            z_l = call(&weights, "l", &z_l, &add(&z_h, &e));
            z_h = call(&weights, "h", &z_h, &z_l);
        }
        let agent = codes.iter().position(|&code| code == token::AGENT);
        let read = &z_h[agent.map_or(0, |cell| cell + 1)];
        let logits = linear(&weights.get("policy"), read);
        let value = linear(&weights.get("value"), read)[0];
        (z_h, z_l, logits, value)
    }

    #[test]
    fn small_preset_agrees_with_a_literal_transcription() {
        let model = model(&small());
        let carry = some_carry(&model);
        let trace = model.trace(&tokens(), &carry, Gradient::None);
        let rows = |tensor: Tensor| Vec::<Vec<f64>>::try_from(tensor.to_kind(Kind::Double));
        let rows = |tensor| rows(tensor).expect("a matrix");
        for sequence in 0..BATCH {
            let codes = Vec::<u8>::try_from(tokens().get(sequence)).expect("codes");
            let start = |which| rows(carry.get(which).get(sequence));
            let (z_h, z_l, logits, value) = decide(&model, &codes, &start(0), &start(1));
            let segment = &trace.segments[0];
            let tensor = |rows: &Rows| Tensor::from_slice2(rows);
            assert_close("zH", &segment.z_h.get(sequence), &tensor(&z_h));
            assert_close("zL", &segment.z_l.get(sequence), &tensor(&z_l));
            let heads = Tensor::from_slice(&logits);
            assert_close("logits", &segment.heads.logits.get(sequence), &heads);
            let found = segment.heads.value.double_value(&[sequence]);
            assert!((found - value).abs() < 1e-5, "value {found}, not {value}");
        }
    }
}

#[test]
fn gradient_modes_compute_the_same_numbers() {
    for config in [small(), paper()] {
        let model = model(&config);
        let carry = some_carry(&model);
        let none = model.forward(&tokens(), &carry, Gradient::None);
        assert!(!none.segments[0].logits.requires_grad());
        for gradient in [Gradient::OneStep, Gradient::LastStep, Gradient::Full] {
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
                segments,
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

/// Segments are detached from each other, so the loss of the last one reaches no earlier graph.
#[test]
fn the_last_step_alone_has_a_graph_and_the_same_gradient_bits() {
    let three = |config: ModelConfig| ModelConfig {
        segments: 3,
        h_cycles: 2,
        ..config
    };
    let forms = [CarryMode::Full, CarryMode::Last, CarryMode::Reset].map(|carry| ModelConfig {
        carry,
        ..three(small())
    });
    let bf16 = ModelConfig {
        dtype: Dtype::Bf16,
        ..three(paper())
    };
    for config in forms.into_iter().chain([three(paper()), bf16]) {
        let model = model(&config);
        let carry = some_carry(&model);
        let run = |gradient| model.trace(&tokens(), &carry, gradient);
        let (every, last) = (run(Gradient::OneStep), run(Gradient::LastStep));
        let gradient =
            |trace: &Trace| model.gradient(&loss(std::slice::from_ref(&trace.segments[2].heads)));
        for (index, (a, b)) in every.segments.iter().zip(&last.segments).enumerate() {
            let tensors = |s: &Segment| {
                [&s.z_h, &s.z_l, &s.heads.logits, &s.heads.value].map(Tensor::shallow_clone)
            };
            assert_eq!(
                tensors(a).map(|t| t.detach()),
                tensors(b).map(|t| t.detach())
            );
            assert!(tensors(a).iter().all(Tensor::requires_grad));
            for tensor in tensors(b) {
                assert_eq!(tensor.requires_grad(), index == 2, "segment {index}");
            }
        }
        assert_eq!(every.carry, last.carry);
        assert!(!last.carry.requires_grad());
        let (every, last) = (gradient(&every), gradient(&last));
        assert!(every.abs().max().double_value(&[]) > 1e-3);
        assert_eq!(every, last);
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
    for carry in [CarryMode::Full, CarryMode::Last, CarryMode::Reset] {
        let model = model(&ModelConfig { carry, ..paper() });
        let before = some_carry(&model);
        let after = model.reset_carry(&before, &Tensor::from_slice(&[false, true, false]));
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

#[test]
fn rows_of_a_batch_do_not_meet() {
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
    let _ = tokens.get(0).fill_(i64::from(token::FLOOR));
    let _ = tokens.get(1).narrow(0, 5, 4).fill_(i64::from(token::AGENT));
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
                segments: 1,
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

#[test]
fn a_seed_gives_the_same_bits_and_another_seed_others() {
    let config = small();
    let bits = |seed| {
        let model = Hrm::new(&config, GRID, seed, Device::Cpu).expect("valid");
        state::encode(&model)
    };
    assert_eq!(bits(1), bits(1));
    assert_ne!(bits(1), bits(2));
}

#[test]
fn initial_values_follow_the_published_rules() {
    let grid = Grid {
        height: 11,
        width: 11,
    };
    let model = Hrm::new(&ModelConfig::paper(), grid, 3, Device::Cpu).expect("the preset");
    for (name, tensor) in model.named_tensors() {
        let std = match name.as_str() {
            "embed.prefix" | "halt.weight" => 0.0,
            "halt.bias" => {
                assert_eq!(tensor, Tensor::from_slice(&[-5.0f32, -5.0]));
                continue;
            }
            "h_init" | "l_init" => 1.0,
            "policy" | "value" => 0.1 / 8.0,
            _ => 1.0 / (tensor.size()[1] as f64).sqrt(),
        };
        let found = tensor.square().mean(Kind::Double).sqrt().double_value(&[]);
        // Six standard errors of a normal distribution, which are larger than those of a truncated one.
        let error = 6.0 * std / (2.0 * tensor.numel() as f64).sqrt();
        assert!((found - std).abs() <= error, "{name}: {found}, not {std}");
    }
}

#[test]
fn fingerprint_tells_models_apart() {
    let same = [model(&small()).fingerprint(), model(&small()).fingerprint()];
    assert_eq!(same[0], same[1]);
    let wider = Grid {
        height: 4,
        width: 3,
    };
    let seed = Hrm::new(&small(), GRID, 99, Device::Cpu).expect("valid");
    assert_eq!(seed.fingerprint(), same[0], "weights do not count");
    let turned = Hrm::new(&small(), wider, 7, Device::Cpu).expect("valid");
    assert_ne!(turned.fingerprint(), same[0]);
    let changes: [fn(&mut ModelConfig); 5] = [
        |config| config.hidden = 16,
        |config| config.l_cycles = 3,
        |config| config.readout = Readout::Prefix,
        |config| config.carry = CarryMode::Last,
        |config| config.dtype = Dtype::Bf16,
    ];
    for change in changes {
        let mut config = small();
        change(&mut config);
        assert_ne!(model(&config).fingerprint(), same[0], "{config:?}");
    }
}

#[test]
fn an_impossible_configuration_makes_no_model() {
    let config = ModelConfig {
        hidden: 0,
        ..small()
    };
    let error = Hrm::new(&config, GRID, 0, Device::Cpu).expect_err("no width");
    assert_eq!(error.key, "model.hidden");
}

/// Adds one to every trainable parameter, as an optimiser does.
fn update(model: &Hrm) {
    let mut flat = model.flat_parameters().shallow_clone();
    no_grad(|| {
        let _ = flat.g_add_scalar_(1.0);
    });
}

#[test]
fn an_update_of_the_flat_vector_is_seen_by_every_share() {
    let model = model(&small());
    let shared = model.share();
    let before = model.parameters()[0].copy();
    update(&model);
    for model in [&model, &shared] {
        assert_eq!(model.parameters()[0], &before + 1.0);
        assert!(
            model
                .parameters()
                .iter()
                .all(|leaf| leaf.is_leaf() && leaf.requires_grad())
        );
    }
    let flat: Vec<Tensor> = model
        .parameters()
        .iter()
        .map(|leaf| leaf.view(-1))
        .collect();
    assert_eq!(
        Tensor::cat(&flat, 0),
        *model.flat_parameters(),
        "in order, without gaps"
    );
}

#[test]
fn threads_with_shares_get_the_same_gradients() {
    let model = model(&small());
    let of = |model: &Hrm| {
        let decision = model.forward(&tokens(), &some_carry(model), Gradient::OneStep);
        gradients(model, loss(&decision.segments))
    };
    let expected = of(&model);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let shared = model.share();
            std::thread::spawn(move || of(&shared))
        })
        .collect();
    for thread in threads {
        let found = thread.join().expect("no panic");
        assert_same_gradients(&model, &found, &expected);
    }
}

#[test]
fn load_takes_everything_or_nothing_and_names_what_is_wrong() {
    let source = Hrm::new(&small(), GRID, 1, Device::Cpu).expect("valid");
    let mut target = model(&small());
    let shared = target.share();
    let before = state::encode(&target);
    type Spoil = fn(&mut Vec<(String, Tensor)>);
    let spoilt: [(&str, Spoil); 5] = [
        ("h.0.mlp.down is missing", |named| {
            named.retain(|(name, _)| name != "h.0.mlp.down")
        }),
        ("left is unknown", |named| {
            named.push(("left".into(), Tensor::from(1.0f32)))
        }),
        ("embed.token occurs twice", |named| {
            let twice = (named[0].0.clone(), named[0].1.shallow_clone());
            named.push(twice);
        }),
        ("l_init has shape [2, 4]", |named| {
            named
                .iter_mut()
                .filter(|(name, _)| name == "l_init")
                .for_each(|(_, tensor)| {
                    *tensor = tensor.view([2, 4]);
                });
        }),
        ("policy holds Int64", |named| {
            named
                .iter_mut()
                .filter(|(name, _)| name == "policy")
                .for_each(|(_, tensor)| {
                    *tensor = tensor.to_kind(Kind::Int64);
                });
        }),
    ];
    for (message, spoil) in spoilt {
        let mut named = source.named_tensors();
        spoil(&mut named);
        let error = target.load(&named).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(state::encode(&target), before, "{message}");
    }
    let mut named = source.named_tensors();
    named.reverse();
    target.load(&named).expect("all there, in any order");
    assert_eq!(state::encode(&target), state::encode(&source));
    assert_eq!(state::encode(&shared), state::encode(&source));
    assert!(
        target
            .parameters()
            .iter()
            .all(|leaf| leaf.is_leaf() && leaf.requires_grad())
    );
}

#[test]
fn encoding_is_bit_exact_and_damage_is_noticed() {
    let mut model = model(&paper());
    let odd = [
        f32::MIN_POSITIVE,
        1e-45,
        -0.0,
        f32::MAX,
        0.1,
        1.0 / 3.0,
        -7.5e-20,
        1e30,
    ];
    let named: Vec<_> = model
        .named_tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let odd = if name == "h_init" {
                Tensor::from_slice(&odd)
            } else {
                tensor.copy()
            };
            (name, odd)
        })
        .collect();
    model.load(&named).expect("its own tensors");
    let bytes = state::encode(&model);
    let mut other = self::model(&paper());
    other
        .load(&state::decode(&bytes).expect("just encoded"))
        .expect("the same form");
    assert_eq!(state::encode(&other), bytes);
    for ((name, a), (_, b)) in other.named_tensors().iter().zip(&named) {
        assert_eq!(a.view_dtype(Kind::Int), b.view_dtype(Kind::Int), "{name}");
    }
    assert!(state::decode(&bytes[..bytes.len() - 1]).is_err());
}

proptest! {
    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = state::decode(&bytes);
    }
}

#[test]
fn published_names_go_out_and_come_back() {
    let source = Hrm::new(&paper(), GRID, 5, Device::Cpu).expect("valid");
    let published = published::to_published(&source).expect("the published form");
    let get = |name: &str| {
        let name = format!("model.inner.{name}");
        let (_, tensor) = published
            .iter()
            .find(|(found, _)| *found == name)
            .expect(&name);
        tensor.shallow_clone()
    };
    let mut names: Vec<&str> = published.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let mut expected: Vec<String> = [
        "embed_tokens.embedding_weight",
        "puzzle_emb.weights",
        "lm_head.weight",
        "value_head.weight",
        "q_head.weight",
        "q_head.bias",
        "H_init",
        "L_init",
    ]
    .map(|name| format!("model.inner.{name}"))
    .into();
    for (module, layers) in [("H", 1), ("L", 2)] {
        for layer in 0..layers {
            for part in [
                "self_attn.qkv_proj",
                "self_attn.o_proj",
                "mlp.gate_up_proj",
                "mlp.down_proj",
            ] {
                expected.push(format!(
                    "model.inner.{module}_level.layers.{layer}.{part}.weight"
                ));
            }
        }
    }
    expected.sort_unstable();
    assert_eq!(names, expected);

    let embedding = get("embed_tokens.embedding_weight");
    assert_eq!(embedding.size(), [131, 8]);
    let ours = &source.parameters()[0];
    for (code, character) in [
        (0, 46),
        (1, 124),
        (1, 45),
        (2, 35),
        (3, 64),
        (4, 62),
        (5, 32),
    ] {
        assert_eq!(embedding.get(character), ours.get(code).detach());
    }
    let used = embedding
        .abs()
        .sum_dim_intlist(1, false, Kind::Float)
        .count_nonzero(0);
    assert_eq!(used.int64_value(&[]), 7, "the other rows are zero");
    assert_eq!(get("lm_head.weight").size(), [131, 8]);
    assert_eq!(
        get("lm_head.weight")
            .narrow(0, 4, 127)
            .abs()
            .max()
            .double_value(&[]),
        0.0
    );

    let mut target = model(&paper());
    published::load_published(&mut target, &published).expect("just written");
    assert_eq!(state::encode(&target), state::encode(&source));
}

#[test]
fn published_weights_are_checked_and_the_value_head_is_optional() {
    let source = Hrm::new(&paper(), GRID, 5, Device::Cpu).expect("valid");
    let published = || published::to_published(&source).expect("the published form");
    let mut target = model(&paper());
    let value = target
        .named_tensors()
        .into_iter()
        .find(|(name, _)| name == "value");
    let value = value.expect("a value head").1.copy();

    let before = state::encode(&target);
    let mut named = published();
    named.retain(|(name, _)| name != "model.inner.H_init");
    let error = published::load_published(&mut target, &named).expect_err("missing");
    assert!(
        error.to_string().contains("model.inner.H_init is missing"),
        "{error}"
    );
    let mut named = published();
    named
        .iter_mut()
        .filter(|(name, _)| name.ends_with("lm_head.weight"))
        .for_each(|(_, tensor)| *tensor = tensor.narrow(0, 0, 4));
    let error = published::load_published(&mut target, &named).expect_err("too short");
    assert!(
        error
            .to_string()
            .contains("lm_head.weight has shape [4, 8]"),
        "{error}"
    );
    let mut named = published();
    named.push(("model.inner.more".into(), Tensor::from(0.0f32)));
    let error = published::load_published(&mut target, &named).expect_err("too many");
    assert!(
        error.to_string().contains("model.inner.more is unknown"),
        "{error}"
    );
    assert_eq!(state::encode(&target), before);

    let mut named = published();
    named.retain(|(name, _)| name != "model.inner.value_head.weight");
    published::load_published(&mut target, &named).expect("the value head is ours alone");
    let loaded = target.named_tensors();
    for ((name, found), (_, expected)) in loaded.iter().zip(source.named_tensors()) {
        let expected = if name == "value" { &value } else { &expected };
        assert_eq!(found, expected, "{name}");
    }

    let mut other = model(&small());
    assert!(published::to_published(&other).is_err());
    assert!(published::load_published(&mut other, &published()).is_err());
}

/// `torch.compile` puts `_orig_mod` into the names of the modules that it wraps: the loss head, its model, or a part.
#[test]
fn names_of_compiled_modules_are_read_as_plain_ones() {
    let source = Hrm::new(&paper(), GRID, 5, Device::Cpu).expect("valid");
    let plain = published::to_published(&source).expect("the published form");
    type Rename = fn(&str) -> String;
    let compiled: [Rename; 4] = [
        |name| format!("_orig_mod.{name}"),
        |name| name.replace("model.", "model._orig_mod."),
        |name| name.replace("model.inner.", "model.inner._orig_mod."),
        |name| {
            format!(
                "_orig_mod.{}",
                name.replace("H_level.", "H_level._orig_mod.")
            )
        },
    ];
    for rename in compiled {
        let named: Vec<(String, Tensor)> = (plain.iter())
            .map(|(name, tensor)| (rename(name), tensor.shallow_clone()))
            .collect();
        let mut target = model(&paper());
        assert_ne!(state::encode(&target), state::encode(&source));
        published::load_published(&mut target, &named).expect("the same tensors");
        assert_eq!(state::encode(&target), state::encode(&source));
    }

    let mut target = model(&paper());
    let before = state::encode(&target);
    let refused = |target: &mut Hrm, name: &str, tensor: &Tensor| {
        let mut named: Vec<_> = plain
            .iter()
            .map(|(n, t)| (n.clone(), t.shallow_clone()))
            .collect();
        named.push((name.to_owned(), tensor.shallow_clone()));
        let error = published::load_published(target, &named).expect_err("one too many");
        error.to_string()
    };
    let (name, tensor) = &plain[0];
    let error = refused(&mut target, &format!("_orig_mod.{name}"), tensor);
    assert_eq!(error, format!("tensor {name} occurs twice"));
    let error = refused(&mut target, "_orig_mod.model.more", tensor);
    assert!(
        error.starts_with("tensor _orig_mod.model.more is unknown"),
        "{error}"
    );
    let error = refused(&mut target, "x_orig_mod.model.inner.H_init", tensor);
    assert!(
        error.contains("is unknown"),
        "only a whole part of a name counts: {error}"
    );
    assert_eq!(state::encode(&target), before);
}
