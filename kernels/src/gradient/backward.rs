//! From the gradient of a block's output to that of its input, and of its weights.
//!
//! With `s = y + swiglu(y)`, `out = rmsnorm(s)` and the scale `r`: `d s = r (d out - out mean(out . d out))`. The same
//! holds for `y = rmsnorm(x + mix(x))`.

use super::{
    outer::{Side, add_products},
    trace::{ConvTrace, DifferentiableConv, convolve, product},
    weights::ConvGradient,
};
use crate::{
    aligned::Aligned,
    conv::{self, TAPS, taps},
    kernel::Kernel,
    tile::{Inputs, Outputs, multiply},
};

/// Memory for [`DifferentiableConv::backward`].
#[derive(Debug, Clone)]
pub struct BackwardScratch {
    hidden: Aligned<f32>,
    gates: Aligned<f32>,
    /// Products that are added to a gradient.
    products: Aligned<f32>,
    /// The gradient of what is mixed into the cells, in the layout with a border of zeros.
    mixed: Aligned<f32>,
    /// Its sum over the cells.
    total: Aligned<f32>,
    places: Places,
}

/// The first number of each row.
#[derive(Debug, Clone)]
struct Places {
    rows: Vec<usize>,
    inner: Vec<usize>,
    gates: Vec<usize>,
    /// Of each cell in the layout, and of the cell above and to the left of it.
    cells: Vec<usize>,
    corners: Vec<usize>,
}

impl<K: Kernel<Element = f32>> DifferentiableConv<K> {
    /// Returns memory for [`DifferentiableConv::backward`].
    pub fn backward_scratch(&self) -> BackwardScratch {
        let (layout, stride, inner) = (self.layout, self.stride(), self.inner_stride());
        let rows = layout.cells() + 1;
        let dense = |stride: usize| (0..rows).map(|row| row * stride).collect();
        let cells = self.starts[..layout.cells()].to_vec();
        let centre = taps(layout, stride)[TAPS / 2];
        BackwardScratch {
            hidden: Aligned::zeros(rows * inner),
            gates: Aligned::zeros(rows * 2 * inner),
            products: Aligned::zeros(rows * stride),
            mixed: Aligned::zeros(layout.vectors() * stride),
            total: Aligned::zeros(stride),
            places: Places {
                rows: dense(stride),
                inner: dense(inner),
                gates: dense(2 * inner),
                corners: cells.iter().map(|start| start - centre).collect(),
                cells,
            },
        }
    }

    /// Returns zeros for a gradient of one environment's vectors: a row for each cell, and one for the prefix token.
    pub fn vectors(&self) -> Vec<f32> {
        vec![0.0; (self.layout.cells() + 1) * self.stride()]
    }

    /// Turns the gradient of the output, as [`DifferentiableConv::vectors`], into that of the input, and adds the
    /// gradients of the weights to `gradient`.
    ///
    /// # Panics
    ///
    /// Panics when `d` or the memory is of another block's sizes.
    pub fn backward(
        &self,
        kernel: K,
        trace: &ConvTrace<K>,
        d: &mut [f32],
        gradient: &mut ConvGradient<K>,
        scratch: &mut BackwardScratch,
    ) {
        let stride = self.stride();
        assert_eq!(d.len(), (self.layout.cells() + 1) * stride);
        backward_norm(kernel, self.width, d, &trace.out, &trace.out_scales);
        self.backward_swiglu(kernel, trace, d, gradient, scratch);
        backward_norm(kernel, self.width, d, &trace.y, &trace.y_scales);
        self.backward_mix(kernel, trace, d, gradient, scratch);
    }

    /// Adds the gradient through SwiGLU to the residual's, which `d` is.
    fn backward_swiglu(
        &self,
        kernel: K,
        trace: &ConvTrace<K>,
        d: &mut [f32],
        gradient: &mut ConvGradient<K>,
        scratch: &mut BackwardScratch,
    ) {
        let (stride, inner) = (self.stride(), self.inner_stride());
        let BackwardScratch {
            hidden,
            gates,
            products,
            places,
            ..
        } = scratch;
        let rows = Side::new(d, &places.rows);
        let inners = Side::new(&trace.hidden, &places.inner);
        add_products(kernel, inners, rows, self.inner, stride, &mut gradient.down);
        product(kernel, d, stride, &self.down_transposed, hidden);
        backward_gates(kernel, inner, &trace.gates, hidden, gates);
        let normal = Side::new(&trace.normal, &places.rows);
        let gated = Side::new(gates, &places.gates);
        let sums = &mut gradient.gate_up;
        add_products(kernel, normal, gated, self.width, 2 * inner, sums);
        product(kernel, gates, 2 * inner, &self.gate_up_transposed, products);
        conv::add_rows(kernel, d, products, 1);
    }

