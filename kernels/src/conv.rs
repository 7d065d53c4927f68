//! A block whose tokens mix by a 3 x 3 convolution over the grid, with zeros outside it.
//!
//! ```text
//!   everywhere = prefix map of x[prefix]
//!   mix[cell]  = everywhere + the sum over nine shifts of kernel[shift] x[cell + shift]
//!   mix[prefix] = mean of mix over the cells
//!   y = rmsnorm(x + mix); out = rmsnorm(y + swiglu(y))
//! ```
//!
//! A tile is a run of cells in a row of the grid. Its nine products are one sum in registers, and its vectors stay in
//! the first cache until they are written to `out`.

use crate::{
    aligned::Aligned,
    kernel::Kernel,
    layout::Layout,
    packed::Packed,
    rows::Rows,
    swiglu::{SwiGlu, SwiGluScratch},
    tile::{Inputs, Outputs, multiply, tiles},
};

pub(crate) const TAPS: usize = 9;

/// The weights of a convolution's mixing, f32.
#[derive(Debug, Clone, Copy)]
pub struct ConvWeights<'a> {
    /// `[width, width, 3, 3]`: output, input, down, right.
    pub kernel: &'a [f32],
    /// `[width, width]`: what the prefix token adds to every cell.
    pub prefix: &'a [f32],
}

/// Packed weights of a block.
#[derive(Debug, Clone)]
pub(crate) struct ConvBlock<K: Kernel> {
    pub(crate) kernel: Packed<K>,
    prefix: Packed<K>,
    pub(crate) swiglu: SwiGlu<K>,
}

/// Memory for the intermediate results of a tile.
#[derive(Debug, Clone)]
pub(crate) struct ConvScratch<K: Kernel> {
    /// The vector that the prefix token adds to every cell.
    everywhere: Aligned<f32>,
    /// The sum of all cells' mixtures.
    total: Aligned<f32>,
    swiglu: SwiGluScratch<K>,
}

impl<K: Kernel> ConvBlock<K> {
    pub(crate) fn new(width: usize, weights: ConvWeights<'_>, swiglu: SwiGlu<K>) -> Self {
        let ConvWeights { kernel, prefix } = weights;
        assert_eq!(
            kernel.len(),
            TAPS * width * width,
            "the kernel is [width, width, 3, 3]"
        );
        let outputs: Vec<Option<usize>> = (0..width).map(Some).collect();
        Self {
            kernel: Packed::new(&outputs, TAPS, width, |output, tap, input| {
                kernel[(output * width + input) * TAPS + tap]
            }),
            prefix: Packed::matrix(width, width, prefix),
            swiglu,
        }
    }

    pub(crate) fn scratch(&self) -> ConvScratch<K> {
        let stride = self.kernel.outputs();
        ConvScratch {
            everywhere: Aligned::zeros(stride),
            total: Aligned::zeros(stride),
            swiglu: self.swiglu.scratch(),
        }
    }

    /// Maps the vectors of one environment.
    pub(crate) fn forward(
        &self,
        kernel: K,
        x: &Rows<K>,
        out: &mut Rows<K>,
        scratch: &mut ConvScratch<K>,
    ) {
        let layout = x.layout();
        let stride = x.stride();
        assert_eq!((stride, layout), (out.stride(), out.layout()), "one layout");
        let prefix = layout.prefix() * stride;
        self.map_prefix(kernel, x, &mut scratch.everywhere);
        let taps = taps(layout, stride);
        scratch.total.fill(0.0);
        for row in 0..layout.height() {
            for (first, rows) in tiles::<K>(layout.width()) {
                let corner = (row * layout.stride() + first) * stride;
                let inputs = Inputs {
                    elements: x.elements(),
                    start: corner,
                    stride,
                    rows,
                    taps: &taps,
                };
                let outputs = Outputs {
                    numbers: &mut scratch.swiglu.mixed,
                    start: 0,
                    stride,
                };
                let bias = Some(&scratch.everywhere[..]);
                multiply(kernel, inputs, &self.kernel, bias, outputs);
                add_rows(kernel, &mut scratch.total, &scratch.swiglu.mixed, rows);
                let cell = layout.cell(row * layout.width() + first) * stride;
                self.swiglu
                    .finish(kernel, x, cell, rows, out, &mut scratch.swiglu);
            }
        }
        let cells = layout.cells() as f32;
        for (mean, total) in scratch.swiglu.mixed.iter_mut().zip(scratch.total.iter()) {
            *mean = total / cells;
        }
        self.swiglu
            .finish(kernel, x, prefix, 1, out, &mut scratch.swiglu);
    }

    /// Computes what the prefix token adds to every cell.
    pub(crate) fn map_prefix(&self, kernel: K, x: &Rows<K>, everywhere: &mut [f32]) {
        let inputs = Inputs {
            elements: x.elements(),
            start: x.layout().prefix() * x.stride(),
            stride: x.stride(),
            rows: 1,
            taps: &[0],
        };
        let outputs = Outputs {
            numbers: everywhere,
            start: 0,
            stride: x.stride(),
        };
        multiply(kernel, inputs, &self.prefix, None, outputs);
    }
}

/// The distances from a tile's first cell, less one row and one column, to what the taps read.
pub(crate) fn taps(layout: Layout, stride: usize) -> [usize; TAPS] {
    std::array::from_fn(|tap| (tap / 3 * layout.stride() + tap % 3) * stride)
}

/// Adds `rows` rows of `sums` to `total`.
pub(crate) fn add_rows<K: Kernel>(kernel: K, total: &mut [f32], sums: &[f32], rows: usize) {
    let stride = total.len();
    assert!(stride.is_multiple_of(K::LANES) && rows * stride <= sums.len());
    kernel.vectorize(
        #[inline(always)]
        || {
            for at in (0..stride).step_by(K::LANES) {
                // SAFETY: the check above.
                unsafe {
                    let total = total.as_mut_ptr().add(at);
                    let mut sum = kernel.load_f32(total);
                    for row in 0..rows {
                        let mixed = kernel.load_f32(sums.as_ptr().add(row * stride + at));
                        sum = kernel.add(sum, mixed);
                    }
                    kernel.store_f32(total, sum);
                }
            }
        },
    );
}
