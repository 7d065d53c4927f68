//! Every kernel that this processor can run, against a literal transcription in loops and 64-bit floats.

use proptest::prelude::*;

use crate::*;

mod gradient;

type Vectors = Vec<Vec<f64>>;

/// A block with weights of its own, small enough to transcribe.
#[derive(Debug, Clone)]
struct Case {
    height: usize,
    width: usize,
    hidden: usize,
    inner: usize,
    mixer: Mixer,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mixer {
    Conv,
    Unseen(usize),
    Turned(usize),
    Biased(usize),
}

/// The tensors of a case, and an environment's vectors: the prefix token, then the cells.
struct Tensors {
    conv: Vec<f32>,
    square: Vec<f32>,
    qkv: Vec<f32>,
    gate_up: Vec<f32>,
    down: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
    bias: Vec<f32>,
    x: Vec<Vec<f32>>,
}

/// Numbers between -1 and 1 (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn take(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| scale * self.next()).collect()
    }
}

impl Case {
    /// The shapes of the preset `small`.
    const SMALL: Self = Self {
        height: 11,
        width: 11,
        hidden: 32,
        inner: 64,
        mixer: Mixer::Conv,
        seed: 1,
    };

    fn layout(&self) -> Layout {
        match self.mixer {
            Mixer::Conv => Layout::bordered(self.height, self.width),
            _ => Layout::dense(self.height, self.width),
        }
    }

    fn heads(&self) -> usize {
        match self.mixer {
            Mixer::Conv => 1,
            Mixer::Unseen(heads) | Mixer::Turned(heads) | Mixer::Biased(heads) => heads,
        }
    }

    /// Draws the tensors; `round` is what the precision does to numbers in memory.
    fn tensors(&self, round: fn(f32) -> f32) -> Tensors {
        let (d, inner) = (self.hidden, self.inner);
        let positions = self.height * self.width + 1;
        let mut numbers = Numbers(self.seed);
        let fan = |inputs: usize| 1.7 / (inputs as f32).sqrt();
        let half = d / self.heads() / 2;
        let angles = numbers.take(positions * half, 3.0);
        let rounded = |values: Vec<f32>| values.into_iter().map(round).collect::<Vec<_>>();
        Tensors {
            conv: rounded(numbers.take(9 * d * d, fan(9 * d))),
            square: rounded(numbers.take(d * d, fan(d))),
            qkv: rounded(numbers.take(3 * d * d, fan(d))),
            gate_up: rounded(numbers.take(2 * inner * d, fan(d))),
            down: rounded(numbers.take(d * inner, fan(inner))),
            cos: angles.iter().map(|a| a.cos()).collect(),
            sin: angles.iter().map(|a| a.sin()).collect(),
            bias: numbers.take(self.heads() * positions * positions, 2.0),
            x: (0..positions)
                .map(|_| rounded(numbers.take(d, 1.7)))
                .collect(),
        }
    }

