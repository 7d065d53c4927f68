//! From the gradient of a block's output to that of its input, and of its weights.
//!
//! With `s = y + swiglu(y)`, `out = rmsnorm(s)` and the scale `r`: `d s = r (d out - out mean(out . d out))`. The same
//! holds for `y = rmsnorm(x + mix(x))`.
//!
//! The operands of products are rounded as elements are, and everything else is f32, the sum with the residual's
//! gradient included.

use super::{
    groups::Groups,
    outer::add_products,
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
pub struct BackwardScratch<K: Kernel> {
    /// The gradient of what SwiGLU adds, rounded.
    added: Aligned<K::Element>,
    /// The gradient of the inner vectors.
    hidden: Aligned<f32>,
    /// The gradient of gates and ups, rounded.
    gates: Aligned<K::Element>,
    /// Products that are added to a gradient.
    products: Aligned<f32>,
    /// The gradient of what is mixed into the cells, rounded, in the layout with a border of zeros.
    mixed: Aligned<K::Element>,
    /// Its sum over the cells.
    total: Aligned<f32>,
    rounded_total: Aligned<K::Element>,
    groups: RowGroups<K>,
    places: GroupPlaces,
}

/// The operands of sums over rows.
#[derive(Debug, Clone)]
struct RowGroups<K: Kernel> {
    added: Groups<K>,
    hidden: Groups<K>,
    normal: Groups<K>,
    gates: Groups<K>,
    /// A group begins at every vector of the layout.
    x: Groups<K>,
    /// Groups of cells that are neighbours. A group that reaches beyond the grid's last column has the border's zeros.
    mixed: Groups<K>,
    total: Groups<K>,
}

/// Groups of rows in memory.
#[derive(Debug, Clone)]
struct GroupPlaces {
    /// The indices of the groups of rows: 0, 1, 2, ...
    rows: Vec<usize>,
    /// The indices of the groups of cells: 0, 1, 2, ...
    cells: Vec<usize>,
    /// The first element of each group of cells in the layout.
    starts: Vec<usize>,
    /// The index of the vector above and to the left of each group of cells.
    corners: Vec<usize>,
}

impl GroupPlaces {
    fn new<K: Kernel>(block: &DifferentiableConv<K>) -> Self {
        let (layout, stride) = (block.layout, block.stride());
        // The index of the first cell of each group.
        let cells = || {
            (0..layout.height()).flat_map(move |row| {
                let columns = (0..layout.width()).step_by(K::STEP);
                columns.map(move |column| layout.cell(row * layout.width() + column))
            })
        };
        let centre = taps(layout, 1)[TAPS / 2];
        Self {
            rows: (0..(layout.cells() + 1).div_ceil(K::STEP)).collect(),
            cells: (0..cells().count()).collect(),
            starts: cells().map(|cell| cell * stride).collect(),
            corners: cells().map(|cell| cell - centre).collect(),
        }
    }
}

impl<K: Kernel> DifferentiableConv<K> {
    /// Returns memory for [`DifferentiableConv::backward`].
    pub fn backward_scratch(&self) -> BackwardScratch<K> {
        let (layout, stride, inner) = (self.layout, self.stride(), self.inner_stride());
        let rows = layout.cells() + 1;
        let places = GroupPlaces::new(self);
        BackwardScratch {
            added: Aligned::zeros(rows * stride),
            hidden: Aligned::zeros(rows * inner),
            gates: Aligned::zeros(rows * 2 * inner),
            products: Aligned::zeros(rows * stride),
            mixed: Aligned::zeros(layout.vectors() * stride),
            total: Aligned::zeros(stride),
            rounded_total: Aligned::zeros(stride),
            groups: RowGroups {
                added: Groups::zeros(places.rows.len(), stride),
                hidden: Groups::zeros(places.rows.len(), inner),
                normal: Groups::zeros(places.rows.len(), stride),
                gates: Groups::zeros(places.rows.len(), 2 * inner),
                x: Groups::zeros(layout.vectors(), stride),
                mixed: Groups::zeros(places.cells.len(), stride),
                total: Groups::zeros(1, stride),
            },
            places,
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
        scratch: &mut BackwardScratch<K>,
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
        scratch: &mut BackwardScratch<K>,
    ) {
        let (stride, inner) = (self.stride(), self.inner_stride());
        let BackwardScratch {
            added,
            hidden,
            gates,
            products,
            groups,
            places,
            ..
        } = scratch;
        let rows = &places.rows;
        round(kernel, d, added);
        groups.added.set_rows(kernel, added);
        groups.hidden.set_rows(kernel, &trace.hidden);
        let (a, b) = (groups.hidden.at(rows), groups.added.at(rows));
        add_products(kernel, a, b, self.inner, stride, &mut gradient.down);

        product(kernel, added, stride, &self.down_transposed, hidden);
        backward_gates(kernel, inner, &trace.gates, hidden, gates);
        groups.gates.set_rows(kernel, gates);
        groups.normal.set_rows(kernel, &trace.normal);
        let (a, b) = (groups.normal.at(rows), groups.gates.at(rows));
        let sums = &mut gradient.gate_up;
        add_products(kernel, a, b, self.width, 2 * inner, sums);

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
        scratch: &mut BackwardScratch<K>,
    ) {
        let (layout, stride) = (self.layout, self.stride());
        let BackwardScratch {
            products,
            mixed,
            total,
            rounded_total,
            groups,
            places,
            ..
        } = scratch;
        // The prefix token's mixture is the mean of the cells'.
        let (cells, prefix) = d.split_at(layout.cells() * stride);
        let share = 1.0 / layout.cells() as f32;
        for (from, &start) in cells.chunks_exact(stride).zip(&self.starts) {
            add_share(kernel, from, prefix, share, &mut mixed[start..][..stride]);
        }
        total.copy_from_slice(prefix);
        conv::add_rows(kernel, total, cells, layout.cells());
        round(kernel, total, rounded_total);

        let vectors = (0..layout.vectors()).map(|at| at * stride);
        groups.x.set(kernel, trace.x.elements(), vectors);
        groups.total.set_rows(kernel, rounded_total);
        let at_prefix = [layout.prefix()];
        let (a, b) = (groups.x.at(&at_prefix), groups.total.at(&[0]));
        let sums = &mut gradient.prefix;
        add_products(kernel, a, b, self.width, stride, sums);
        let starts = places.starts.iter().copied();
        groups.mixed.set(kernel, mixed, starts);
        let outputs = groups.mixed.at(&places.cells);
        let sums = gradient.kernel.chunks_exact_mut(self.width * stride);
        for (&shift, sums) in taps(layout, 1).iter().zip(sums) {
            let inputs = groups.x.at(&places.corners).shifted(shift);
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
            elements: rounded_total,
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

/// Rounds numbers, a multiple of the lanes, to elements.
fn round<K: Kernel>(kernel: K, from: &[f32], to: &mut [K::Element]) {
    assert!(from.len().is_multiple_of(K::LANES) && from.len() == to.len());
    kernel.vectorize(
        #[inline(always)]
        || {
            for at in (0..from.len()).step_by(K::LANES) {
                // SAFETY: both have the same multiple of the lanes.
                unsafe {
                    let numbers = kernel.load_f32(from.as_ptr().add(at));
                    kernel.store(to.as_mut_ptr().add(at), numbers);
                }
            }
        },
    );
}

/// Rounds `d + share * prefix` of one row to elements.
fn add_share<K: Kernel>(kernel: K, d: &[f32], prefix: &[f32], share: f32, to: &mut [K::Element]) {
    assert!(d.len().is_multiple_of(K::LANES) && d.len() == prefix.len() && d.len() == to.len());
    kernel.vectorize(
        #[inline(always)]
        || {
            for at in (0..d.len()).step_by(K::LANES) {
                // SAFETY: all rows have the same multiple of the lanes.
                unsafe {
                    let d = kernel.load_f32(d.as_ptr().add(at));
                    let prefix = kernel.load_f32(prefix.as_ptr().add(at));
                    let sum = kernel.mul_add(prefix, kernel.splat(share), d);
                    kernel.store(to.as_mut_ptr().add(at), sum);
                }
            }
        },
    );
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

/// From the gradient of `silu(gate) * up` to those of gates and ups, rounded.
fn backward_gates<K: Kernel>(
    kernel: K,
    inner: usize,
    gates: &[f32],
    d_hidden: &[f32],
    d_gates: &mut [K::Element],
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
                        kernel.store(to, kernel.mul(kernel.mul(d, up), slope));
                        kernel.store(to.add(K::LANES), kernel.mul(d, silu));
                    }
                }
            },
        );
    }
}
