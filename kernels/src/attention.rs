//! A block whose tokens mix by multi-head self-attention over all positions: not causal, no biases in the products.
//!
//! ```text
//!   q, k, v = x qkv; positions turn q and k
//!   for a few rows at a time:
//!     scores = q k / sqrt(head width) + bias of the positions, for each head
//!     mix    = softmax(scores) v, heads side by side, times `out`
//!     y = rmsnorm(x + mix); out = rmsnorm(y + swiglu(y))
//! ```
//!
//! Keys and values are packed like weights, since the same tile multiplies with them. Rows are in the order of memory:
//! the cells, then the prefix token. Only the positions depend on it.

use crate::{
    aligned::Aligned,
    kernel::Kernel,
    layout::Layout,
    packed::Packed,
    rows::Rows,
    swiglu::{SwiGlu, SwiGluScratch},
    tile::{Inputs, Outputs, multiply, tiles},
};

/// The weights of self-attention, f32.
#[derive(Debug, Clone, Copy)]
pub struct AttentionWeights<'a> {
    /// Number of heads; it divides the width.
    pub heads: usize,
    /// `[3 * width, width]`: queries, keys, values, each with its heads in order.
    pub qkv: &'a [f32],
    /// `[width, width]`.
    pub out: &'a [f32],
    /// The position encoding of queries and keys.
    pub positions: Positions<'a>,
}

/// The position encoding of queries and keys, where position 0 is the prefix token and `i + 1` is cell `i`.
#[derive(Debug, Clone, Copy)]
pub enum Positions<'a> {
    /// Nothing.
    Unseen,
    /// Cosine and sine, `[positions, head width / 2]` each: dimension `i` is turned with `i + head width / 2`.
    Turned(&'a [f32], &'a [f32]),
    /// A number that is added to each score, `[heads, positions, positions]`: head, query, key.
    Biased(&'a [f32]),
}

/// The same in the order of memory.
#[derive(Debug, Clone)]
enum Places {
    Unseen,
    /// `[rows, head width / 2]` each.
    Turned(Vec<f32>, Vec<f32>),
    /// `[heads, rows, stride of scores]`.
    Biased(Vec<f32>),
}

/// Packed weights of a block.
#[derive(Debug, Clone)]
pub(crate) struct AttentionBlock<K: Kernel> {
    width: usize,
    heads: usize,
    rows: usize,
    qkv: Packed<K>,
    out: Packed<K>,
    places: Places,
    swiglu: SwiGlu<K>,
}

/// Memory for intermediate results.
#[derive(Debug, Clone)]
pub(crate) struct AttentionScratch<K: Kernel> {
    /// Queries, keys and values of all rows, each head in whole registers.
    qkv: Aligned<f32>,
    /// Queries, `[heads, rows, head stride]`.
    queries: Aligned<K::Element>,
    /// For each head: keys as outputs, and values as inputs.
    keys: Vec<Packed<K>>,
    values: Vec<Packed<K>>,
    /// Of a tile's rows.
    scores: Aligned<f32>,
    /// `exp` of the scores, without the division by their sum.
    shares: Aligned<K::Element>,
    /// Of a tile's rows, one head.
    head: Aligned<f32>,
    /// Of a tile's rows, heads side by side.
    mixed: Aligned<K::Element>,
    swiglu: SwiGluScratch<K>,
}

impl<K: Kernel> AttentionBlock<K> {
    pub(crate) fn new(
        width: usize,
        layout: Layout,
        weights: AttentionWeights<'_>,
        swiglu: SwiGlu<K>,
    ) -> Self {
        let AttentionWeights {
            heads,
            qkv,
            out,
            positions,
        } = weights;
        assert!(width.is_multiple_of(heads), "heads divide the width");
        assert_eq!(qkv.len(), 3 * width * width, "qkv is [3 * width, width]");
        assert_eq!(out.len(), width * width, "out is [width, width]");
        let size = width / heads;
        let stride = size.next_multiple_of(K::LANES);
        let padded = move |at: usize| {
            let (head, i) = (at / stride, at % stride);
            (i < size).then_some(head * size + i)
        };
        let outputs: Vec<Option<usize>> = (0..3)
            .flat_map(|part| {
                (0..heads * stride).map(move |at| padded(at).map(|i| part * width + i))
            })
            .collect();
        let rows: Vec<Option<usize>> = (0..width).map(Some).collect();
        Self {
            width,
            heads,
            rows: layout.vectors(),
            qkv: Packed::new(&outputs, 1, width, |output, _, input| {
                qkv[output * width + input]
            }),
            out: Packed::new(&rows, 1, heads * stride, |output, _, input| {
                padded(input).map_or(0.0, |input| out[output * width + input])
            }),
            places: Places::new::<K>(layout, heads, size, positions),
            swiglu,
        }
    }

