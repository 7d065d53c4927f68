use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    slice,
};

/// Elements per cache line of 64 bytes are a power of two that divides every vector's lanes.
const LINE: usize = 64;

/// A number in memory, f32 or the bits of a bfloat16.
pub trait Element: Copy + Default + Send + Sync + fmt::Debug + 'static {}

impl Element for f32 {}
impl Element for u16 {}

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; LINE]);

/// A vector of numbers that begins at a cache line, so that no aligned group of lanes crosses one.
pub(crate) struct Aligned<E> {
    lines: Vec<CacheLine>,
    len: usize,
    element: PhantomData<E>,
}

impl<E: Element> Aligned<E> {
    /// Returns `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let lines = (len * size_of::<E>()).div_ceil(LINE);
        Self {
            lines: vec![CacheLine([0; LINE]); lines],
            len,
            element: PhantomData,
        }
    }
}

impl<E: Element> Deref for Aligned<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        // SAFETY: the lines hold at least `len` elements, are aligned for them, and all bytes are initialised. Every
        // bit pattern is a valid f32 or u16, the only elements.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<E: Element> DerefMut for Aligned<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<E: Element> Clone for Aligned<E> {
    fn clone(&self) -> Self {
        Self {
            lines: self.lines.clone(),
            ..*self
        }
    }
}

impl<E: Element> fmt::Debug for Aligned<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
