//! Collects admitted unrolls from the queue into batches. Drops fenced and stale unrolls.

use std::{sync::Arc, time::Duration};

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError, select};
use hrm_common::{
    config::{BatchRange, Config},
    stage::{LearnerStage, StageClock},
    telemetry::names::{self, DropReason},
    trajectory::Unroll,
};
use tch::Device;

use crate::{
    admission::{
        queue::{QueueReceiver, QueuedUnroll},
        sessions::{Session, Sessions},
    },
    training::batch::Batch,
};

/// Takes admitted unrolls from the queue until a batch is full.
#[derive(Debug)]
pub struct Batcher {
    queue: QueueReceiver,
    /// Disconnects when the run must stop.
    stop: Receiver<()>,
    sessions: Arc<Sessions>,
    limits: BatchLimits,
    device: Device,
    pending: Vec<(Unroll, Arc<Session>)>,
    /// True once the log says that there are too many rollout threads.
    warned: bool,
}

/// Size of a full batch, and conditions for its unrolls.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Unrolls of a full batch.
    pub unrolls: BatchRange,
    /// Largest policy lag of an unroll, in batches.
    pub max_policy_lag: u64,
    /// True when each rollout thread waits for weights made from its last unroll. A batch then needs no more unrolls
    /// than threads at work. Otherwise the remaining ones would wait forever after one dies.
    pub synchronous: bool,
}

impl BatchLimits {
    /// Returns the limits of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            unrolls: config.learner.batch_range(),
            max_policy_lag: config.learner.max_policy_lag_batches,
            synchronous: config.rollout.synchronous,
        }
    }
}

/// The result of waiting for a batch.
#[derive(Debug)]
pub enum Next {
    /// A full batch, and the session of each of its unrolls.
    Batch(Box<Batch>, Vec<Arc<Session>>),
    /// No batch yet; the caller may do other work.
    Idle,
    /// The run must stop.
    Stop,
}

impl Batcher {
    /// Creates a source of batches from the unrolls in `queue`.
    pub fn new(
        queue: QueueReceiver,
        stop: Receiver<()>,
        sessions: Arc<Sessions>,
        limits: BatchLimits,
        device: Device,
    ) -> Self {
        names::LEARNER_MAX_POLICY_LAG
            .get()
            .set(limits.max_policy_lag as f64);
        Self {
            queue,
            stop,
            sessions,
            limits,
            device,
            pending: Vec::new(),
            warned: false,
        }
    }