    fn weights<'a>(&self, tensors: &'a Tensors) -> BlockWeights<'a> {
        let attention = |heads, positions| {
            MixerWeights::Attention(AttentionWeights {
                heads,
                qkv: &tensors.qkv,
                out: &tensors.square,
                positions,
            })
        };
        BlockWeights {
            width: self.hidden,
            inner: self.inner,
            mixer: match self.mixer {
                Mixer::Conv => MixerWeights::Conv(ConvWeights {
                    kernel: &tensors.conv,
                    prefix: &tensors.square,
                }),
                Mixer::Unseen(heads) => attention(heads, Positions::Unseen),
                Mixer::Turned(heads) => {
                    attention(heads, Positions::Turned(&tensors.cos, &tensors.sin))
                }
                Mixer::Biased(heads) => attention(heads, Positions::Biased(&tensors.bias)),
            },
            gate_up: &tensors.gate_up,
            down: &tensors.down,
        }
    }

    /// The block, transcribed.
    fn literal(&self, tensors: &Tensors) -> Vectors {
        self.literal_and_shortest(tensors).0
    }

    /// Also returns the smallest root mean square of a vector that the block normalises. The norm divides by it, so the
    /// rounding of the vector grows by its inverse.
    fn literal_and_shortest(&self, tensors: &Tensors) -> (Vectors, f64) {
        let mut shortest = f64::INFINITY;
        let mut norm = |x: &[f64], added: &[f64]| {
            let sum: Vec<f64> = x.iter().zip(added).map(|(x, added)| x + added).collect();
            let mean = dot(&sum, &sum) / sum.len() as f64;
            shortest = shortest.min(mean.sqrt());
            sum.iter()
                .map(|sum| sum / (mean + 1e-5).sqrt())
                .collect::<Vec<f64>>()
        };
        let x: Vectors = tensors
            .x
            .iter()
            .map(|row| row.iter().map(|&x| f64::from(x)).collect())
            .collect();
        let mixed = match self.mixer {
            Mixer::Conv => self.literal_conv(tensors, &x),
            _ => self.literal_attention(tensors, &x),
        };
        let y: Vectors = x.iter().zip(&mixed).map(|(x, mix)| norm(x, mix)).collect();
        let out = y
            .iter()
            .map(|y| {
                let both = linear(&tensors.gate_up, y);
                let (gate, up) = both.split_at(self.inner);
                let hidden: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up)
                    .collect();
                norm(y, &linear(&tensors.down, &hidden))
            })
            .collect();
        (out, shortest)
    }

    fn literal_conv(&self, tensors: &Tensors, x: &Vectors) -> Vectors {
        let d = self.hidden;
        let (height, width) = (self.height as i64, self.width as i64);
        let mut mixed = Vec::new();
        for cell in 0..height * width {
            let mut sum = linear(&tensors.square, &x[0]);
            for tap in 0..9 {
                let (row, column) = (cell / width + tap / 3 - 1, cell % width + tap % 3 - 1);
                if (0..height).contains(&row) && (0..width).contains(&column) {
                    let from = &x[(1 + row * width + column) as usize];
                    for (output, sum) in sum.iter_mut().enumerate() {
                        for (input, from) in from.iter().enumerate() {
                            let at = (output * d + input) * 9 + tap as usize;
                            *sum += f64::from(tensors.conv[at]) * from;
                        }
                    }
                }
            }
            mixed.push(sum);
        }
        let mean = |i: usize| mixed.iter().map(|cell| cell[i]).sum::<f64>() / mixed.len() as f64;
        let prefix: Vec<f64> = (0..d).map(mean).collect();
        [vec![prefix], mixed].concat()
    }

    fn literal_attention(&self, tensors: &Tensors, x: &Vectors) -> Vectors {
        let (d, heads, positions) = (self.hidden, self.heads(), x.len());
        let size = d / heads;
        let qkv: Vectors = x.iter().map(|x| linear(&tensors.qkv, x)).collect();
        let part = |part: usize, head: usize, position: usize| -> Vec<f64> {
            let mut part_of: Vec<f64> = qkv[position][part * d + head * size..][..size].to_vec();
            if matches!(self.mixer, Mixer::Turned(_)) && part < 2 {
                let half = size / 2;
                let straight = part_of.clone();
                for i in 0..half {
                    let cos = f64::from(tensors.cos[position * half + i]);
                    let sin = f64::from(tensors.sin[position * half + i]);
                    part_of[i] = straight[i] * cos - straight[i + half] * sin;
                    part_of[i + half] = straight[i + half] * cos + straight[i] * sin;
                }
            }
            part_of
        };
        (0..positions)
            .map(|query| {
                let mut mixed = Vec::new();
                for head in 0..heads {
                    let q = part(0, head, query);
                    let shares: Vec<f64> = (0..positions)
                        .map(|key| {
                            let score = dot(&q, &part(1, head, key)) / (size as f64).sqrt();
                            let bias = match self.mixer {
                                Mixer::Biased(_) => f64::from(
                                    tensors.bias[(head * positions + query) * positions + key],
                                ),
                                _ => 0.0,
                            };
                            (score + bias).exp()
                        })
                        .collect();
                    let total: f64 = shares.iter().sum();
                    let values: Vectors = (0..positions).map(|key| part(2, head, key)).collect();
                    mixed.extend((0..size).map(|i| {
                        let terms = shares.iter().zip(&values);
                        terms
                            .map(|(share, value)| share / total * value[i])
                            .sum::<f64>()
                    }));
                }
                linear(&tensors.square, &mixed)
            })
            .collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn linear(weight: &[f32], x: &[f64]) -> Vec<f64> {
    weight
        .chunks_exact(x.len())
        .map(|row| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum())
        .collect()
}

/// Runs a case on a kernel and returns the largest difference from the transcription, and the root of the mean square.
struct Difference<'a> {
    case: &'a Case,
    tensors: &'a Tensors,
}

