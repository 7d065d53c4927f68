//! The forward pass of a block that keeps what its gradient needs.

use super::weights::ConvGradient;
use crate::{
    aligned::Aligned,
    block::{BlockWeights, MixerWeights},
    conv::{self, ConvBlock, TAPS, taps},
    kernel::Kernel,
    layout::Layout,
    norm::{NormTarget, Residual, RowSums, normalize},
    packed::Packed,
    rows::Rows,
    swiglu::{SwiGlu, apply_gates, gate_up_rows},
    tile::{Inputs, Outputs, multiply, tiles},
};

/// A block with a convolution whose gradient can be computed: its weights, packed as they are and transposed.
#[derive(Debug, Clone)]
pub struct DifferentiableConv<K: Kernel> {
    pub(super) width: usize,
    pub(super) inner: usize,
    pub(super) layout: Layout,
    /// The first number of each row's vector in the layout: the cells, then the prefix token.
    pub(super) starts: Vec<usize>,
    forward: ConvBlock<K>,
    /// The taps in reverse.
    pub(super) kernel_transposed: Packed<K>,
    pub(super) prefix_transposed: Packed<K>,
    pub(super) gate_up_transposed: Packed<K>,
    pub(super) down_transposed: Packed<K>,
}

/// The results of a block's forward pass that its gradient needs, for one environment. A row is a cell; the last row is
/// the prefix token.
#[derive(Debug, Clone)]
pub struct ConvTrace<K: Kernel> {
    /// The block's input.
    pub(super) x: Rows<K>,
    /// `rmsnorm(x + mix(x))`, in f32.
    pub(super) y: Aligned<f32>,
    /// The same as SwiGLU reads it.
    pub(super) normal: Aligned<K::Element>,
    /// The scale of each row of `y`.
    pub(super) y_scales: Vec<f32>,
    /// Each register of gates, followed by the same register of ups.
    pub(super) gates: Aligned<f32>,
    /// `silu(gate) * up`.
    pub(super) hidden: Aligned<K::Element>,
    /// The block's output, in f32.
    pub(super) out: Aligned<f32>,
    /// The scale of each row of `out`.
    pub(super) out_scales: Vec<f32>,
    everywhere: Aligned<f32>,
}

impl<K: Kernel> DifferentiableConv<K> {
    /// Packs the weights; `None` for a block with attention.
    ///
    /// # Panics
    ///
    /// Panics when a tensor has another size than its shape says.
    pub fn new(layout: Layout, weights: &BlockWeights<'_>) -> Option<Self> {
        let BlockWeights {
            width,
            inner,
            mixer,
            gate_up,
            down,
        } = *weights;
        let MixerWeights::Conv(conv) = mixer else {
            return None;
        };
        let swiglu = SwiGlu::new(width, inner, gate_up, down);
        let every = |count: usize| (0..count).map(Some).collect::<Vec<_>>();
        let rows = gate_up_rows::<K>(inner);
        Some(Self {
            width,
            inner,
            layout,
            starts: starts(layout, width.next_multiple_of(K::LANES)),
            forward: ConvBlock::new(width, conv, swiglu),
            kernel_transposed: Packed::new(&every(width), TAPS, width, |input, tap, output| {
                conv.kernel[(output * width + input) * TAPS + (TAPS - 1 - tap)]
            }),
            prefix_transposed: Packed::new(&every(width), 1, width, |input, _, output| {
                conv.prefix[output * width + input]
            }),
            gate_up_transposed: Packed::new(&every(width), 1, rows.len(), |input, _, lane| {
                rows[lane].map_or(0.0, |row| gate_up[row * width + input])
            }),
            down_transposed: Packed::new(&every(inner), 1, width, |input, _, output| {
                down[output * inner + input]
            }),
        })
    }

    /// Returns zeros for the sums of this block's gradients.
    pub fn gradient(&self) -> ConvGradient<K> {
        ConvGradient::zeros(self.width, self.inner)
    }

    /// Returns memory for [`DifferentiableConv::trace`].
    pub fn memory(&self) -> ConvTrace<K> {
        let rows = self.layout.cells() + 1;
        let (stride, inner) = (self.stride(), self.inner_stride());
        ConvTrace {
            x: Rows::zeros(self.layout, self.width),
            y: Aligned::zeros(rows * stride),
            normal: Aligned::zeros(rows * stride),
            y_scales: vec![0.0; rows],
            gates: Aligned::zeros(rows * 2 * inner),
            hidden: Aligned::zeros(rows * inner),
            out: Aligned::zeros(rows * stride),
            out_scales: vec![0.0; rows],
            everywhere: Aligned::zeros(stride),
        }
    }