    /// Adds the gradient through the convolution to the residual's, which `d` is.
    fn backward_mix(
        &self,
        kernel: K,
        trace: &ConvTrace<K>,
        d: &mut [f32],
        gradient: &mut ConvGradient<K>,
        scratch: &mut BackwardScratch,
    ) {
        let (layout, stride) = (self.layout, self.stride());
        let BackwardScratch {
            products,
            mixed,
            total,
            places,
            ..
        } = scratch;
        // The prefix token's mixture is the mean of the cells'.
        let (cells, prefix) = d.split_at(layout.cells() * stride);
        let share = 1.0 / layout.cells() as f32;
        for (from, &start) in cells.chunks_exact(stride).zip(&places.cells) {
            for ((to, d), prefix) in mixed[start..][..stride].iter_mut().zip(from).zip(prefix) {
                *to = prefix.mul_add(share, *d);
            }
        }
        total.copy_from_slice(prefix);
        conv::add_rows(kernel, total, cells, layout.cells());

        let at_prefix = [layout.prefix() * stride];
        let x_prefix = Side::new(trace.x.elements(), &at_prefix);
        let whole = Side::new(total, &[0]);
        let sums = &mut gradient.prefix;
        add_products(kernel, x_prefix, whole, self.width, stride, sums);
        let outputs = Side::new(mixed, &places.cells);
        let sums = gradient.kernel.chunks_exact_mut(self.width * stride);
        for (&shift, sums) in taps(layout, stride).iter().zip(sums) {
            let inputs = Side {
                shift,
                ..Side::new(trace.x.elements(), &places.corners)
            };
            add_products(kernel, inputs, outputs, self.width, stride, sums);
        }

        convolve(
            kernel,
            layout,
            mixed,
            &self.kernel_transposed,
            None,
            products,
        );
        let inputs = Inputs {
            elements: total,
            start: 0,
            stride,
            rows: 1,
            taps: &[0],
        };
        let outputs = Outputs {
            numbers: products,
            start: layout.cells() * stride,
            stride,
        };
        multiply(kernel, inputs, &self.prefix_transposed, None, outputs);
        conv::add_rows(kernel, d, products, 1);
    }
}

/// Turns the gradient of normalised rows into that of the rows before.
fn backward_norm<K: Kernel>(
    kernel: K,
    width: usize,
    d: &mut [f32],
    normal: &[f32],
    scales: &[f32],
) {
    let stride = d.len() / scales.len();
    assert!(stride.is_multiple_of(K::LANES) && normal.len() == d.len());
    let rows = d.chunks_exact_mut(stride).zip(normal.chunks_exact(stride));
    for ((d, normal), &scale) in rows.zip(scales) {
        kernel.vectorize(
            #[inline(always)]
            || {
                let mut products = kernel.splat(0.0);
                for at in (0..stride).step_by(K::LANES) {
                    // SAFETY: both rows have `stride` numbers, a multiple of the lanes.
                    unsafe {
                        let d = kernel.load_f32(d.as_ptr().add(at));
                        let normal = kernel.load_f32(normal.as_ptr().add(at));
                        products = kernel.mul_add(d, normal, products);
                    }
                }
                let mean = kernel.splat(-kernel.sum(products) / width as f32);
                for at in (0..stride).step_by(K::LANES) {
                    // SAFETY: as above.
                    unsafe {
                        let to = d.as_mut_ptr().add(at);
                        let normal = kernel.load_f32(normal.as_ptr().add(at));
                        let inside = kernel.mul_add(normal, mean, kernel.load_f32(to));
                        kernel.store_f32(to, kernel.mul(inside, kernel.splat(scale)));
                    }
                }
            },
        );
    }
}

/// From the gradient of `silu(gate) * up` to those of gates and ups.
fn backward_gates<K: Kernel>(
    kernel: K,
    inner: usize,
    gates: &[f32],
    d_hidden: &[f32],
    d_gates: &mut [f32],
) {
    assert!(inner.is_multiple_of(K::LANES));
    let rows = gates
        .chunks_exact(2 * inner)
        .zip(d_hidden.chunks_exact(inner));
    for ((gates, d_hidden), d_gates) in rows.zip(d_gates.chunks_exact_mut(2 * inner)) {
        kernel.vectorize(
            #[inline(always)]
            || {
                let one = kernel.splat(1.0);
                for at in (0..inner).step_by(K::LANES) {
                    // SAFETY: the rows have `inner` and twice as many numbers, and `inner` is a multiple of the lanes.
                    unsafe {
                        let gate = kernel.load_f32(gates.as_ptr().add(2 * at));
                        let up = kernel.load_f32(gates.as_ptr().add(2 * at + K::LANES));
                        let d = kernel.load_f32(d_hidden.as_ptr().add(at));
                        let sigmoid =
                            kernel.reciprocal(kernel.add(kernel.exp_times(gate, -1.0), one));
                        let silu = kernel.mul(gate, sigmoid);
                        // silu' = sigmoid (1 + gate (1 - sigmoid)) = sigmoid + silu (1 - sigmoid)
                        let rest = kernel.mul_add(sigmoid, kernel.splat(-1.0), one);
                        let slope = kernel.mul_add(silu, rest, sigmoid);
                        let to = d_gates.as_mut_ptr().add(2 * at);
                        kernel.store_f32(to, kernel.mul(kernel.mul(d, up), slope));
                        kernel.store_f32(to.add(K::LANES), kernel.mul(d, silu));
                    }
                }
            },
        );
    }
}