impl Visitor for Difference<'_> {
    type Output = (f64, f64);

    fn visit<K: Kernel>(self, kernel: K) -> (f64, f64) {
        let layout = self.case.layout();
        let block = Block::<K>::new(layout, &self.case.weights(self.tensors));
        let mut scratch = block.scratch();
        let mut x = Rows::zeros(layout, self.case.hidden);
        for (position, vector) in self.tensors.x.iter().enumerate() {
            x.set_vector(layout.position(position), vector.iter().copied());
        }
        let mut out = Rows::zeros(layout, self.case.hidden);
        block.forward(kernel, &x, &mut out, &mut scratch);
        // What an earlier environment left in the scratch memory must not matter.
        let first = out.clone();
        block.forward(kernel, &first, &mut out, &mut scratch);
        block.forward(kernel, &x, &mut out, &mut scratch);
        let expected = self.case.literal(self.tensors);
        let (mut worst, mut squares, mut count): (f64, f64, f64) = (0.0, 0.0, 0.0);
        for (position, expected) in expected.iter().enumerate() {
            let found: Vec<f32> = out.vector(layout.position(position)).collect();
            let again: Vec<f32> = first.vector(layout.position(position)).collect();
            assert_eq!(found, again, "a second call with the same scratch memory");
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let difference = (f64::from(*found) - expected).abs();
                assert!(difference.is_finite(), "{found} is not {expected}");
                worst = worst.max(difference);
                squares += difference * difference;
                count += 1.0;
            }
        }
        (worst, (squares / count).sqrt())
    }
}

fn bf16(x: f32) -> f32 {
    portable::round_to_bf16(x)
}