    /// Numbers of a head, in whole registers.
    fn head_stride(&self) -> usize {
        (self.width / self.heads).next_multiple_of(K::LANES)
    }

    pub(crate) fn scratch(&self) -> AttentionScratch<K> {
        let (rows, head) = (self.rows, self.head_stride());
        let scores = rows.next_multiple_of(K::LANES);
        let size = self.width / self.heads;
        AttentionScratch {
            qkv: Aligned::zeros(rows * self.qkv.outputs()),
            queries: Aligned::zeros(self.heads * rows * head),
            keys: vec![Packed::zeros(rows, 1, size); self.heads],
            values: vec![Packed::zeros(size, 1, rows); self.heads],
            scores: Aligned::zeros(K::TILE_ROWS * scores),
            shares: Aligned::zeros(K::TILE_ROWS * scores),
            head: Aligned::zeros(K::TILE_ROWS * head),
            mixed: Aligned::zeros(K::TILE_ROWS * self.heads * head),
            swiglu: self.swiglu.scratch(),
        }
    }

    /// Maps the vectors of one environment.
    pub(crate) fn forward(
        &self,
        kernel: K,
        x: &Rows<K>,
        out: &mut Rows<K>,
        scratch: &mut AttentionScratch<K>,
    ) {
        assert_eq!(
            (x.stride(), x.layout()),
            (out.stride(), out.layout()),
            "one layout"
        );
        self.project(kernel, x, scratch);
        for head in 0..self.heads {
            self.prepare_head(kernel, head, scratch);
        }
        for (first, rows) in tiles::<K>(self.rows) {
            for head in 0..self.heads {
                self.mix(kernel, head, first, rows, scratch);
            }
            self.finish(kernel, x, first, rows, out, scratch);
        }
    }

    /// Computes queries, keys and values of all rows.
    fn project(&self, kernel: K, x: &Rows<K>, scratch: &mut AttentionScratch<K>) {
        let stride = self.qkv.outputs();
        for (first, rows) in tiles::<K>(self.rows) {
            let inputs = Inputs {
                elements: x.elements(),
                start: first * x.stride(),
                stride: x.stride(),
                rows,
                taps: &[0],
            };
            let outputs = Outputs {
                numbers: &mut scratch.qkv,
                start: first * stride,
                stride,
            };
            multiply(kernel, inputs, &self.qkv, None, outputs);
        }
    }

    /// Turns and packs the queries, keys and values of a head.
    fn prepare_head(&self, kernel: K, head: usize, scratch: &mut AttentionScratch<K>) {
        let size = self.width / self.heads;
        let (head_stride, stride, rows) = (self.head_stride(), self.qkv.outputs(), self.rows);
        let [query, key, value] = [0, 1, 2].map(|part| (part * self.heads + head) * head_stride);
        let qkv = &mut scratch.qkv;
        if let Places::Turned(cos, sin) = &self.places {
            kernel.vectorize(
                #[inline(always)]
                || {
                    let tables = cos.chunks_exact(size / 2).zip(sin.chunks_exact(size / 2));
                    for (row, (cos, sin)) in qkv.chunks_exact_mut(stride).zip(tables) {
                        for start in [query, key] {
                            turn(&mut row[start..start + size], cos, sin);
                        }
                    }
                },
            );
        }
        let scale = 1.0 / (size as f32).sqrt();
        let queries = &mut scratch.queries[head * rows * head_stride..];
        for (row, to) in qkv
            .chunks_exact(stride)
            .zip(queries.chunks_exact_mut(head_stride))
        {
            for (element, number) in to.iter_mut().zip(&row[query..query + size]) {
                *element = K::narrow(number * scale);
            }
        }
        let qkv = &scratch.qkv;
        scratch.keys[head].fill(|row, _, i| match row < rows && i < size {
            true => qkv[row * stride + key + i],
            false => 0.0,
        });
        scratch.values[head].fill(|i, _, row| match row < rows && i < size {
            true => qkv[row * stride + value + i],
            false => 0.0,
        });
    }

