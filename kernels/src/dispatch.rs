use crate::{Instructions, kernel::Kernel, portable::Portable};
#[cfg(target_arch = "x86_64")]
use crate::{avx2::Avx2, avx512::Avx512, avx512_bf16::Avx512Bf16};

/// The precision of vectors and weights in memory. Sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bfloat16, rounded to the nearest even.
    Bf16,
}

/// Code for any kernel.
pub trait Visitor {
    /// The result of a visit.
    type Output;
    /// Runs with the chosen kernel.
    fn visit<K: Kernel>(self, kernel: K) -> Self::Output;
}

/// Runs `visitor` with the kernel of these instructions at this precision. Instructions that this processor does not
/// have are replaced by [`Instructions::Portable`].
pub fn dispatch<V: Visitor>(
    instructions: Instructions,
    precision: Precision,
    visitor: V,
) -> V::Output {
    match (instructions, precision) {
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx512Bf16, Precision::Bf16) if instructions.available() => {
            visitor.visit(Avx512Bf16::new())
        }
        _ => dispatch_f32(instructions, precision, AnyElement(visitor)),
    }
}

/// A visitor of any kernel, among those whose elements are f32.
struct AnyElement<V>(V);

impl<V: Visitor> VisitorF32 for AnyElement<V> {
    type Output = V::Output;

    fn visit<K: Kernel<Element = f32>>(self, kernel: K) -> V::Output {
        self.0.visit(kernel)
    }
}

/// Code for any kernel whose elements are f32.
pub trait VisitorF32 {
    /// The result of a visit.
    type Output;
    /// Runs with the chosen kernel.
    fn visit<K: Kernel<Element = f32>>(self, kernel: K) -> Self::Output;
}

/// Runs `visitor` as [`dispatch`] does, but with [`Instructions::Avx512`] where [`Instructions::Avx512Bf16`] keeps
/// elements of 16 bits.
pub fn dispatch_f32<V: VisitorF32>(
    instructions: Instructions,
    precision: Precision,
    visitor: V,
) -> V::Output {
    let instructions = match instructions.available() {
        true => instructions,
        false => Instructions::Portable,
    };
    match (instructions, precision) {
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx2, Precision::F32) => visitor.visit(Avx2::<false>::new()),
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx2, Precision::Bf16) => visitor.visit(Avx2::<true>::new()),
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx512 | Instructions::Avx512Bf16, Precision::F32) => {
            visitor.visit(Avx512::<false>::new())
        }
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx512 | Instructions::Avx512Bf16, Precision::Bf16) => {
            visitor.visit(Avx512::<true>::new())
        }
        (_, Precision::F32) => visitor.visit(Portable::<false>),
        (_, Precision::Bf16) => visitor.visit(Portable::<true>),
    }
}
