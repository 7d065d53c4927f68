//! AVX2 and FMA.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every block calls an intrinsic of AVX2 or FMA, which a value of Avx2 proves to exist; pointers are the caller's"
)]

use std::arch::x86_64::*;

use crate::{
    Instructions,
    kernel::{Exp2, Kernel, sealed::Sealed},
    portable::round_to_bf16,
};

/// AVX2 and FMA. `ROUNDED` rounds to bfloat16 where vectors and weights are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2<const ROUNDED: bool>(());

impl<const ROUNDED: bool> Avx2<ROUNDED> {
    /// Returns the kernel.
    ///
    /// # Panics
    ///
    /// Panics when this processor does not have the instructions.
    pub(crate) fn new() -> Self {
        assert!(Instructions::Avx2.available());
        Self(())
    }
}

#[target_feature(enable = "avx2,fma")]
fn call<R>(f: impl FnOnce() -> R) -> R {
    f()
}

impl<const ROUNDED: bool> Sealed for Avx2<ROUNDED> {}

impl<const ROUNDED: bool> Kernel for Avx2<ROUNDED> {
    type Element = f32;
    type Vector = __m256;
    type Factor = __m256;

    const LANES: usize = 8;
    const STEP: usize = 1;
    // 12 sums, 2 weights and an input in 16 registers.
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        unsafe { call(f) }
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
    fn splat(self, value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load_f32(self, from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, vector: __m256) {
        unsafe { _mm256_storeu_ps(to, vector) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, vector: __m256) {
        unsafe {
            let stored = if ROUNDED {
                let bits = _mm256_castps_si256(vector);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
                let rounded = _mm256_add_epi32(bits, half);
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
                let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(vector, vector));
                let either = _mm256_blendv_epi8(rounded, quiet, nan);
                let mask = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
                _mm256_castsi256_ps(_mm256_and_si256(either, mask))
            } else {
                vector
            };
            _mm256_storeu_ps(to, stored);
        }
    }

    #[inline(always)]
    unsafe fn load_factor(self, from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn splat_factor(self, from: *const f32) -> __m256 {
        unsafe { _mm256_set1_ps(*from) }
    }

    #[inline(always)]
    fn multiply_add(self, sum: __m256, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, sum) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn exp2(self, exponent: __m256) -> __m256 {
        unsafe {
            let whole =
                _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(exponent);
            let fraction = _mm256_sub_ps(exponent, whole);
            let power = if ROUNDED {
                self.polynomial(fraction, &Exp2::SHORT)
            } else {
                self.polynomial(fraction, &Exp2::LONG)
            };
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
            _mm256_mul_ps(power, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }

    #[inline(always)]
    fn reciprocal(self, a: __m256) -> __m256 {
        unsafe { _mm256_div_ps(_mm256_set1_ps(1.0), a) }
    }

    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn largest(self, a: __m256) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