    /// Mixes the values of a head for the rows of a tile.
    fn mix(
        &self,
        kernel: K,
        head: usize,
        first: usize,
        rows: usize,
        scratch: &mut AttentionScratch<K>,
    ) {
        let head_stride = self.head_stride();
        let stride = self.rows.next_multiple_of(K::LANES);
        let keys = &scratch.keys[head];
        let inputs = Inputs {
            elements: &scratch.queries,
            start: (head * self.rows + first) * head_stride,
            stride: head_stride,
            rows,
            taps: &[0],
        };
        let outputs = Outputs {
            numbers: &mut scratch.scores,
            start: 0,
            stride,
        };
        multiply(kernel, inputs, keys, None, outputs);
        let mut totals = [0.0; 16];
        for row in 0..rows {
            let scores = &mut scratch.scores[row * stride..(row + 1) * stride];
            if let Places::Biased(bias) = &self.places {
                let bias = &bias[(head * self.rows + first + row) * stride..];
                for (score, bias) in scores.iter_mut().zip(bias) {
                    *score += bias;
                }
            }
            scores[self.rows..].fill(f32::NEG_INFINITY);
            let shares = &mut scratch.shares[row * stride..(row + 1) * stride];
            totals[row] = exponentials(kernel, scores, shares);
        }
        let values = &scratch.values[head];
        let inputs = Inputs {
            elements: &scratch.shares,
            start: 0,
            stride,
            rows,
            taps: &[0],
        };
        let outputs = Outputs {
            numbers: &mut scratch.head,
            start: 0,
            stride: head_stride,
        };
        multiply(kernel, inputs, values, None, outputs);
        for (row, numbers) in scratch
            .head
            .chunks_exact(head_stride)
            .take(rows)
            .enumerate()
        {
            let start = (row * self.heads + head) * head_stride;
            let mixed = &mut scratch.mixed[start..start + head_stride];
            for (element, number) in mixed.iter_mut().zip(numbers) {
                *element = K::narrow(number / totals[row]);
            }
        }
    }

    /// Makes the block's output of the rows of a tile from their mixtures.
    fn finish(
        &self,
        kernel: K,
        x: &Rows<K>,
        first: usize,
        rows: usize,
        out: &mut Rows<K>,
        scratch: &mut AttentionScratch<K>,
    ) {
        let (stride, start) = (x.stride(), first * x.stride());
        let inputs = Inputs {
            elements: &scratch.mixed,
            start: 0,
            stride: self.heads * self.head_stride(),
            rows,
            taps: &[0],
        };
        let outputs = Outputs {
            numbers: &mut scratch.swiglu.mixed,
            start: 0,
            stride,
        };
        multiply(kernel, inputs, &self.out, None, outputs);
        self.swiglu
            .finish(kernel, x, start, rows, out, &mut scratch.swiglu);
    }
}

impl Places {
    fn new<K: Kernel>(layout: Layout, heads: usize, size: usize, positions: Positions<'_>) -> Self {
        let rows = layout.vectors();
        // The position of a row in memory.
        let position = |row: usize| (row + 1) % rows;
        match positions {
            Positions::Unseen => Self::Unseen,
            Positions::Turned(cos, sin) => {
                let half = size / 2;
                for table in [cos, sin] {
                    assert_eq!(table.len(), rows * half, "[positions, head width / 2]");
                }
                let ordered = |table: &[f32]| -> Vec<f32> {
                    (0..rows)
                        .flat_map(|row| &table[position(row) * half..][..half])
                        .copied()
                        .collect()
                };
                Self::Turned(ordered(cos), ordered(sin))
            }
            Positions::Biased(bias) => {
                assert_eq!(
                    bias.len(),
                    heads * rows * rows,
                    "[heads, positions, positions]"
                );
                let stride = rows.next_multiple_of(K::LANES);
                let mut ordered = vec![0.0; heads * rows * stride];
                for head in 0..heads {
                    for query in 0..rows {
                        for key in 0..rows {
                            ordered[(head * rows + query) * stride + key] =
                                bias[(head * rows + position(query)) * rows + position(key)];
                        }
                    }
                }
                Self::Biased(ordered)
            }
        }
    }
}

/// Turns each pair of dimensions by its angle.
#[inline(always)]
fn turn(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = x.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// Writes `exp(score - largest score)` and returns the sum.
fn exponentials<K: Kernel>(kernel: K, scores: &[f32], shares: &mut [K::Element]) -> f32 {
    assert!(scores.len() == shares.len() && scores.len().is_multiple_of(K::LANES));
    kernel.vectorize(
        #[inline(always)]
        || {
            // SAFETY: the check above.
            unsafe {
                let mut largest = kernel.splat(f32::NEG_INFINITY);
                for at in (0..scores.len()).step_by(K::LANES) {
                    largest = kernel.max(largest, kernel.load_f32(scores.as_ptr().add(at)));
                }
                let largest = kernel.splat(-kernel.largest(largest));
                let mut total = kernel.splat(0.0);
                for at in (0..scores.len()).step_by(K::LANES) {
                    let score = kernel.load_f32(scores.as_ptr().add(at));
                    let share = kernel.exp(kernel.add(score, largest));
                    kernel.store(shares.as_mut_ptr().add(at), share);
                    total = kernel.add(total, share);
                }
                kernel.sum(total)
            }
        },
    )
}
