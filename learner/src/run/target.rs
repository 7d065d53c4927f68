//! The target of a run: the greedy success at which it is complete.

use crate::storage::records::{EvalRecord, Record, WalkBy};

/// `learner.target_success`, and whether an evaluation of the run has reached it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// From 0 to 1; 0 for no target.
    success: f64,
    reached: Option<Reached>,
}

/// The first evaluation that reached the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reached {
    /// Frames of the run.
    pub(crate) frames: u64,
    /// Greedy success, from 0 to 1.
    pub(crate) success: f64,
}

impl Target {
    /// Creates the target of a run whose log holds `records`.
    pub(crate) fn new(success: f64, records: &[Record]) -> Self {
        let mut this = Self {
            success,
            reached: None,
        };
        for record in records {
            if let Record::Eval(record) = record {
                this.observe(record);
            }
        }
        this
    }

    /// Compares an evaluation with the target.
    pub(crate) fn observe(&mut self, record: &EvalRecord) {
        let evaluation = &record.evaluation;
        let reaches = self.success > 0.0
            && evaluation.policy == WalkBy::Greedy
            && evaluation.success >= self.success;
        if reaches
            && self
                .reached
                .is_none_or(|first| record.frames < first.frames)
        {
            self.reached = Some(Reached {
                frames: record.frames,
                success: evaluation.success,
            });
        }
    }

    /// Returns the first evaluation that reached the target.
    pub(crate) fn reached(&self) -> Option<Reached> {
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::fixture;

    #[test]
    fn the_first_evaluation_with_the_success_reaches_it() {
        let records = [
            fixture::eval(100, 0.98),
            fixture::train(200, 500, 1.0),
            fixture::eval(400, 1.0),
            fixture::eval(300, 0.99),
        ];
        let reached = |success, records| {
            let first = Target::new(success, records).reached();
            first.map(|first| (first.frames, first.success))
        };
        assert_eq!(reached(0.99, &records), Some((300, 0.99)));
        assert_eq!(reached(0.995, &records), Some((400, 1.0)));
        assert_eq!(reached(0.99, &records[..2]), None);
        assert_eq!(reached(0.0, &records), None);
    }
}
