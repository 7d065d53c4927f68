//! The bounded queue between the service (async, many streams) and the trainer (one thread).
//!
//! ```text
//!   upload streams --reserve a slot (async semaphore)--> crossbeam channel --> trainer thread
//! ```
//!
//! A stream that holds a decoded unroll waits for a slot before it reads its next message. A full queue therefore stops
//! the reading of all streams, and HTTP/2 flow control stops their actors. The learner holds at most `capacity`
//! unrolls, and one more per connected actor.

use std::{sync::Arc, time::Duration};

use crossbeam::channel::{Receiver, Sender, bounded};
use hrm_common::{refusal::Refusal, telemetry::names, trajectory::Unroll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::sessions::Session;

/// Longest time between taking a slot and filling it. A sender waits for nothing in between.
const HALF_SENT: Duration = Duration::from_secs(1);

/// An admitted unroll in the queue. Dropping it frees its slot.
#[derive(Debug)]
pub struct QueuedUnroll {
    /// The checked unroll.
    pub unroll: Unroll,
    /// The session that sent it.
    pub session: Arc<Session>,
    _slot: OwnedSemaphorePermit,
}

/// The service's end of the queue.
#[derive(Debug, Clone)]
pub struct QueueSender {
    slots: Arc<Semaphore>,
    sender: Sender<QueuedUnroll>,
}

/// The trainer's end of the queue. Dropping it rejects all later sends.
#[derive(Debug)]
pub struct QueueReceiver {
    capacity: usize,
    slots: Arc<Semaphore>,
    receiver: Receiver<QueuedUnroll>,
}

/// Creates a queue of at most `capacity` unrolls.
pub fn queue(capacity: usize) -> (QueueSender, QueueReceiver) {
    names::LEARNER_QUEUE_CAPACITY.get().set(capacity as f64);
    let slots = Arc::new(Semaphore::new(capacity));
    // The semaphore bounds the channel: a slot is held from before the send until after the receive.
    let (sender, receiver) = bounded(capacity);
    (
        QueueSender {
            slots: slots.clone(),
            sender,
        },
        QueueReceiver {
            capacity,
            slots,
            receiver,
        },
    )
}

impl QueueSender {
    /// Waits for a slot and puts an unroll into it.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::ShuttingDown`] when the trainer has ended.
    pub async fn send(&self, unroll: Unroll, session: Arc<Session>) -> Result<(), Refusal> {
        let slot = self
            .slots
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Refusal::ShuttingDown)?;
        self.put(unroll, session, slot)
    }

    fn put(
        &self,
        unroll: Unroll,
        session: Arc<Session>,
        slot: OwnedSemaphorePermit,
    ) -> Result<(), Refusal> {
        self.sender
            .try_send(QueuedUnroll {
                unroll,
                session,
                _slot: slot,
            })
            .map_err(|_| Refusal::ShuttingDown)?;
        names::LEARNER_QUEUE_UNROLLS
            .get()
            .set(self.sender.len() as f64);
        Ok(())
    }

    /// Puts an unroll into a free slot.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::ShuttingDown`] when no slot is free or the trainer has ended.
    pub(crate) fn send_now(&self, unroll: Unroll, session: Arc<Session>) -> Result<(), Refusal> {
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| Refusal::ShuttingDown)?;
        self.put(unroll, session, slot)
    }

    /// Returns the number of waiting unrolls.
    pub fn len(&self) -> usize {
        self.sender.len()
    }

    /// Returns true when no unroll waits.
    pub fn is_empty(&self) -> bool {
        self.sender.is_empty()
    }
}

impl QueueReceiver {
    /// Returns the channel, for a select over several channels.
    pub fn channel(&self) -> &Receiver<QueuedUnroll> {
        &self.receiver
    }

    /// Rejects all later sends, and takes out all queued unrolls.
    pub fn close(&self) -> Vec<QueuedUnroll> {
        self.slots.close();
        let mut left = Vec::new();
        // A sender that holds a slot but has not sent is between the two steps of `send`.
        while self.slots.available_permits() + left.len() < self.capacity {
            match self.receiver.recv_timeout(HALF_SENT) {
                Ok(queued) => left.push(queued),
                Err(_) => break,
            }
        }
        left
    }
}

impl Drop for QueueReceiver {
    fn drop(&mut self) {
        self.slots.close();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use bytes::Bytes;
    use hrm_common::{model::Dtype, trajectory::UnrollShape};

    use super::*;
    use crate::admission::sessions::{Peer, Sessions};

    fn unroll(sequence: u64) -> Unroll {
        Unroll {
            session: 1,
            thread: 0,
            model_fingerprint: 2,
            sequence,
            shape: UnrollShape {
                ticks: 0,
                envs: 0,
                tokens: 0,
                carry: 0,
            },
            tokens: Bytes::new(),
            segments: Bytes::new(),
            halt_log_probs: Bytes::new(),
            actions: Bytes::new(),
            rewards: Bytes::new(),
            flags: Bytes::new(),
            behaviour_logits: Bytes::new(),
            carry_dtype: Dtype::F32,
            carry: Bytes::new(),
            policy_versions: Vec::new(),
            final_tokens: Bytes::new(),
            episodes: Vec::new(),
            running_distances: Vec::new(),
        }
    }

    fn session() -> Arc<Session> {
        let sessions = Sessions::new(1, 0, 1);
        sessions.join(1, Peer::default()).expect("room").0
    }

    /// Polls a future once.
    async fn look<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        let mut future = Some(future);
        std::future::poll_fn(|context| {
            Poll::Ready(future.take().map(|future| future.poll(context)))
        })
        .await
        .expect("looked at once")
    }

    #[tokio::test]
    async fn a_slot_is_free_once_its_unroll_is_dropped() {
        let (sender, receiver) = queue(2);
        assert!(sender.is_empty());
        for sequence in 0..2 {
            let sent = sender.send(unroll(sequence), session()).await;
            assert_eq!(sent, Ok(()));
        }
        let mut third = pin!(sender.send(unroll(2), session()));
        assert!(look(third.as_mut()).await.is_pending());
        assert_eq!(sender.len(), 2);

        let first = receiver.channel().recv().expect("two wait");
        assert_eq!(first.unroll.sequence, 0, "in order");
        assert!(look(third.as_mut()).await.is_pending(), "still held");
        drop(first);
        assert_eq!(third.await, Ok(()));
        let rest = [1, 2].map(|_| receiver.channel().recv().map(|q| q.unroll.sequence));
        assert_eq!(rest, [Ok(1), Ok(2)]);
        assert!(sender.is_empty());
    }

    #[tokio::test]
    async fn a_queue_without_a_trainer_rejects_waiting_and_later_unrolls() {
        let (sender, receiver) = queue(1);
        assert_eq!(sender.send(unroll(0), session()).await, Ok(()));
        let mut waiting = pin!(sender.send(unroll(1), session()));
        assert!(look(waiting.as_mut()).await.is_pending());
        drop(receiver);
        assert_eq!(waiting.await, Err(Refusal::ShuttingDown));
        let late = sender.send(unroll(2), session()).await;
        assert_eq!(late, Err(Refusal::ShuttingDown));
    }
}
