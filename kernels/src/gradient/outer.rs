//! Sums of outer products: `to[i][o] += sum over rows of a[row][i] b[row][o]`, the gradient of a weight matrix.
//!
//! A tile of sums is in registers while the rows of one environment pass by, group by group.

use super::groups::Side;
use crate::{kernel::Kernel, packed::TILE_REGISTERS, tile::tiles};

/// Adds the products of `inputs` numbers of `a` and of `outputs` numbers of `b`, a multiple of the lanes, to `to`
/// `[inputs, outputs]`.
pub(super) fn add_products<K: Kernel>(
    kernel: K,
    a: Side<'_, K>,
    b: Side<'_, K>,
    inputs: usize,
    outputs: usize,
    to: &mut [f32],
) {
    assert_eq!(a.len(), b.len(), "groups in pairs");
    assert!(
        a.holds(inputs) && b.holds(outputs),
        "the rows end too early"
    );
    assert!(outputs.is_multiple_of(K::LANES) && inputs * outputs <= to.len());
    let registers = outputs / K::LANES;
    for register in (0..registers).step_by(TILE_REGISTERS) {
        for (first, rows) in tiles::<K>(inputs) {
            let tile = SumTile {
                a,
                b,
                input: first,
                output: register * K::LANES,
                outputs,
            };
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

struct SumTile<'a, K: Kernel> {
    a: Side<'a, K>,
    b: Side<'a, K>,
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
    tile: &SumTile<'_, K>,
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
/// `INPUTS` and `REGISTERS` numbers of every group from the tile's first ones, and the same part of `to`, are within
/// their slices.
unsafe fn run<K: Kernel, const INPUTS: usize, const REGISTERS: usize>(
    kernel: K,
    tile: &SumTile<'_, K>,
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
                let to = to.as_mut_ptr().add(tile.input * tile.outputs + tile.output);
                let mut sums = [[kernel.splat(0.0); REGISTERS]; INPUTS];
                let inputs = tile.a.pointers(tile.input);
                for (a, b) in inputs.zip(tile.b.pointers(tile.output)) {
                    let mut factors = [kernel.load_factor(b); REGISTERS];
                    for (register, factor) in factors.iter_mut().enumerate() {
                        *factor = kernel.load_factor(b.add(register * K::LANES * K::STEP));
                    }
                    for (input, sums) in sums.iter_mut().enumerate() {
                        let x = kernel.splat_factor(a.add(input * K::STEP));
                        for (sum, &factor) in sums.iter_mut().zip(&factors) {
                            *sum = kernel.multiply_add(*sum, factor, x);
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
