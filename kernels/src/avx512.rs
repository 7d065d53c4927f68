//! AVX-512 in f32.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every block calls an intrinsic of AVX-512, which a value of Avx512 proves to exist; pointers are the caller's"
)]

use std::arch::x86_64::*;

use crate::{
    Instructions,
    kernel::{Exp2, Kernel, sealed::Sealed},
    portable::round_to_bf16,
};

/// AVX-512. `ROUNDED` rounds to bfloat16 where vectors and weights are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512<const ROUNDED: bool>(());

impl<const ROUNDED: bool> Avx512<ROUNDED> {
    /// Returns the kernel.
    ///
    /// # Panics
    ///
    /// Panics when this processor does not have the instructions.
    pub(crate) fn new() -> Self {
        assert!(Instructions::Avx512.available());
        Self(())
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl")]
fn call<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Returns 2 to the power of each lane, with a polynomial for its fraction.
///
/// # Safety
///
/// The processor has AVX-512, and the caller is translated for it.
#[inline(always)]
pub(crate) unsafe fn exp2(exponent: __m512, polynomial: impl FnOnce(__m512) -> __m512) -> __m512 {
    unsafe {
        let whole =
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(exponent);
        let power = polynomial(_mm512_sub_ps(exponent, whole));
        _mm512_scalef_ps(power, whole)
    }
}

/// Returns `1 / a`, with a relative error of about 1e-7.
///
/// # Safety
///
/// The processor has AVX-512, and the caller is translated for it.
#[inline(always)]
pub(crate) unsafe fn reciprocal(a: __m512) -> __m512 {
    unsafe {
        // One step of Newton doubles the 14 bits.
        let estimate = _mm512_rcp14_ps(a);
        let error = _mm512_fnmadd_ps(a, estimate, _mm512_set1_ps(2.0));
        _mm512_mul_ps(estimate, error)
    }
}

/// The operations on 16 lanes of f32 that both kernels share.
macro_rules! vectors_of_f32 {
    () => {
        #[inline(always)]
        fn splat(self, value: f32) -> __m512 {
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load_f32(self, from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store_f32(self, to: *mut f32, vector: __m512) {
            unsafe { _mm512_storeu_ps(to, vector) }
        }

        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        fn mul(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn max(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }

        #[inline(always)]
        fn min(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_min_ps(a, b) }
        }

        #[inline(always)]
        fn reciprocal(self, a: __m512) -> __m512 {
            unsafe { reciprocal(a) }
        }

        #[inline(always)]
        fn sum(self, a: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(a) }
        }

        #[inline(always)]
        fn largest(self, a: __m512) -> f32 {
            unsafe { _mm512_reduce_max_ps(a) }
        }
    };
}
pub(crate) use vectors_of_f32;

impl<const ROUNDED: bool> Sealed for Avx512<ROUNDED> {}

impl<const ROUNDED: bool> Kernel for Avx512<ROUNDED> {
    type Element = f32;
    type Vector = __m512;
    type Factor = __m512;

    const LANES: usize = 16;
    const STEP: usize = 1;
    // 26 sums, 2 weights and an input in 32 registers.
    const TILE_ROWS: usize = 13;

    vectors_of_f32!();

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
    unsafe fn load(self, from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, vector: __m512) {
        unsafe {
            let stored = if ROUNDED {
                let bits = _mm512_castps_si512(vector);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
                let rounded = _mm512_add_epi32(bits, half);
                let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(vector, vector);
                let either = _mm512_mask_blend_epi32(nan, rounded, quiet);
                let mask = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
                _mm512_castsi512_ps(_mm512_and_si512(either, mask))
            } else {
                vector
            };
            _mm512_storeu_ps(to, stored);
        }
    }

    #[inline(always)]
    unsafe fn load_factor(self, from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn splat_factor(self, from: *const f32) -> __m512 {
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    fn multiply_add(self, sum: __m512, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, sum) }
    }

    #[inline(always)]
    fn exp2(self, exponent: __m512) -> __m512 {
        unsafe {
            exp2(exponent, |x| {
                if ROUNDED {
                    self.polynomial(x, &Exp2::SHORT)
                } else {
                    self.polynomial(x, &Exp2::LONG)
                }
            })
        }
    }
}
