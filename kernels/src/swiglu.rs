//! The second half of a block, on a few rows: the norm of what was mixed, and SwiGLU with its residual and norm.
//!
//! `y = rmsnorm(x + mix)`, then `rmsnorm(y + down(silu(gate(y)) * up(y)))`

use crate::{
    aligned::Aligned,
    kernel::Kernel,
    norm::{NormTarget, Residual, RowSums, normalize},
    packed::{Packed, TILE_REGISTERS},
    rows::Rows,
    tile::{Inputs, Outputs, multiply, multiply_block},
};

/// The weights of a SwiGLU.
#[derive(Debug, Clone)]
pub(crate) struct SwiGlu<K: Kernel> {
    width: usize,
    inner: usize,
    /// Each block has one register of gates and the same register of ups.
    pub(crate) gate_up: Packed<K>,
    pub(crate) down: Packed<K>,
}

/// Memory for the intermediate results of a tile.
#[derive(Debug, Clone)]
pub(crate) struct SwiGluScratch<K: Kernel> {
    /// The mixture of each row, then its normalised sum in f32.
    pub(crate) mixed: Aligned<f32>,
    /// The same, rounded.
    normal: Aligned<K::Element>,
    /// A register of gates and of ups for each row.
    gates: Aligned<f32>,
    /// The inner vectors.
    hidden: Aligned<K::Element>,
    /// The products of `down`.
    sums: Aligned<f32>,
}

impl<K: Kernel> SwiGlu<K> {
    /// Packs the weights: `gate_up` `[2 * inner, width]`, gates first, and `down` `[width, inner]`.
    pub(crate) fn new(width: usize, inner: usize, gate_up: &[f32], down: &[f32]) -> Self {
        assert_eq!(
            gate_up.len(),
            2 * inner * width,
            "gate_up is [2 * inner, width]"
        );
        Self {
            width,
            inner,
            gate_up: Packed::new(&gate_up_rows::<K>(inner), 1, width, |output, _, input| {
                gate_up[output * width + input]
            }),
            down: Packed::matrix(width, inner, down),
        }
    }

    pub(crate) fn scratch(&self) -> SwiGluScratch<K> {
        let inner = self.inner.next_multiple_of(K::LANES);
        let stride = self.down.outputs();
        SwiGluScratch {
            mixed: Aligned::zeros(K::TILE_ROWS * stride),
            normal: Aligned::zeros(K::TILE_ROWS * stride),
            gates: Aligned::zeros(K::TILE_ROWS * TILE_REGISTERS * K::LANES),
            hidden: Aligned::zeros(K::TILE_ROWS * inner),
            sums: Aligned::zeros(K::TILE_ROWS * self.down.outputs()),
        }
    }

    /// Makes a block's output of the rows at `start` from their mixtures in `scratch.mixed`.
    pub(crate) fn finish(
        &self,
        kernel: K,
        x: &Rows<K>,
        start: usize,
        rows: usize,
        out: &mut Rows<K>,
        scratch: &mut SwiGluScratch<K>,
    ) {
        let stride = x.stride();
        normalize(
            kernel,
            RowSums {
                numbers: &mut scratch.mixed,
                rows,
                width: self.width,
                stride,
            },
            Residual::Elements(x.elements(), start, stride),
            NormTarget(&mut scratch.normal, 0, stride),
            |_, _| (),
        );
        let target = NormTarget(out.elements_mut(), start, stride);
        self.forward(kernel, rows, target, scratch);
    }

    /// Maps the normalised rows and writes the result to `target`.
    fn forward(
        &self,
        kernel: K,
        rows: usize,
        target: NormTarget<'_, K::Element>,
        scratch: &mut SwiGluScratch<K>,
    ) {
        let inputs = Inputs {
            elements: &scratch.normal,
            start: 0,
            stride: self.down.outputs(),
            rows,
            taps: &[0],
        };
        let gates_stride = TILE_REGISTERS * K::LANES;
        let hidden_stride = self.inner.next_multiple_of(K::LANES);
        for block in 0..self.gate_up.blocks() {
            let outputs = Outputs {
                numbers: &mut scratch.gates,
                start: 0,
                stride: gates_stride,
            };
            multiply_block(kernel, inputs, &self.gate_up, block, None, outputs);
            apply_gates(
                kernel,
                rows,
                (&scratch.gates, gates_stride),
                (&mut scratch.hidden, block * K::LANES, hidden_stride),
            );
        }
        let hidden = Inputs {
            elements: &scratch.hidden,
            start: 0,
            stride: hidden_stride,
            rows,
            taps: &[0],
        };
        let stride = self.down.outputs();
        let outputs = Outputs {
            numbers: &mut scratch.sums,
            start: 0,
            stride,
        };
        multiply(kernel, hidden, &self.down, None, outputs);
        normalize(
            kernel,
            RowSums {
                numbers: &mut scratch.sums,
                rows,
                width: self.width,
                stride,
            },
            Residual::Numbers(&scratch.mixed),
            target,
            |_, _| (),
        );
    }
}

/// Returns the row of `gate_up`, `[2 * inner, width]`, at each lane of its products: each register of gates is followed
/// by the same register of ups. Lanes that only fill up a register have none.
pub(crate) fn gate_up_rows<K: Kernel>(inner: usize) -> Vec<Option<usize>> {
    let lanes = K::LANES;
    (0..inner.div_ceil(lanes))
        .flat_map(|register| {
            let lane = move |at| register * lanes + at;
            let present = move |at| lane(at) < inner;
            let gates = (0..lanes).map(move |at| present(at).then(|| lane(at)));
            let ups = (0..lanes).map(move |at| present(at).then(|| inner + lane(at)));
            gates.chain(ups)
        })
        .collect()
}

/// Writes `silu(gate) * up` of each of `rows` rows. `gates` has registers of gates, each followed by its ups, with the
/// distance of rows. `hidden` has the first row's start and the distance of rows.
pub(crate) fn apply_gates<K: Kernel>(
    kernel: K,
    rows: usize,
    (gates, gates_stride): (&[f32], usize),
    (hidden, start, hidden_stride): (&mut [K::Element], usize, usize),
) {
    let registers = gates_stride / (2 * K::LANES);
    let last = (rows - 1) * hidden_stride;
    assert!(rows * gates_stride <= gates.len());
    assert!(start + last + registers * K::LANES <= hidden.len());
    kernel.vectorize(
        #[inline(always)]
        || {
            for row in 0..rows {
                for register in 0..registers {
                    // SAFETY: the checks above.
                    unsafe {
                        let from = gates
                            .as_ptr()
                            .add(row * gates_stride + 2 * register * K::LANES);
                        let gate = kernel.load_f32(from);
                        let up = kernel.load_f32(from.add(K::LANES));
                        let to = hidden.as_mut_ptr().add(start + row * hidden_stride);
                        kernel.store(
                            to.add(register * K::LANES),
                            kernel.mul(kernel.silu(gate), up),
                        );
                    }
                }
            }
        },
    );
}
