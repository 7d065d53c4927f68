//! Plain Rust: what every processor runs, and what the other kernels are compared with.

use crate::kernel::{Exp2, Kernel, sealed::Sealed};

/// Lanes that a compiler maps to two or more registers of any processor.
const LANES: usize = 8;

/// Plain Rust. `ROUNDED` rounds to bfloat16 where vectors and weights are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable<const ROUNDED: bool>;

/// Rounds to the nearest bfloat16, ties to even.
#[inline(always)]
pub(crate) fn round_to_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    if value.is_nan() {
        return f32::from_bits((bits | 0x0040_0000) & 0xffff_0000);
    }
    f32::from_bits((bits + (0x7fff + ((bits >> 16) & 1))) & 0xffff_0000)
}

#[inline(always)]
fn map(a: [f32; LANES], f: impl Fn(f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl<const ROUNDED: bool> Sealed for Portable<ROUNDED> {}

impl<const ROUNDED: bool> Kernel for Portable<ROUNDED> {
    type Element = f32;
    type Vector = [f32; LANES];
    type Factor = [f32; LANES];

    const LANES: usize = LANES;
    const STEP: usize = 1;
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    #[inline(always)]
    fn narrow(value: f32) -> f32 {
        if ROUNDED { round_to_bf16(value) } else { value }
    }

    #[inline(always)]
    fn widen(element: f32) -> f32 {
        element
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Vector {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load_f32(self, from: *const f32) -> Self::Vector {
        // SAFETY: the caller's.
        unsafe { from.cast::<[f32; LANES]>().read() }
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, vector: Self::Vector) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; LANES]>().write(vector) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::Vector {
        // SAFETY: the caller's.
        unsafe { self.load_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, vector: Self::Vector) {
        // SAFETY: the caller's.
        unsafe { self.store_f32(to, map(vector, Self::narrow)) }
    }

    #[inline(always)]
    unsafe fn load_factor(self, from: *const f32) -> Self::Factor {
        // SAFETY: the caller's.
        unsafe { self.load_f32(from) }
    }

    #[inline(always)]
    unsafe fn splat_factor(self, from: *const f32) -> Self::Factor {
        // SAFETY: the caller's.
        [unsafe { from.read() }; LANES]
    }

    #[inline(always)]
    fn multiply_add(self, sum: Self::Vector, a: Self::Factor, b: Self::Factor) -> Self::Vector {
        self.mul_add(a, b, sum)
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        zip(a, b, |a, b| a * b)
    }

    /// Rounds twice: `f32::mul_add` is a function call on processors without the instruction.
    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn exp2(self, exponent: Self::Vector) -> Self::Vector {
        // Adding this number leaves the nearest integer in the lowest bits.
        const SHIFT: f32 = 12_582_912.0;
        let shifted = map(exponent, |x| x + SHIFT);
        let whole = map(shifted, |x| x - SHIFT);
        let coefficients: &[f32] = if ROUNDED { &Exp2::SHORT } else { &Exp2::LONG };
        let power = self.polynomial(zip(exponent, whole, |x, n| x - n), coefficients);
        zip(power, shifted, |p, n| {
            let n = n.to_bits().wrapping_sub(SHIFT.to_bits());
            p * f32::from_bits(n.wrapping_add(127) << 23)
        })
    }

    #[inline(always)]
    fn reciprocal(self, a: Self::Vector) -> Self::Vector {
        map(a, |a| 1.0 / a)
    }

    #[inline(always)]
    fn sum(self, a: Self::Vector) -> f32 {
        let [a, b, c, d, e, f, g, h] = a;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn largest(self, a: Self::Vector) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
