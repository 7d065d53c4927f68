//! The gradient of a block against finite differences of the transcription in 64-bit floats.

use proptest::prelude::*;

use super::*;

/// Gradients in the shapes of the tensors, and of the vectors: the prefix token's, then the cells'.
struct Found {
    conv: Vec<f32>,
    square: Vec<f32>,
    gate_up: Vec<f32>,
    down: Vec<f32>,
    x: Vec<Vec<f32>>,
}

/// Runs a block forward and backward from the gradient `d` of its output.
struct Backward<'a> {
    case: &'a Case,
    tensors: &'a Tensors,
    d: &'a [Vec<f32>],
}

impl Visitor for Backward<'_> {
    type Output = Found;

    fn visit<K: Kernel>(self, kernel: K) -> Found {
        let Self { case, tensors, d } = self;
        let (layout, hidden) = (case.layout(), case.hidden);
        let weights = case.weights(tensors);
        let block = DifferentiableConv::<K>::new(layout, &weights).expect("a convolution");
        let mut x = Rows::zeros(layout, hidden);
        for (position, vector) in tensors.x.iter().enumerate() {
            x.set_vector(layout.position(position), vector.iter().copied());
        }
        let (mut out, mut plain) = (x.clone(), x.clone());
        let mut trace = block.memory();
        let forward = Block::<K>::new(layout, &weights);
        forward.forward(kernel, &x, &mut plain, &mut forward.scratch());
        block.trace(kernel, &x, &mut out, &mut trace);
        for position in 0..tensors.x.len() {
            let index = layout.position(position);
            let [found, expected] =
                [&out, &plain].map(|rows| rows.vector(index).collect::<Vec<_>>());
            assert_eq!(found, expected, "the forward pass at position {position}");
        }

        let stride = block.vectors().len() / d.len();
        let row = |position: usize| match position {
            0 => d.len() - 1,
            _ => position - 1,
        };
        let (mut gradient, mut scratch) = (block.gradient(), block.backward_scratch());
        let mut run = |gradient: &mut ConvGradient<K>| {
            let mut vectors = block.vectors();
            for (position, d) in d.iter().enumerate() {
                vectors[row(position) * stride..][..hidden].copy_from_slice(d);
            }
            block.backward(kernel, &trace, &mut vectors, gradient, &mut scratch);
            vectors
        };
        // Two environments, so that sums add up.
        run(&mut gradient);
        let vectors = run(&mut gradient);
        let zeros = |tensor: &[f32]| vec![0.0; tensor.len()];
        let mut found = Found {
            conv: zeros(&tensors.conv),
            square: zeros(&tensors.square),
            gate_up: zeros(&tensors.gate_up),
            down: zeros(&tensors.down),
            x: (0..d.len())
                .map(|position| vectors[row(position) * stride..][..hidden].to_vec())
                .collect(),
        };
        gradient.add_to(ConvGradientTensors {
            kernel: &mut found.conv,
            prefix: &mut found.square,
            gate_up: &mut found.gate_up,
            down: &mut found.down,
        });
        for tensor in [
            &mut found.conv,
            &mut found.square,
            &mut found.gate_up,
            &mut found.down,
        ] {
            tensor.iter_mut().for_each(|sum| *sum /= 2.0);
        }
        found
    }
}

/// Returns the derivative of `sum d . out` by one number of the tensors, from central differences at two distances.
fn derivative(
    case: &Case,
    tensors: &mut Tensors,
    d: &[Vec<f32>],
    number: fn(&mut Tensors, usize) -> &mut f32,
    at: usize,
) -> f64 {
    let mut loss = |shift: f32| {
        let before = *number(tensors, at);
        *number(tensors, at) = before + shift;
        let moved = f64::from(before + shift) - f64::from(before);
        let out = case.literal(tensors);
        *number(tensors, at) = before;
        let rows = d.iter().zip(&out);
        let total: f64 = rows
            .flat_map(|(d, out)| d.iter().zip(out))
            .map(|(&d, out)| f64::from(d) * out)
            .sum();
        (moved, total)
    };
    let mut slope = |shift: f32| {
        let ((up, high), (down, low)) = (loss(shift), loss(-shift));
        (high - low) / (up - down)
    };
    (4.0 * slope(1.0 / 2048.0) - slope(1.0 / 1024.0)) / 3.0
}

type Part = fn(&Found) -> Vec<f32>;

impl Found {
    const PARTS: [(&str, Part); 5] = [
        ("kernel", |f| f.conv.clone()),
        ("prefix", |f| f.square.clone()),
        ("gate_up", |f| f.gate_up.clone()),
        ("down", |f| f.down.clone()),
        ("x", |f| f.x.concat()),
    ];
}

/// Draws the gradient of a case's output. Returns the numbers that follow, too.
fn output_gradient(case: &Case) -> (Vec<Vec<f32>>, Numbers) {
    let mut numbers = Numbers(case.seed ^ 1);
    let positions = case.height * case.width + 1;
    let d = (0..positions).map(|_| numbers.take(case.hidden, 1.0));
    (d.collect(), numbers)
}

