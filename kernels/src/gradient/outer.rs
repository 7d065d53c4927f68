//! Sums of outer products: `to[i][o] += sum over rows of a[row][i] b[row][o]`, the gradient of a weight matrix.
//!
//! A tile of sums is in registers while the rows of one environment pass by.

use crate::{kernel::Kernel, packed::TILE_REGISTERS};

/// Rows in memory.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) numbers: &'a [f32],
    /// The first number of each row.
    pub(super) starts: &'a [usize],
    /// From there to what is read.
    pub(super) shift: usize,
}

impl<'a> Side<'a> {
    pub(super) fn new(numbers: &'a [f32], starts: &'a [usize]) -> Self {
        Self {
            numbers,
            starts,
            shift: 0,
        }
    }

    /// True when `width` numbers of each row are in memory.
    fn holds(&self, width: usize) -> bool {
        let last = self.starts.iter().max().copied().unwrap_or(0);
        last + self.shift + width <= self.numbers.len()
    }
}

/// Adds the products of `inputs` numbers of `a` and of `outputs` numbers of `b`, a multiple of the lanes, to `to`
/// `[inputs, outputs]`.
pub(super) fn add_products<K: Kernel>(
    kernel: K,
    a: Side<'_>,
    b: Side<'_>,
    inputs: usize,
    outputs: usize,
    to: &mut [f32],
) {
    assert_eq!(a.starts.len(), b.starts.len(), "rows in pairs");
    assert!(
        a.holds(inputs) && b.holds(outputs),
        "the rows end too early"
    );
    assert!(outputs.is_multiple_of(K::LANES) && inputs * outputs <= to.len());
    let registers = outputs / K::LANES;
    for register in (0..registers).step_by(TILE_REGISTERS) {
        for first in (0..inputs).step_by(K::TILE_ROWS) {
            let tile = Tile {
                a,
                b,
                input: first,
                output: register * K::LANES,
                outputs,
            };
            let rows = K::TILE_ROWS.min(inputs - first);
            // SAFETY: the checks above hold the tile's numbers of all rows, and its part of `to`, within their slices.
            unsafe {
                match registers - register {
                    1 => choose_rows::<K, 1>(kernel, rows, &tile, to),
                    _ => choose_rows::<K, TILE_REGISTERS>(kernel, rows, &tile, to),
                }
            }
        }
    }
}

struct Tile<'a> {
    a: Side<'a>,
    b: Side<'a>,
    /// The first input.
    input: usize,
    /// The first output.
    output: usize,
    /// Numbers from one input of the sums to the next.
    outputs: usize,
}

/// # Safety
///
/// As for [`run`], with `rows` inputs.
unsafe fn choose_rows<K: Kernel, const REGISTERS: usize>(
    kernel: K,
    rows: usize,
    tile: &Tile<'_>,
    to: &mut [f32],
) {
    macro_rules! choose {
        ($($rows:literal)*) => {
            match rows {
                // SAFETY: the caller's.
                $($rows => unsafe { run::<K, $rows, REGISTERS>(kernel, tile, to) },)*
                _ => unreachable!("a tile has at most 13 rows"),
            }
        };
    }
    choose!(1 2 3 4 5 6 7 8 9 10 11 12 13);
}

/// # Safety
///
/// `INPUTS` and `REGISTERS` numbers of every row from the tile's first ones, and the same part of `to`, are within their
/// slices.
unsafe fn run<K: Kernel, const INPUTS: usize, const REGISTERS: usize>(
    kernel: K,
    tile: &Tile<'_>,
    to: &mut [f32],
) {
    if INPUTS > K::TILE_ROWS {
        return;
    }
    kernel.vectorize(
        #[inline(always)]
        || {
            // SAFETY: the caller's.
            unsafe {
                let a = tile.a.numbers.as_ptr().add(tile.a.shift + tile.input);
                let b = tile.b.numbers.as_ptr().add(tile.b.shift + tile.output);
                let to = to.as_mut_ptr().add(tile.input * tile.outputs + tile.output);
                let mut sums = [[kernel.splat(0.0); REGISTERS]; INPUTS];
                for (&from_a, &from_b) in tile.a.starts.iter().zip(tile.b.starts) {
                    let b = b.add(from_b);
                    let mut factors = [kernel.load_f32(b); REGISTERS];
                    for (register, factor) in factors.iter_mut().enumerate() {
                        *factor = kernel.load_f32(b.add(register * K::LANES));
                    }
                    for (input, sums) in sums.iter_mut().enumerate() {
                        let x = kernel.splat(*a.add(from_a + input));
                        for (sum, &factor) in sums.iter_mut().zip(&factors) {
                            *sum = kernel.mul_add(x, factor, *sum);
                        }
                    }
                }
                for (input, sums) in sums.iter().enumerate() {
                    for (register, &sum) in sums.iter().enumerate() {
                        let to = to.add(input * tile.outputs + register * K::LANES);
                        kernel.store_f32(to, kernel.add(kernel.load_f32(to), sum));
                    }
                }
            }
        },
    );
}
