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
        (Instructions::Avx512, Precision::Bf16) => visitor.visit(Avx512::<true>::new()),
        #[cfg(target_arch = "x86_64")]
        (Instructions::Avx512Bf16, Precision::Bf16) => visitor.visit(Avx512Bf16::new()),
        (_, Precision::F32) => visitor.visit(Portable::<false>),
        (_, Precision::Bf16) => visitor.visit(Portable::<true>),
    }
}
