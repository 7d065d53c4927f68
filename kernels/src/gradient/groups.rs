//! Rows in groups, for products that sum over rows.

use crate::{aligned::Aligned, kernel::Kernel};

/// Rows in groups of [`Kernel::STEP`]. The numbers of a group's rows alternate, so that one
/// [`Kernel::multiply_add`] sums over the group.
#[derive(Debug, Clone)]
pub(super) struct Groups<K: Kernel> {
    /// Numbers of a row.
    stride: usize,
    elements: Aligned<K::Element>,
    /// A row of zeros.
    zeros: Aligned<K::Element>,
}

impl<K: Kernel> Groups<K> {
    /// Returns zeros.
    pub(super) fn zeros(groups: usize, stride: usize) -> Self {
        Self {
            stride,
            elements: Aligned::zeros(groups * stride * K::STEP),
            zeros: Aligned::zeros(stride),
        }
    }

    /// Sets the groups to all rows of `from`, one after another.
    pub(super) fn set_rows(&mut self, kernel: K, from: &[K::Element]) {
        let group = self.stride * K::STEP;
        let starts = (0..self.elements.len() / group).map(|index| index * group);
        self.set(kernel, from, starts);
    }

    /// Sets each group to the rows of `from` from the group's start on. Rows beyond the end of `from` are zero.
    pub(super) fn set(
        &mut self,
        kernel: K,
        from: &[K::Element],
        starts: impl ExactSizeIterator<Item = usize>,
    ) {
        const { assert!(K::STEP <= 2) };
        let stride = self.stride;
        let groups = self.elements.chunks_exact_mut(stride * K::STEP);
        assert_eq!(groups.len(), starts.len(), "a start for each group");
        for (group, start) in groups.zip(starts) {
            let row = |start: usize| from.get(start..start + stride).unwrap_or(&self.zeros);
            let (first, second) = (row(start), row(start + stride));
            kernel.vectorize(
                #[inline(always)]
                || {
                    let numbers = first.iter().zip(second);
                    for (to, (&first, &second)) in group.chunks_exact_mut(K::STEP).zip(numbers) {
                        to[0] = first;
                        if K::STEP == 2 {
                            to[1] = second;
                        }
                    }
                },
            );
        }
    }

    /// Returns the groups of these indices.
    pub(super) fn at<'a>(&'a self, indices: &'a [usize]) -> Side<'a, K> {
        Side {
            groups: self,
            indices,
            shift: 0,
        }
    }
}

/// One side of a sum of products: a sequence of groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a, K: Kernel> {
    groups: &'a Groups<K>,
    indices: &'a [usize],
    /// Is added to each index.
    shift: usize,
}

impl<K: Kernel> Side<'_, K> {
    /// Returns the groups that are `shift` further.
    pub(super) fn shifted(self, shift: usize) -> Self {
        Self { shift, ..self }
    }

    /// The number of groups.
    pub(super) fn len(&self) -> usize {
        self.indices.len()
    }

    /// True when `width` numbers of each group are in memory.
    pub(super) fn holds(&self, width: usize) -> bool {
        let last = self.indices.iter().max().copied().unwrap_or(0) + self.shift;
        let groups = self.groups.elements.len() / (self.groups.stride * K::STEP);
        last < groups && width <= self.groups.stride
    }

    /// Returns where the number `at` of each group begins.
    pub(super) fn pointers(&self, at: usize) -> impl Iterator<Item = *const K::Element> {
        let (stride, shift) = (self.groups.stride, self.shift);
        let elements = self.groups.elements.as_ptr();
        let start = move |index: usize| ((index + shift) * stride + at) * K::STEP;
        let starts = self.indices.iter().map(move |&index| start(index));
        starts.map(move |start| elements.wrapping_add(start))
    }
}
