//! The arithmetic that this core reaches, to compare a forward pass with.

use std::{hint::black_box, time::Instant};

use crate::{
    Instructions, Kernel, Precision, Visitor, dispatch,
    packed::Packed,
    tile::{Inputs, Outputs, multiply},
};

/// Inputs of the measured product: long enough that a tile's beginning and end do not count, and in the first cache.
const INPUTS: usize = 256;

/// Products of one measurement.
const PRODUCTS: usize = 3000;

/// Measures the operations per second, multiplications and additions, of full tiles from the first cache, with the
/// kernel that this process uses: bfloat16 or f32. Takes a few milliseconds.
pub fn peak(bf16: bool) -> f64 {
    let precision = match bf16 {
        true => Precision::Bf16,
        false => Precision::F32,
    };
    dispatch(Instructions::chosen(), precision, Products)
}

struct Products;

impl Visitor for Products {
    type Output = f64;

    fn visit<K: Kernel>(self, kernel: K) -> f64 {
        let outputs = 2 * K::LANES;
        let matrix = Packed::<K>::matrix(outputs, INPUTS, &vec![0.5; outputs * INPUTS]);
        let rows = K::TILE_ROWS;
        let elements = vec![K::narrow(0.25); rows * INPUTS];
        let mut numbers = vec![0.0; rows * outputs];
        let began = Instant::now();
        for _ in 0..PRODUCTS {
            let inputs = Inputs {
                elements: black_box(&elements),
                start: 0,
                stride: INPUTS,
                rows,
                taps: &[0],
            };
            let outputs = Outputs {
                numbers: black_box(&mut numbers),
                start: 0,
                stride: outputs,
            };
            multiply(kernel, inputs, &matrix, None, outputs);
        }
        let operations = 2 * rows * outputs * INPUTS * PRODUCTS;
        operations as f64 / began.elapsed().as_secs_f64()
    }
}
