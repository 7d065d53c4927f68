//! AVX-512 with products of pairs of bfloat16.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every block calls an intrinsic of AVX-512, which a value of Avx512Bf16 proves to exist; pointers are the caller's"
)]

use std::arch::x86_64::*;

use crate::{
    Instructions,
    avx512::{exp2, reciprocal, vectors_of_f32},
    kernel::{Exp2, Kernel, sealed::Sealed},
    portable::round_to_bf16,
};

/// AVX-512 with bfloat16 in memory. `vdpbf16ps` adds the products of two pairs to a sum in f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Bf16(());

impl Avx512Bf16 {
    /// Returns the kernel.
    ///
    /// # Panics
    ///
    /// Panics when this processor does not have the instructions.
    pub(crate) fn new() -> Self {
        assert!(Instructions::Avx512Bf16.available());
        Self(())
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512bf16")]
fn call<R>(f: impl FnOnce() -> R) -> R {
    f()
}

impl Sealed for Avx512Bf16 {}

impl Kernel for Avx512Bf16 {
    type Element = u16;
    type Vector = __m512;
    type Factor = __m512i;

    const LANES: usize = 16;
    const STEP: usize = 2;
    // 26 sums, 2 weights and an input in 32 registers.
    const TILE_ROWS: usize = 13;

    vectors_of_f32!();

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        unsafe { call(f) }
    }

    #[inline(always)]
    fn narrow(value: f32) -> u16 {
        (round_to_bf16(value).to_bits() >> 16) as u16
    }

    #[inline(always)]
    fn widen(element: u16) -> f32 {
        f32::from_bits(u32::from(element) << 16)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u16) -> __m512 {
        unsafe {
            let narrow = _mm256_loadu_si256(from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(narrow)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u16, vector: __m512) {
        unsafe {
            // The type of sixteen bfloat16 has no other conversion to bits; both are plain 256 bits.
            let narrow = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(vector));
            _mm256_storeu_si256(to.cast(), narrow);
        }
    }

    #[inline(always)]
    unsafe fn load_factor(self, from: *const u16) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat_factor(self, from: *const u16) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    fn multiply_add(self, sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        unsafe {
            // As in `store`: 512 bits under another name.
            let a = std::mem::transmute::<__m512i, __m512bh>(a);
            let b = std::mem::transmute::<__m512i, __m512bh>(b);
            _mm512_dpbf16_ps(sum, a, b)
        }
    }

    #[inline(always)]
    fn exp2(self, exponent: __m512) -> __m512 {
        unsafe { exp2(exponent, |x| self.polynomial(x, &Exp2::SHORT)) }
    }

    /// With an estimate of the reciprocal that has 14 bits, of which bfloat16 keeps 8. Nothing needs a bound: 2 to a
    /// large power is infinite, and its reciprocal 0.
    #[inline(always)]
    fn silu(self, a: __m512) -> __m512 {
        unsafe {
            let scaled = _mm512_mul_ps(a, _mm512_set1_ps(-std::f32::consts::LOG2_E));
            let power = self.exp2(scaled);
            let estimate = _mm512_rcp14_ps(_mm512_add_ps(power, _mm512_set1_ps(1.0)));
            _mm512_mul_ps(a, estimate)
        }
    }
}
