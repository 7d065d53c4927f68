//! The frame accounting of a session: each frame is counted where its fate is decided.
//!
//! ```text
//!   received = rejected + admitted        admitted = trained + dropped, by reason + in progress
//! ```
//!
//! No number is derived from the others, so a lost unroll is visible.

use std::sync::atomic::{AtomicU64, Ordering};

use hrm_common::{
    telemetry::names::{self, DropReason, Labelled as _},
    trajectory::Unroll,
};

use crate::storage::ledger_file::Entry;

/// The frames of one session.
#[derive(Debug, Default)]
pub struct Ledger {
    received: AtomicU64,
    refused: AtomicU64,
    admitted: AtomicU64,
    trained: AtomicU64,
    dropped: [AtomicU64; DropReason::COUNT],
}

impl Ledger {
    /// Counts the frames of an unroll that arrived.
    pub(crate) fn receive(&self, frames: u64) {
        add(&self.received, frames);
    }

    /// Counts the frames of a rejected unroll.
    pub(crate) fn refuse(&self, frames: u64) {
        add(&self.refused, frames);
    }

    /// Counts the frames of an unroll that entered the queue.
    pub(crate) fn admit(&self, frames: u64) {
        names::LEARNER_UNROLLS_ADMITTED.get().increment(1);
        names::LEARNER_FRAMES_ADMITTED.get().increment(frames);
        add(&self.admitted, frames);
    }

    /// Counts frames that were trained on.
    pub fn train(&self, frames: u64) {
        names::LEARNER_FRAMES_TRAINED.get().increment(frames);
        add(&self.trained, frames);
    }

    /// Counts the frames of a valid unroll that was not trained on.
    pub fn drop(&self, reason: DropReason, unroll: &Unroll) {
        self.drop_frames(reason, unroll.shape.frames() as u64);
    }

    /// Counts the frames of one dropped unroll, as [`Ledger::drop`] does.
    pub(crate) fn drop_frames(&self, reason: DropReason, frames: u64) {
        names::LEARNER_UNROLLS_DROPPED.with(reason).increment(1);
        names::LEARNER_FRAMES_DROPPED.with(reason).increment(frames);
        add(&self.dropped[reason as usize], frames);
    }

    /// Returns true when the fate of all admitted frames is decided.
    pub(crate) fn is_settled(&self) -> bool {
        let dropped: u64 = self.dropped.iter().map(get).sum();
        get(&self.admitted) == get(&self.trained) + dropped
    }

    /// Returns the session's line for `ledger.jsonl`.
    pub fn entry(&self, session: u64, actor: &str) -> Entry {
        let dropped = DropReason::known().into_iter().map(|reason| {
            let frames = get(&self.dropped[reason as usize]);
            (reason.as_str().to_owned(), frames)
        });
        Entry::Session {
            session: format!("{session:016x}"),
            actor: actor.to_owned(),
            received: get(&self.received),
            refused: get(&self.refused),
            admitted: get(&self.admitted),
            trained: get(&self.trained),
            dropped: dropped.collect(),
        }
    }
}

fn add(count: &AtomicU64, frames: u64) {
    count.fetch_add(frames, Ordering::AcqRel);
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_settled_when_all_its_frames_are_accounted_for() {
        let ledger = Ledger::default();
        assert!(ledger.is_settled());
        ledger.receive(96);
        ledger.refuse(32);
        ledger.admit(32);
        ledger.admit(32);
        ledger.train(32);
        assert!(!ledger.is_settled());
        ledger.drop_frames(DropReason::Stale, 32);
        assert!(ledger.is_settled());
        let Entry::Session {
            received,
            refused,
            admitted,
            trained,
            dropped,
            ..
        } = ledger.entry(1, "a")
        else {
            panic!("a session's");
        };
        assert_eq!([received, refused, admitted, trained], [96, 32, 64, 32]);
        assert_eq!(dropped["stale"], 32);
        assert_eq!(dropped.values().sum::<u64>(), 32);
        assert_eq!(dropped.len(), DropReason::COUNT);
    }
}