    /// Numbers from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.width.next_multiple_of(K::LANES)
    }

    /// Numbers from one inner vector to the next.
    pub(super) fn inner_stride(&self) -> usize {
        self.inner.next_multiple_of(K::LANES)
    }

    /// Maps the vectors `x` of one environment to `out`, as the block without a gradient does, and fills `trace`.
    ///
    /// # Panics
    ///
    /// Panics when `x`, `out` or `trace` are of another layout or width.
    pub fn trace(&self, kernel: K, x: &Rows<K>, out: &mut Rows<K>, trace: &mut ConvTrace<K>) {
        let (layout, stride) = (self.layout, self.stride());
        for rows in [x, &*out] {
            assert_eq!((rows.layout(), rows.stride()), (layout, stride));
        }
        trace.x.copy_from(x);
        self.mix(kernel, trace);
        let rows = trace.y.chunks_exact_mut(stride).zip(&self.starts);
        for (row, (sums, &start)) in rows.enumerate() {
            normalize(
                kernel,
                RowSums {
                    numbers: sums,
                    rows: 1,
                    width: self.width,
                    stride,
                },
                Residual::Elements(x.elements(), start, stride),
                NormTarget(&mut trace.normal, row * stride, stride),
                |_, scale| trace.y_scales[row] = scale,
            );
        }
        self.map_inner(kernel, trace);
        let rows = trace.out.chunks_exact_mut(stride).zip(&self.starts);
        for (row, (sums, &start)) in rows.enumerate() {
            normalize(
                kernel,
                RowSums {
                    numbers: sums,
                    rows: 1,
                    width: self.width,
                    stride,
                },
                Residual::Numbers(&trace.y[row * stride..]),
                NormTarget(out.elements_mut(), start, stride),
                |_, scale| trace.out_scales[row] = scale,
            );
        }
    }

    /// Writes what is mixed into each row to `trace.y`.
    fn mix(&self, kernel: K, trace: &mut ConvTrace<K>) {
        let (layout, stride) = (self.layout, self.stride());
        self.forward
            .map_prefix(kernel, &trace.x, &mut trace.everywhere);
        let bias = Some(&trace.everywhere[..]);
        convolve(
            kernel,
            layout,
            trace.x.elements(),
            &self.forward.kernel,
            bias,
            &mut trace.y,
        );
        let (cells, prefix) = trace.y.split_at_mut(layout.cells() * stride);
        prefix.fill(0.0);
        conv::add_rows(kernel, prefix, cells, layout.cells());
        for mean in prefix {
            *mean /= layout.cells() as f32;
        }
    }

    /// Writes the gates, the inner vectors and the products of `down`.
    fn map_inner(&self, kernel: K, trace: &mut ConvTrace<K>) {
        let (stride, inner) = (self.stride(), self.inner_stride());
        let swiglu = &self.forward.swiglu;
        product(
            kernel,
            &trace.normal,
            stride,
            &swiglu.gate_up,
            &mut trace.gates,
        );
        apply_gates(
            kernel,
            self.layout.cells() + 1,
            (&trace.gates, 2 * inner),
            (&mut trace.hidden, 0, inner),
        );
        product(kernel, &trace.hidden, inner, &swiglu.down, &mut trace.out);
    }
}

/// Returns the first number of each row's vector in the layout.
fn starts(layout: Layout, stride: usize) -> Vec<usize> {
    let cells = (0..layout.cells()).map(|cell| layout.cell(cell));
    cells
        .chain([layout.prefix()])
        .map(|index| index * stride)
        .collect()
}

/// Writes a convolution of the vectors `x` in a bordered layout to the rows `to`, one for each cell.
pub(super) fn convolve<K: Kernel>(
    kernel: K,
    layout: Layout,
    x: &[K::Element],
    matrix: &Packed<K>,
    bias: Option<&[f32]>,
    to: &mut [f32],
) {
    let stride = matrix.outputs();
    let taps = taps(layout, stride);
    for row in 0..layout.height() {
        for (first, rows) in tiles::<K>(layout.width()) {
            let inputs = Inputs {
                elements: x,
                start: (row * layout.stride() + first) * stride,
                stride,
                rows,
                taps: &taps,
            };
            let outputs = Outputs {
                numbers: to,
                start: (row * layout.width() + first) * stride,
                stride,
            };
            multiply(kernel, inputs, matrix, bias, outputs);
        }
    }
}

/// Multiplies all rows of `from`, `stride` numbers apart, with a matrix.
pub(super) fn product<K: Kernel>(
    kernel: K,
    from: &[K::Element],
    stride: usize,
    matrix: &Packed<K>,
    to: &mut [f32],
) {
    for (first, rows) in tiles::<K>(from.len() / stride) {
        let inputs = Inputs {
            elements: from,
            start: first * stride,
            stride,
            rows,
            taps: &[0],
        };
        let outputs = Outputs {
            numbers: to,
            start: first * matrix.outputs(),
            stride: matrix.outputs(),
        };
        multiply(kernel, inputs, matrix, None, outputs);
    }
}