    /// Waits for the next batch. Returns after `patience` in which no unroll came and no session ended.
    pub fn next(
        &mut self,
        newest_version: u64,
        patience: Duration,
        clock: &mut StageClock<LearnerStage>,
    ) -> Next {
        loop {
            match self.poll(newest_version, clock) {
                Next::Idle => {}
                other => return other,
            }
            let received = select! {
                recv(self.queue.channel()) -> queued => match queued {
                    Ok(queued) => Ok(Some(queued)),
                    Err(_) => Err(RecvTimeoutError::Disconnected),
                },
                recv(self.sessions.left()) -> _ => Ok(None),
                recv(self.stop) -> _ => Err(RecvTimeoutError::Disconnected),
                default(patience) => Err(RecvTimeoutError::Timeout),
            };
            match received {
                Ok(Some(queued)) => self.take(queued, newest_version),
                // The batch may be complete without the session that has left.
                Ok(None) => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.stall();
                    return Next::Idle;
                }
                Err(RecvTimeoutError::Disconnected) => return Next::Stop,
            }
        }
    }

    /// Takes unrolls from the queue without waiting, until they complete a batch.
    pub(crate) fn poll(
        &mut self,
        newest_version: u64,
        clock: &mut StageClock<LearnerStage>,
    ) -> Next {
        // Pending unrolls may have become stale since the weights changed.
        let waited = std::mem::take(&mut self.pending);
        self.pending = waited
            .into_iter()
            .filter(|(unroll, session)| self.is_wanted(unroll, session, newest_version))
            .collect();
        // Looked at before the queue, which actors of a busy trainer never leave empty.
        if self.stop.try_recv() == Err(TryRecvError::Disconnected) {
            return Next::Stop;
        }
        loop {
            let rollouts = self.sessions.rollouts_at_work();
            let full = self.limits.unrolls.for_rollouts(rollouts);
            names::LEARNER_BATCH_UNROLLS.get().set(full as f64);
            self.warn_of_surplus(full, rollouts);
            if self.is_complete(full, rollouts) {
                clock.enter(LearnerStage::Batch);
                return self.complete(newest_version);
            }
            clock.enter(LearnerStage::Wait);
            match self.queue.channel().try_recv() {
                Ok(queued) => self.take(queued, newest_version),
                Err(TryRecvError::Empty) => {
                    self.sessions.starve(full, false);
                    return Next::Idle;
                }
                Err(TryRecvError::Disconnected) => return Next::Stop,
            }
        }
    }

    /// Records that no unroll has come for long: actors that were permitted to play may hang.
    pub(crate) fn stall(&mut self) {
        let rollouts = self.sessions.rollouts_at_work();
        let full = self.limits.unrolls.for_rollouts(rollouts);
        self.sessions.starve(full, true);
    }

    /// Adds an unroll from the queue to the pending ones, or drops it.
    fn take(&mut self, queued: QueuedUnroll, newest_version: u64) {
        let QueuedUnroll {
            unroll, session, ..
        } = queued;
        names::LEARNER_QUEUE_UNROLLS
            .get()
            .set(self.queue.channel().len() as f64);
        self.sessions.take(&session);
        if self.is_wanted(&unroll, &session, newest_version) {
            self.pending.push((unroll, session));
        }
    }

    /// Warns once if a synchronous run has more rollout threads than a batch has unrolls: their unrolls wait for later
    /// batches and grow old.
    fn warn_of_surplus(&mut self, full: usize, rollouts: usize) {
        if self.limits.synchronous && rollouts > full && !self.warned {
            self.warned = true;
            tracing::warn!(
                rollouts,
                full,
                "more rollout threads than unrolls per batch: in a synchronous run, set actor.threads and the number of \
                 actors to match learner.batch_unrolls, or set rollout.synchronous to false"
            );
        }
    }

    /// Makes a batch of the pending unrolls.
    fn complete(&mut self, newest_version: u64) -> Next {
        self.sessions
            .settle(self.pending.len(), self.queue.channel().len());
        let (unrolls, sessions): (Vec<Unroll>, Vec<_>) = self.pending.drain(..).unzip();
        names::LEARNER_UNROLLS_BATCHED
            .get()
            .increment(unrolls.len() as u64);
        let frames: usize = unrolls.iter().map(|u| u.shape.frames()).sum();
        names::LEARNER_FRAMES_BATCHED.get().increment(frames as u64);
        let batch = Batch::stack(&unrolls, newest_version, self.device);
        Next::Batch(Box::new(batch), sessions)
    }

    /// Takes and drops unrolls for a time. Returns the number of their frames, or `None` when the run must stop.
    pub(crate) fn discard(
        &mut self,
        time: Duration,
        clock: &mut StageClock<LearnerStage>,
    ) -> Option<u64> {
        clock.enter(LearnerStage::Wait);
        let end = crossbeam::channel::after(time);
        let mut frames = 0;
        loop {
            let QueuedUnroll {
                unroll, session, ..
            } = select! {
                recv(self.queue.channel()) -> queued => queued.ok()?,
                recv(self.stop) -> _ => return None,
                recv(end) -> _ => return Some(frames),
            };
            self.sessions.take(&session);
            session.ledger.drop(DropReason::Untrained, &unroll);
            frames += unroll.shape.frames() as u64;
        }
    }

    /// Stops taking unrolls. Drops and counts the pending and the queued ones.
    pub fn close(&mut self) {
        let queued = self.queue.close().into_iter();
        let queued = queued.map(|queued| (queued.unroll, queued.session));
        for (unroll, session) in self.pending.drain(..).chain(queued) {
            session.ledger.drop(DropReason::Stopped, &unroll);
        }
    }

    /// True when `full` unrolls are pending, or in a synchronous run one of each of the `rollouts` at work.
    fn is_complete(&self, full: usize, rollouts: usize) -> bool {
        let pending = self.pending.len();
        pending >= full || (self.limits.synchronous && pending > 0 && pending >= rollouts)
    }

    /// Returns false, and counts a drop, for an unroll of a fenced session or with too large a policy lag.
    fn is_wanted(&self, unroll: &Unroll, session: &Session, newest_version: u64) -> bool {
        let lag = newest_version.saturating_sub(unroll.oldest_version());
        let reason = if session.is_fenced() {
            DropReason::Fenced
        } else if lag > self.limits.max_policy_lag {
            DropReason::Stale
        } else {
            return true;
        };
        session.ledger.drop(reason, unroll);
        false
    }
}