fn check(case: &Case) {
    // The outputs' mean square is 1. bfloat16 has 8 bits: its numbers near 1 are 4e-3 to 8e-3 apart, and inner vectors
    // and sharp attention multiply what rounding changes.
    for (precision, round, most, root_mean_square) in [
        (Precision::F32, (|x| x) as fn(f32) -> f32, 5e-5, 3e-6),
        (Precision::Bf16, bf16, 0.1, 0.015),
    ] {
        let tensors = case.tensors(round);
        Instructions::for_each_available(|instructions| {
            let tensors = &tensors;
            let (worst, rms) = dispatch(instructions, precision, Difference { case, tensors });
            assert!(
                worst < most && rms < root_mean_square,
                "{instructions} {precision:?}: {worst:e}, root mean square {rms:e}, in {case:?}"
            );
        });
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let mixer = prop_oneof![
        3 => Just(Mixer::Conv),
        1 => (1_usize..4).prop_map(Mixer::Unseen),
        1 => (1_usize..4).prop_map(Mixer::Turned),
        1 => (1_usize..4).prop_map(Mixer::Biased),
    ];
    (
        1_usize..16,
        1_usize..16,
        1_usize..12,
        1_usize..70,
        mixer,
        any::<u64>(),
    )
        .prop_map(|(height, width, size, inner, mixer, seed)| Case {
            height,
            width,
            // A multiple of the heads, and of two for turned pairs.
            hidden: match mixer {
                Mixer::Conv => 3 * size,
                Mixer::Unseen(heads) | Mixer::Turned(heads) | Mixer::Biased(heads) => {
                    2 * size * heads
                }
            },
            inner,
            mixer,
            seed,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_agrees_with_a_transcription(case in cases()) {
        check(&case);
    }
}

#[test]
fn the_presets_shapes_agree_with_a_transcription() {
    check(&Case::SMALL);
    check(&Case {
        hidden: 64,
        inner: 256,
        mixer: Mixer::Turned(2),
        ..Case::SMALL
    });
}

/// Runs a case on a kernel and returns the vectors of its cells.
struct Output<'a> {
    case: &'a Case,
    tensors: &'a Tensors,
}

impl Visitor for Output<'_> {
    type Output = Vec<f32>;

    fn visit<K: Kernel>(self, kernel: K) -> Vec<f32> {
        let layout = self.case.layout();
        let block = Block::<K>::new(layout, &self.case.weights(self.tensors));
        let mut x = Rows::zeros(layout, self.case.hidden);
        for (position, vector) in self.tensors.x.iter().enumerate() {
            x.set_vector(layout.position(position), vector.iter().copied());
        }
        let mut out = x.clone();
        block.forward(kernel, &x, &mut out, &mut block.scratch());
        let cells = 0..layout.cells();
        cells
            .flat_map(|cell| out.vector(layout.cell(cell)).collect::<Vec<_>>())
            .collect()
    }
}

/// Nobody can act by such weights, and only the outputs say so.
#[test]
fn a_nan_weight_makes_all_outputs_nan() {
    for mixer in [Mixer::Conv, Mixer::Unseen(2)] {
        let case = Case {
            mixer,
            ..Case::SMALL
        };
        Instructions::for_each_available(|instructions| {
            for precision in [Precision::F32, Precision::Bf16] {
                let mut tensors = case.tensors(bf16);
                let mixing = match mixer {
                    Mixer::Conv => &mut tensors.conv,
                    _ => &mut tensors.qkv,
                };
                mixing.fill(f32::NAN);
                let visitor = Output {
                    case: &case,
                    tensors: &tensors,
                };
                let output = dispatch(instructions, precision, visitor);
                assert!(
                    output.iter().all(|x| x.is_nan()),
                    "{instructions} {precision:?} {mixer:?}"
                );
            }
        });
    }
}

#[test]
fn bfloat16_is_rounded_alike_by_every_kernel() {
    struct Rounded(Vec<f32>);
    impl Visitor for Rounded {
        type Output = Vec<u32>;
        fn visit<K: Kernel>(self, kernel: K) -> Vec<u32> {
            let layout = Layout::dense(1, 1);
            let mut out = Rows::<K>::zeros(layout, self.0.len());
            let mut x = out.clone();
            x.set_vector(0, self.0);
            out.set_sum(kernel, [&x]);
            out.vector(0).map(f32::to_bits).collect()
        }
    }
    let numbers = vec![0.0, -0.0, 1.0, 1.0039062, 1.0117188, 3.0e38, -7.0e-3, 1e-30];
    let expected: Vec<u32> = numbers.iter().map(|&x| bf16(x).to_bits()).collect();
    assert_eq!(bf16(1.0039062), 1.0, "a tie goes to the even number");
    assert_eq!(bf16(1.0117188), 1.015625, "a tie goes to the even number");
    assert!(bf16(f32::NAN).is_nan());
    Instructions::for_each_available(|instructions| {
        let visitor = Rounded(numbers.clone());
        let found = dispatch(instructions, Precision::Bf16, visitor);
        assert_eq!(found, expected, "{instructions}");
    });
}

#[test]
fn names_of_instructions_are_understood_and_unknown_ones_named() {
    Instructions::for_each_available(|instructions| {
        assert_eq!(instructions.as_str().parse(), Ok(instructions));
    });
    let error = "sse".parse::<Instructions>().expect_err("no kernels");
    let message = error.to_string();
    assert!(message.contains("HRM_KERNELS = sse"), "{message}");
    assert!(message.contains("portable"), "{message}");
}
