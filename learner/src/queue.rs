//! The bounded queue between the service (async, many streams) and the trainer (one thread).
//!
//! ```text
//!   upload streams --reserve a slot (async semaphore)--> crossbeam channel --> trainer thread
//! ```
//!
//! A stream that holds a decoded unroll waits for a slot before it reads its next message. So a full
//! queue is a stream that is not read, and HTTP/2 flow control stops the actor behind it: what a
//! learner holds is at most `capacity` unrolls and one more for each connected actor.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use hrm_common::{error::Refusal, telemetry::names, trajectory::Unroll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sessions::Session;

/// An admitted unroll on its way to the trainer. Dropping it frees its slot.
#[derive(Debug)]
pub struct Queued {
    /// The unroll, completely checked.
    pub unroll: Unroll,
    /// Who sent it.
    pub session: Arc<Session>,
    _slot: OwnedSemaphorePermit,
}

/// The service's end.
#[derive(Debug, Clone)]
pub struct QueueSender {
    slots: Arc<Semaphore>,
    sender: Sender<Queued>,
}

/// The trainer's end. Dropping it refuses whatever still wants in.
#[derive(Debug)]
pub struct QueueReceiver {
    slots: Arc<Semaphore>,
    receiver: Receiver<Queued>,
}

/// A queue of at most `capacity` unrolls.
pub fn queue(capacity: usize) -> (QueueSender, QueueReceiver) {
    names::LEARNER_QUEUE_CAPACITY.get().set(capacity as f64);
    let slots = Arc::new(Semaphore::new(capacity));
    // The semaphore bounds it: a slot is held from before the send until after the receive.
    let (sender, receiver) = bounded(capacity);
    (
        QueueSender {
            slots: slots.clone(),
            sender,
        },
        QueueReceiver { slots, receiver },
    )
}

impl QueueSender {
    /// Waits for a slot and puts the unroll into it.
    ///
    /// # Errors
    ///
    /// [`Refusal::ShuttingDown`] when the trainer is gone.
    pub async fn send(&self, unroll: Unroll, session: Arc<Session>) -> Result<(), Refusal> {
        let slot = self
            .slots
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Refusal::ShuttingDown)?;
        self.sender
            .try_send(Queued {
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

    /// Unrolls that wait.
    pub fn len(&self) -> usize {
        self.sender.len()
    }

    /// True when no unroll waits.
    pub fn is_empty(&self) -> bool {
        self.sender.is_empty()
    }
}

impl QueueReceiver {
    /// The channel, to wait on together with others.
    pub fn channel(&self) -> &Receiver<Queued> {
        &self.receiver
    }
}

impl Drop for QueueReceiver {
    fn drop(&mut self) {
        self.slots.close();
    }
}
