use std::fmt;

use crate::aligned::Element;

/// Keeps the trait to this crate: safe code trusts what its constants say.
pub(crate) mod sealed {
    /// Is implemented by this crate's kernels only.
    pub trait Sealed {}
}

/// The vector operations of one set of instructions at one precision.
///
/// A value exists only where the processor has the instructions, so that [`Kernel::vectorize`] is safe. All operations
/// belong inside it: they are inlined into its function, which the compiler translates for these instructions.
pub trait Kernel: sealed::Sealed + Copy + fmt::Debug + Send + Sync + 'static {
    /// A number in memory.
    type Element: Element;
    /// [`Kernel::LANES`] numbers in f32.
    type Vector: Copy;
    /// The operand of [`Kernel::multiply_add`]: [`Kernel::LANES`] groups of [`Kernel::STEP`] numbers.
    type Factor: Copy;

    /// Numbers per vector.
    const LANES: usize;
    /// Inputs that one [`Kernel::multiply_add`] multiplies and sums per lane.
    const STEP: usize;
    /// The most rows of a tile whose sums fit in the registers.
    const TILE_ROWS: usize;

    /// Runs `f`, translated for these instructions. `f` must be inlined into it.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;

    /// Returns a number as an element.
    fn narrow(value: f32) -> Self::Element;
    /// Returns an element as a number.
    fn widen(element: Self::Element) -> f32;

    /// Returns a vector of equal numbers.
    fn splat(self, value: f32) -> Self::Vector;
    /// Reads [`Kernel::LANES`] numbers.
    ///
    /// # Safety
    ///
    /// The pointer is valid for them.
    unsafe fn load_f32(self, from: *const f32) -> Self::Vector;
    /// Writes [`Kernel::LANES`] numbers.
    ///
    /// # Safety
    ///
    /// The pointer is valid for them.
    unsafe fn store_f32(self, to: *mut f32, vector: Self::Vector);
    /// Reads [`Kernel::LANES`] elements.
    ///
    /// # Safety
    ///
    /// The pointer is valid for them.
    unsafe fn load(self, from: *const Self::Element) -> Self::Vector;
    /// Rounds and writes [`Kernel::LANES`] elements.
    ///
    /// # Safety
    ///
    /// The pointer is valid for them.
    unsafe fn store(self, to: *mut Self::Element, vector: Self::Vector);
    /// Reads [`Kernel::LANES`] groups of [`Kernel::STEP`] elements.
    ///
    /// # Safety
    ///
    /// The pointer is valid for them.
    unsafe fn load_factor(self, from: *const Self::Element) -> Self::Factor;
    /// Reads one group of [`Kernel::STEP`] elements for all lanes.
    ///
    /// # Safety
    ///
    /// The pointer is valid for them.
    unsafe fn splat_factor(self, from: *const Self::Element) -> Self::Factor;
    /// Returns `sum + a . b`, lane by lane, where each lane's product is over its group.
    fn multiply_add(self, sum: Self::Vector, a: Self::Factor, b: Self::Factor) -> Self::Vector;

    /// Returns `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Returns `a * b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Returns `a * b + c`.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Returns the larger number of each lane, and `b` where either is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Returns 2 to the power of each lane, for exponents in -126..=126.
    fn exp2(self, exponent: Self::Vector) -> Self::Vector;
    /// Returns the smaller number of each lane, and `b` where either is NaN.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Returns `1 / a`.
    fn reciprocal(self, a: Self::Vector) -> Self::Vector;
    /// Returns the sum over the lanes.
    fn sum(self, a: Self::Vector) -> f32;
    /// Returns the largest lane.
    fn largest(self, a: Self::Vector) -> f32;

    /// Returns the polynomial with these coefficients, from the highest power.
    #[inline(always)]
    fn polynomial(self, x: Self::Vector, coefficients: &[f32]) -> Self::Vector {
        let mut sum = self.splat(coefficients[0]);
        for &coefficient in &coefficients[1..] {
            sum = self.mul_add(sum, x, self.splat(coefficient));
        }
        sum
    }

    /// Returns `exp(factor * a)`, bounded as [`Kernel::exp2`] needs it. NaN stays NaN.
    #[inline(always)]
    fn exp_times(self, a: Self::Vector, factor: f32) -> Self::Vector {
        let scaled = self.mul(a, self.splat(factor * std::f32::consts::LOG2_E));
        let scaled = self.max(self.splat(-126.0), scaled);
        self.exp2(self.min(self.splat(126.0), scaled))
    }

    /// Returns `exp(a)`; 0 or a large number where f32 would underflow or overflow.
    #[inline(always)]
    fn exp(self, a: Self::Vector) -> Self::Vector {
        self.exp_times(a, 1.0)
    }

    /// Returns `a / (1 + exp(-a))`.
    #[inline(always)]
    fn silu(self, a: Self::Vector) -> Self::Vector {
        let power = self.exp_times(a, -1.0);
        self.mul(a, self.reciprocal(self.add(power, self.splat(1.0))))
    }
}

/// Coefficients of 2^x on [-0.5, 0.5] from the highest power, by interpolation at Chebyshev's nodes.
pub(crate) struct Exp2;

impl Exp2 {
    /// With a relative error of 1e-7, for f32.
    pub(crate) const LONG: [f32; 6] = [
        1.339_086_4e-3,
        9.676_032e-3,
        5.550_357e-2,
        2.402_210_7e-1,
        6.931_472e-1,
        1.0,
    ];
    /// With a relative error of 1e-4, for bfloat16, whose numbers are 4e-3 apart.
    pub(crate) const SHORT: [f32; 4] = [5.583_828e-2, 2.426_394_8e-1, 6.931_367e-1, 9.999_245_6e-1];
}
