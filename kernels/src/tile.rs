//! The product of a few rows with a few registers of outputs. All its sums are in registers.
//!
//! Each step loads the weights of up to two registers of outputs, and one group of inputs of each row for all lanes.
//! Two products share each load, so the loads keep up with the multipliers.

use crate::{
    kernel::Kernel,
    packed::{Packed, TILE_REGISTERS},
};

/// Input rows in memory, in elements.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a, E> {
    pub(crate) elements: &'a [E],
    /// The first row.
    pub(crate) start: usize,
    /// From one row to the next.
    pub(crate) stride: usize,
    /// Rows, at most [`Kernel::TILE_ROWS`].
    pub(crate) rows: usize,
    /// From a row to what each tap reads.
    pub(crate) taps: &'a [usize],
}

/// Output rows in memory, in numbers.
pub(crate) struct Outputs<'a> {
    pub(crate) numbers: &'a mut [f32],
    /// The first row.
    pub(crate) start: usize,
    /// From one row to the next.
    pub(crate) stride: usize,
}

/// Divides `rows` rows into tiles of almost equal size, at most [`Kernel::TILE_ROWS`]: the first row and the number of
/// rows of each.
pub(crate) fn tiles<K: Kernel>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = rows.div_ceil(K::TILE_ROWS);
    (0..tiles).map(move |tile| {
        let first = rows * tile / tiles;
        (first, rows * (tile + 1) / tiles - first)
    })
}

/// Multiplies all rows with a matrix and writes the sums, each of which begins with `bias`, one number for each output,
/// or with zero.
pub(crate) fn multiply<K: Kernel>(
    kernel: K,
    inputs: Inputs<'_, K::Element>,
    matrix: &Packed<K>,
    bias: Option<&[f32]>,
    outputs: Outputs<'_>,
) {
    for block in 0..matrix.blocks() {
        let from = block * TILE_REGISTERS * K::LANES;
        let outputs = Outputs {
            numbers: &mut *outputs.numbers,
            start: outputs.start + from,
            stride: outputs.stride,
        };
        let bias = bias.map(|bias| &bias[from..]);
        multiply_block(kernel, inputs, matrix, block, bias, outputs);
    }
}

/// Multiplies all rows with one block of a matrix and writes the sums, each of which begins with `bias`, one number for
/// each of the block's outputs, or with zero.
pub(crate) fn multiply_block<K: Kernel>(
    kernel: K,
    inputs: Inputs<'_, K::Element>,
    matrix: &Packed<K>,
    block: usize,
    bias: Option<&[f32]>,
    outputs: Outputs<'_>,
) {
    let weights = matrix.block(block);
    let registers = matrix.block_registers(block);
    let (rows, steps) = (inputs.rows, matrix.steps());
    assert!(
        (1..=K::TILE_ROWS).contains(&rows),
        "{rows} rows do not fit in a tile"
    );
    assert_eq!(inputs.taps.len(), matrix.taps(), "a shift for each tap");
    let farthest = inputs.taps.iter().max().copied().unwrap_or(0);
    assert!(
        inputs.start + (rows - 1) * inputs.stride + farthest + steps * K::STEP
            <= inputs.elements.len(),
        "the inputs end too early"
    );
    assert!(
        outputs.start + (rows - 1) * outputs.stride + registers * K::LANES <= outputs.numbers.len(),
        "the outputs end too early"
    );
    assert!(
        bias.is_none_or(|bias| bias.len() >= registers * K::LANES),
        "the bias ends too early"
    );
    assert_eq!(
        weights.len(),
        matrix.taps() * steps * registers * K::LANES * K::STEP
    );
    let tile = Tile {
        // SAFETY: the checks above hold the start of both within their slices.
        input: unsafe { inputs.elements.as_ptr().add(inputs.start) },
        input_stride: inputs.stride,
        taps: inputs.taps,
        weights: weights.as_ptr(),
        steps,
        bias: bias.map(<[f32]>::as_ptr),
        // SAFETY: as above.
        output: unsafe { outputs.numbers.as_mut_ptr().add(outputs.start) },
        output_stride: outputs.stride,
    };
    // SAFETY: the checks above hold everything that the tile reads and writes within the slices.
    unsafe {
        match registers {
            TILE_REGISTERS => choose_rows::<K, TILE_REGISTERS>(kernel, rows, &tile),
            _ => choose_rows::<K, 1>(kernel, rows, &tile),
        }
    }
}

struct Tile<'a, E> {
    input: *const E,
    input_stride: usize,
    taps: &'a [usize],
    weights: *const E,
    steps: usize,
    bias: Option<*const f32>,
    output: *mut f32,
    output_stride: usize,
}

/// # Safety
///
/// As for [`run`], with `rows` rows.
unsafe fn choose_rows<K: Kernel, const REGISTERS: usize>(
    kernel: K,
    rows: usize,
    tile: &Tile<'_, K::Element>,
) {
    macro_rules! choose {
        ($($rows:literal)*) => {
            match rows {
                // SAFETY: the caller's.
                $($rows => unsafe { run::<K, $rows, REGISTERS>(kernel, tile) },)*
                _ => unreachable!("a tile has at most 13 rows"),
            }
        };
    }
    choose!(1 2 3 4 5 6 7 8 9 10 11 12 13);
}

/// # Safety
///
/// The pointers are valid for `ROWS` rows, and the weights for all taps and steps.
unsafe fn run<K: Kernel, const ROWS: usize, const REGISTERS: usize>(
    kernel: K,
    tile: &Tile<'_, K::Element>,
) {
    if ROWS > K::TILE_ROWS {
        return;
    }
    kernel.vectorize(
        #[inline(always)]
        || {
            // SAFETY: the caller's; every offset below is within the rows, taps and steps that it names.
            unsafe {
                let mut sums = [[kernel.splat(0.0); REGISTERS]; ROWS];
                if let Some(bias) = tile.bias {
                    for register in 0..REGISTERS {
                        let bias = kernel.load_f32(bias.add(register * K::LANES));
                        for row in &mut sums {
                            row[register] = bias;
                        }
                    }
                }
                let mut weights = tile.weights;
                for &tap in tile.taps {
                    let mut input = tile.input.add(tap);
                    for _ in 0..tile.steps {
                        let mut factors = [kernel.load_factor(weights); REGISTERS];
                        for (register, factor) in factors.iter_mut().enumerate() {
                            *factor =
                                kernel.load_factor(weights.add(register * K::LANES * K::STEP));
                        }
                        weights = weights.add(REGISTERS * K::LANES * K::STEP);
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let x = kernel.splat_factor(input.add(row * tile.input_stride));
                            for (sum, &factor) in sums.iter_mut().zip(&factors) {
                                *sum = kernel.multiply_add(*sum, factor, x);
                            }
                        }
                        input = input.add(K::STEP);
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    for (register, &sum) in sums.iter().enumerate() {
                        let at = row * tile.output_stride + register * K::LANES;
                        kernel.store_f32(tile.output.add(at), sum);
                    }
                }
            }
        },
    );
}