/// Root mean square below which a norm makes rounding more than four times larger. Kernels, each of which is near the
/// derivative, then differ by more from each other.
const SHORT: f64 = 0.25;

fn check(case: &Case) {
    let mut tensors = case.tensors(|x| x);
    let (_, shortest) = case.literal_and_shortest(&tensors);
    let (d, mut numbers) = output_gradient(case);
    let mut all = Vec::new();
    Instructions::for_each_available(|instructions| {
        let visitor = Backward {
            case,
            tensors: &tensors,
            d: &d,
        };
        all.push((
            instructions,
            dispatch(instructions, Precision::F32, visitor),
        ));
    });
    type Number = fn(&mut Tensors, usize) -> &mut f32;
    let hidden = case.hidden;
    let numbers_of: [Number; 5] = [
        |t, i| &mut t.conv[i],
        |t, i| &mut t.square[i],
        |t, i| &mut t.gate_up[i],
        |t, i| &mut t.down[i],
        |t, i| {
            let hidden = t.x[0].len();
            &mut t.x[i / hidden][i % hidden]
        },
    ];
    for ((name, part), number) in Found::PARTS.into_iter().zip(numbers_of) {
        let found: Vec<(Instructions, Vec<f32>)> = all
            .iter()
            .map(|(instructions, found)| (*instructions, part(found)))
            .collect();
        let largest = found[0].1.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
        let count = found[0].1.len();
        // The first and the last number are at edges.
        let drawn = (0..6).map(|_| (numbers.next().abs() * count as f32) as usize % count);
        let sampled: Vec<usize> = drawn.chain([0, count - 1, count.min(hidden) - 1]).collect();
        for at in sampled {
            let expected = derivative(case, &mut tensors, &d, number, at);
            for (instructions, found) in &found {
                let difference = (f64::from(found[at]) - expected).abs() / f64::from(largest);
                assert!(
                    difference < 2e-5,
                    "{instructions}: d {name}[{at}] is {} and not {expected}, in {case:?}",
                    found[at]
                );
            }
        }
        if shortest < SHORT {
            continue;
        }
        for (instructions, other) in &found[1..] {
            for (at, (a, b)) in found[0].1.iter().zip(other).enumerate() {
                assert!(
                    (a - b).abs() < 1e-5 * largest,
                    "{instructions}: d {name}[{at}] is {b} and not {a}, in {case:?}"
                );
            }
        }
    }
}

/// Rounded operands move a gradient by little. Sums over pairs of rows that missed one would move it by much.
fn check_rounded(case: &Case) {
    let tensors = case.tensors(bf16);
    let (d, _) = output_gradient(case);
    let visitor = || Backward {
        case,
        tensors: &tensors,
        d: &d,
    };
    let exact = dispatch(Instructions::Portable, Precision::F32, visitor());
    Instructions::for_each_available(|instructions| {
        let found = dispatch(instructions, Precision::Bf16, visitor());
        for (name, part) in Found::PARTS {
            let (found, exact) = (part(&found), part(&exact));
            let norm = |numbers: &mut dyn Iterator<Item = f32>| {
                numbers.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
            };
            let mut differences = found.iter().zip(&exact).map(|(a, b)| a - b);
            let distance = norm(&mut differences) / norm(&mut exact.iter().copied());
            assert!(
                distance < 0.02,
                "{instructions}: d {name} is {distance} of its length away, in {case:?}"
            );
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_agrees_with_finite_differences(
        (height, width) in (1_usize..8, 1_usize..8),
        (size, inner, seed) in (1_usize..8, 1_usize..40, any::<u64>()),
    ) {
        check(&Case { height, width, hidden: 3 * size, inner, mixer: Mixer::Conv, seed });
    }

    #[test]
    fn rounded_operands_move_the_gradient_by_little(
        (height, width) in (1_usize..8, 1_usize..8),
        (size, inner, seed) in (3_usize..12, 8_usize..70, any::<u64>()),
    ) {
        check_rounded(&Case { height, width, hidden: 3 * size, inner, mixer: Mixer::Conv, seed });
    }
}

/// Vectors of three numbers can be so short that their norms bend the output within 1/256. In the second case, the
/// portable kernel and AVX-512 differ by 1.02e-5, each within 1.2e-5 of the derivative.
#[test]
fn the_gradient_of_short_vectors_agrees_with_finite_differences() {
    for (height, width, inner, seed) in [
        (3, 3, 8, 3_150_680_463_474_084_130),
        (4, 7, 18, 6_118_418_348_168_317_974),
    ] {
        check(&Case {
            height,
            width,
            hidden: 3,
            inner,
            mixer: Mixer::Conv,
            seed,
        });
    }
}

#[test]
fn the_small_presets_gradient_agrees_with_finite_differences() {
    check(&Case::SMALL);
}
