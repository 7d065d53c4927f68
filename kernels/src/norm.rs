//! Residual and RMSNorm without a weight: `y = s / sqrt(mean(s^2) + 1e-5)` with `s = x + f(x)`.

use crate::kernel::Kernel;

const EPSILON: f32 = 1e-5;

/// The numbers that are added to a row before it is normalised.
pub(crate) enum Residual<'a, E> {
    /// Elements, with the first row's start and the distance of rows.
    Elements(&'a [E], usize, usize),
    /// Numbers, at the stride of the sums.
    Numbers(&'a [f32]),
}

/// The place of normalised rows: elements, the first row's start and the distance of rows.
pub(crate) struct NormTarget<'a, E>(pub(crate) &'a mut [E], pub(crate) usize, pub(crate) usize);

/// Rows that are normalised, each over its first `width` numbers. Rows are `stride` numbers apart, a multiple of the
/// lanes; numbers from `width` on are zero.
pub(crate) struct RowSums<'a> {
    pub(crate) numbers: &'a mut [f32],
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) stride: usize,
}

/// Adds the residual to each row of `sums` and normalises it. Writes it to `target`, rounded, and back to `sums`. Calls
/// `scaled` with each row and the factor that normalised it.
pub(crate) fn normalize<K: Kernel>(
    kernel: K,
    sums: RowSums<'_>,
    residual: Residual<'_, K::Element>,
    target: NormTarget<'_, K::Element>,
    scaled: impl FnMut(usize, f32),
) {
    let RowSums {
        numbers: sums,
        rows,
        width,
        stride,
    } = sums;
    let NormTarget(elements, start, distance) = target;
    let last = rows - 1;
    assert!(stride.is_multiple_of(K::LANES) && rows * stride <= sums.len());
    assert!(start + last * distance + stride <= elements.len());
    match residual {
        Residual::Elements(from, start, distance) => {
            assert!(start + last * distance + stride <= from.len());
        }
        Residual::Numbers(from) => assert!(rows * stride <= from.len()),
    }
    let place = NormPlace {
        rows,
        width,
        stride,
        start,
        distance,
    };
    // The usual widths have their own code, which keeps a row in registers.
    // SAFETY: the checks above hold `stride` numbers of every row within its slice.
    unsafe {
        match stride / K::LANES {
            1 => run::<K, 1>(kernel, place, sums, &residual, elements, scaled),
            2 => run::<K, 2>(kernel, place, sums, &residual, elements, scaled),
            4 => run::<K, 4>(kernel, place, sums, &residual, elements, scaled),
            _ => run::<K, 0>(kernel, place, sums, &residual, elements, scaled),
        }
    }
}

#[derive(Clone, Copy)]
struct NormPlace {
    rows: usize,
    width: usize,
    stride: usize,
    start: usize,
    distance: usize,
}

/// `REGISTERS` is the number of vectors of a row, or 0 for any.
///
/// # Safety
///
/// Every row's `stride` numbers are within its slice, and `stride` is `REGISTERS` vectors.
unsafe fn run<K: Kernel, const REGISTERS: usize>(
    kernel: K,
    place: NormPlace,
    sums: &mut [f32],
    residual: &Residual<'_, K::Element>,
    elements: &mut [K::Element],
    mut scaled: impl FnMut(usize, f32),
) {
    let NormPlace {
        rows,
        width,
        stride,
        start,
        distance,
    } = place;
    kernel.vectorize(
        #[inline(always)]
        || {
            for row in 0..rows {
                // SAFETY: the caller's.
                unsafe {
                    let sums = sums.as_mut_ptr().add(row * stride);
                    let to = elements.as_mut_ptr().add(start + row * distance);
                    let sum = |at: usize| {
                        let x = match residual {
                            Residual::Elements(from, start, distance) => {
                                kernel.load(from.as_ptr().add(start + row * distance + at))
                            }
                            Residual::Numbers(from) => {
                                kernel.load_f32(from.as_ptr().add(row * stride + at))
                            }
                        };
                        kernel.add(kernel.load_f32(sums.add(at)), x)
                    };
                    let mut scale = |squares| {
                        let mean = kernel.sum(squares) / width as f32;
                        let scale = 1.0 / (mean + EPSILON).sqrt();
                        scaled(row, scale);
                        kernel.splat(scale)
                    };
                    let mut squares = kernel.splat(0.0);
                    if REGISTERS > 0 {
                        let mut held = [squares; REGISTERS];
                        for (register, held) in held.iter_mut().enumerate() {
                            *held = sum(register * K::LANES);
                            squares = kernel.mul_add(*held, *held, squares);
                        }
                        let scale = scale(squares);
                        for (register, held) in held.into_iter().enumerate() {
                            let normal = kernel.mul(held, scale);
                            kernel.store_f32(sums.add(register * K::LANES), normal);
                            kernel.store(to.add(register * K::LANES), normal);
                        }
                    } else {
                        for at in (0..stride).step_by(K::LANES) {
                            let sum = sum(at);
                            kernel.store_f32(sums.add(at), sum);
                            squares = kernel.mul_add(sum, sum, squares);
                        }
                        let scale = scale(squares);
                        for at in (0..stride).step_by(K::LANES) {
                            let normal = kernel.mul(kernel.load_f32(sums.add(at)), scale);
                            kernel.store_f32(sums.add(at), normal);
                            kernel.store(to.add(at), normal);
                        }
                    }
                }
            }
        },
    );
}
