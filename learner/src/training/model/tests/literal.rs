//! The small preset against a literal transcription, for one sequence, written in loops and 64-bit floats.

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
    for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
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
    let mean = (0..d).map(|i| cells.iter().map(|cell| cell[i]).sum::<f64>() / cells.len() as f64);
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
    let agent = codes.iter().position(|&code| code == tile::AGENT);
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
