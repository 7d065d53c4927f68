//! Takes admitted unrolls from the queue until a batch is full. Fenced and stale ones are dropped.

use std::{sync::Arc, time::Duration};

use crossbeam::channel::{Receiver, RecvTimeoutError, select};
use hrm_common::{
    config::Config,
    stage::{LearnerStage, StageClock},
    telemetry::names::{self, DropReason},
    trajectory::Unroll,
};
use tch::Device;

use crate::{
    admission::{
        queue::{QueueReceiver, Queued},
        sessions::{Session, Sessions},
    },
    training::batch::Batch,
};

/// Takes admitted unrolls from the queue until a batch is full.
#[derive(Debug)]
pub struct Batcher {
    queue: QueueReceiver,
    /// Disconnects when the run is to stop.
    stop: Receiver<()>,
    sessions: Arc<Sessions>,
    limits: BatchLimits,
    device: Device,
    pending: Vec<(Unroll, Arc<Session>)>,
}

/// When a batch is full, and what may be in it.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Unrolls of a full batch.
    pub unrolls: usize,
    /// Versions that an unroll may be behind.
    pub max_policy_lag: u64,
    /// Every actor waits for the weights made from its last unroll: a batch then needs no more unrolls
    /// than there are actors at work, or those that are left after a death would wait for ever.
    pub synchronous: bool,
}

impl BatchLimits {
    /// The limits of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            unrolls: config.learner.batch_unrolls,
            max_policy_lag: config.learner.max_policy_lag,
            synchronous: config.rollout.synchronous,
        }
    }
}

/// The result of waiting for a batch.
#[derive(Debug)]
pub enum Next {
    /// A full batch, and whose unrolls are in it, one of each.
    Batch(Box<Batch>, Vec<Arc<Session>>),
    /// Nothing yet; a good moment to look at other things.
    Idle,
    /// The run is to stop.
    Stop,
}

impl Batcher {
    /// Batches of what `queue` yields.
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
        names::LEARNER_BATCH_UNROLLS
            .get()
            .set(limits.unrolls as f64);
        Self {
            queue,
            stop,
            sessions,
            limits,
            device,
            pending: Vec::new(),
        }
    }

    /// Waits for the next batch, at most `patience` without any unroll.
    pub fn next(
        &mut self,
        newest_version: u64,
        patience: Duration,
        clock: &mut StageClock<LearnerStage>,
    ) -> Next {
        // What waited here while the weights moved on may have become stale.
        let waited = std::mem::take(&mut self.pending);
        self.pending = waited
            .into_iter()
            .filter(|(unroll, session)| self.is_wanted(unroll, session, newest_version))
            .collect();
        while !self.is_full() {
            clock.enter(LearnerStage::Wait);
            let received = select! {
                recv(self.queue.channel()) -> queued => queued.map_err(|_| RecvTimeoutError::Disconnected),
                recv(self.stop) -> _ => Err(RecvTimeoutError::Disconnected),
                default(patience) => Err(RecvTimeoutError::Timeout),
            };
            let Queued {
                unroll, session, ..
            } = match received {
                Ok(queued) => queued,
                Err(RecvTimeoutError::Timeout) => return Next::Idle,
                Err(RecvTimeoutError::Disconnected) => return Next::Stop,
            };
            names::LEARNER_QUEUE_UNROLLS
                .get()
                .set(self.queue.channel().len() as f64);
            session.take();
            if self.is_wanted(&unroll, &session, newest_version) {
                self.pending.push((unroll, session));
            }
        }
        clock.enter(LearnerStage::Batch);
        let (unrolls, sessions): (Vec<Unroll>, Vec<_>) = self.pending.drain(..).unzip();
        names::LEARNER_UNROLLS_BATCHED
            .get()
            .increment(unrolls.len() as u64);
        let frames: usize = unrolls.iter().map(|u| u.shape.frames()).sum();
        names::LEARNER_FRAMES_BATCHED.get().increment(frames as u64);
        let batch = Batch::stack(&unrolls, newest_version, self.device);
        Next::Batch(Box::new(batch), sessions)
    }

    /// Takes no more: what waits here and in the queue is dropped, and counted.
    pub fn close(&mut self) {
        let queued = self.queue.close().into_iter();
        let queued = queued.map(|queued| (queued.unroll, queued.session));
        for (unroll, session) in self.pending.drain(..).chain(queued) {
            session.ledger.drop(DropReason::Stopped, &unroll);
        }
    }

    fn is_full(&self) -> bool {
        let waiting = self.pending.len();
        waiting >= self.limits.unrolls
            || (self.limits.synchronous && waiting > 0 && waiting >= self.sessions.at_work())
    }

    /// False, and counted, for an unroll of a fenced session or of weights that are too old.
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
