use std::ops::Range;

use crate::{aligned::Aligned, kernel::Kernel, layout::Layout};

/// The vectors of one environment, in the places of a [`Layout`]. Each is padded with zeros to whole registers; so are
/// the border's vectors.
#[derive(Debug, Clone)]
pub struct Rows<K: Kernel> {
    layout: Layout,
    width: usize,
    /// Elements from one vector to the next.
    stride: usize,
    elements: Aligned<K::Element>,
}

impl<K: Kernel> Rows<K> {
    /// Returns zeros of `width` numbers a vector.
    pub fn zeros(layout: Layout, width: usize) -> Self {
        let stride = width.next_multiple_of(K::LANES);
        Self {
            layout,
            width,
            stride,
            elements: Aligned::zeros(layout.vectors() * stride),
        }
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The places of the vectors.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Elements from one vector to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// All elements, border and padding included.
    pub(crate) fn elements(&self) -> &[K::Element] {
        &self.elements
    }

    pub(crate) fn elements_mut(&mut self) -> &mut [K::Element] {
        &mut self.elements
    }

    fn range(&self, index: usize) -> Range<usize> {
        index * self.stride..index * self.stride + self.width
    }

    /// Returns the numbers of the vector at an index of the layout.
    pub fn vector(&self, index: usize) -> impl Iterator<Item = f32> {
        let elements = &self.elements()[self.range(index)];
        elements.iter().map(|&element| K::widen(element))
    }

    /// Rounds and writes the vector at an index of the layout.
    pub fn set_vector(&mut self, index: usize, numbers: impl IntoIterator<Item = f32>) {
        let range = self.range(index);
        for (element, number) in self.elements_mut()[range].iter_mut().zip(numbers) {
            *element = K::narrow(number);
        }
    }

    /// Rounds and writes the vectors at some indices of the layout, from their numbers one after another.
    ///
    /// # Panics
    ///
    /// Panics when `numbers` are not those of all these vectors.
    pub fn set_vectors(
        &mut self,
        kernel: K,
        indices: impl Iterator<Item = usize> + Clone,
        numbers: &[f32],
    ) {
        assert_eq!(numbers.len(), indices.clone().count() * self.width);
        for (index, vector) in indices.zip(numbers.chunks_exact(self.width)) {
            let range = self.range(index);
            let elements = &mut self.elements_mut()[range];
            kernel.vectorize(
                #[inline(always)]
                || {
                    for (element, &number) in elements.iter_mut().zip(vector) {
                        *element = K::narrow(number);
                    }
                },
            );
        }
    }

    /// Copies the vector at an index from another environment's, or from a table's row.
    pub fn copy_vector(&mut self, index: usize, from: &Self, from_index: usize) {
        let (to, from_range) = (self.range(index), from.range(from_index));
        self.elements_mut()[to].copy_from_slice(&from.elements()[from_range]);
    }

    /// Copies all vectors of the same layout and width.
    ///
    /// # Panics
    ///
    /// Panics when the sizes differ.
    pub fn copy_from(&mut self, from: &Self) {
        self.elements_mut().copy_from_slice(from.elements());
    }

    /// Becomes the sum of others of the same layout and width.
    ///
    /// # Panics
    ///
    /// Panics when the sizes differ.
    pub fn set_sum<const N: usize>(&mut self, kernel: K, parts: [&Self; N]) {
        let parts = parts.map(Self::elements);
        let sum = self.elements_mut();
        for part in parts {
            assert_eq!(part.len(), sum.len(), "vectors of one size");
        }
        kernel.vectorize(
            #[inline(always)]
            || {
                for at in (0..sum.len()).step_by(K::LANES) {
                    // SAFETY: all lengths are the same multiple of the lanes, as strides are.
                    unsafe {
                        let mut total = kernel.load(parts[0].as_ptr().add(at));
                        for part in &parts[1..] {
                            total = kernel.add(total, kernel.load(part.as_ptr().add(at)));
                        }
                        kernel.store(sum.as_mut_ptr().add(at), total);
                    }
                }
            },
        );
    }
}
