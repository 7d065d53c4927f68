//! The rows of a batch that run each segment. The others, whose decisions have ended, cost no time.

use std::ops::Range;

use tch::{Device, Tensor};

/// Batches of decisions with different numbers of segments, and the rows of each that run each segment.
///
/// All indices are on the device in one tensor, because every transfer from the host makes it wait.
#[derive(Debug)]
pub struct ActiveRows {
    /// i64: the rows of every segment of every batch, one after the other.
    index: Tensor,
    /// `[batches, segments]`: the range of each segment in the index; `None` where all rows run it.
    ranges: Vec<Option<Range<i64>>>,
    segments: usize,
}

/// The rows that run a segment.
#[derive(Debug)]
pub(super) enum Active {
    /// All of them.
    All,
    /// These, i64 `[n]`, at least one.
    Some(Tensor),
    /// None of them.
    Nobody,
}

/// One batch of [`ActiveRows`].
#[derive(Debug, Clone, Copy)]
pub struct ActiveBatch<'a> {
    rows: &'a ActiveRows,
    batch: usize,
}

impl ActiveRows {
    /// Returns the rows of batches of decisions with so many segments, at most `segments`.
    pub fn new<'a>(
        batches: impl IntoIterator<Item = &'a [u8]>,
        segments: usize,
        device: Device,
    ) -> Self {
        let (mut index, mut ranges) = (Vec::new(), Vec::new());
        for batch in batches {
            for segment in 0..segments {
                let first = index.len() as i64;
                let runs =
                    |(row, &number): (i64, &u8)| (usize::from(number) > segment).then_some(row);
                let rows: Vec<i64> = (0..).zip(batch).filter_map(runs).collect();
                let all = rows.len() == batch.len();
                if !all {
                    index.extend(rows);
                }
                ranges.push((!all).then_some(first..index.len() as i64));
            }
        }
        Self {
            index: Tensor::from_slice(&index).to_device(device),
            ranges,
            segments,
        }
    }

    /// Returns the rows of one batch, in the order in which they were given.
    pub fn batch(&self, batch: usize) -> ActiveBatch<'_> {
        ActiveBatch { rows: self, batch }
    }

    /// Returns the same tensor for another thread, without a copy.
    pub(crate) fn share(&self) -> Self {
        Self {
            index: self.index.shallow_clone(),
            ranges: self.ranges.clone(),
            segments: self.segments,
        }
    }
}

impl ActiveBatch<'_> {
    /// Returns the rows that run a segment.
    pub(super) fn of_segment(self, segment: usize) -> Active {
        let ActiveRows {
            index,
            ranges,
            segments,
        } = self.rows;
        match &ranges[self.batch * segments + segment] {
            None => Active::All,
            Some(range) if range.is_empty() => Active::Nobody,
            Some(range) => Active::Some(index.narrow(0, range.start, range.end - range.start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_runs_as_many_segments_as_its_decision_has() {
        let batches: [&[u8]; 2] = [&[1, 3, 2], &[2, 2]];
        let rows = ActiveRows::new(batches, 4, Device::Cpu);
        let found = |batch: usize, segment| match rows.batch(batch).of_segment(segment) {
            Active::All => None,
            Active::Some(index) => Some(Vec::<i64>::try_from(index).expect("whole numbers")),
            Active::Nobody => Some(vec![]),
        };
        let of_batch = |batch| [0, 1, 2, 3].map(|segment| found(batch, segment));
        let expected = [None, Some(vec![1, 2]), Some(vec![1]), Some(vec![])];
        assert_eq!(of_batch(0), expected);
        assert_eq!(of_batch(1), [None, None, Some(vec![]), Some(vec![])]);
    }
}
