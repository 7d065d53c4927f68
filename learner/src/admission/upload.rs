//! One upload: checks, queues and acknowledges unrolls, one after the other.
//!
//! ```text
//!   messages --decode, check--> queue (waits while it is full and reads nothing)
//!   acks <-- the session's count of unrolls that its actor may have begun
//! ```

use std::{pin::pin, sync::Arc, time::Duration};

use hrm_common::{
    config::Config,
    refusal::Refusal,
    telemetry::names::{self, Field},
    weights::Weights,
    wire::{self, Expectation},
};
use hrm_proto::v1::{UnrollBatch, UploadAck};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::{Status, Streaming};

use crate::admission::{
    access::{Access, AccessRole},
    queue::QueueSender,
    sessions::{Session, Sessions},
};

/// The checks that decide whether an unroll is admitted.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The tokens that permit uploads.
    pub(crate) access: Arc<Access>,
    /// The properties of a valid unroll.
    pub(crate) expectation: Arc<Expectation>,
    /// Open sessions.
    pub sessions: Arc<Sessions>,
    /// The queue to the trainer.
    pub(crate) queue: QueueSender,
    /// The newest weights.
    pub(crate) newest: watch::Receiver<Weights>,
    /// Longest time that a peer may delay an unroll that the trainer waits for, or the reading of a message to it.
    pub patience: Duration,
    /// True when actors wait for newer weights after each unroll.
    synchronous: bool,
}

/// The state of an upload.
#[derive(Debug, Default)]
struct Upload {
    session: Option<Arc<Session>>,
    unrolls: u64,
    frames: u64,
    /// The unrolls of each rollout thread of the session.
    threads: Vec<Sent>,
}

/// The unrolls of one rollout thread.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    unrolls: u64,
    /// The weights' version of the last unroll; `None` before the first.
    version: Option<u64>,
}

impl Admission {
    /// Creates the checks of a run whose model has this fingerprint.
    pub fn new(
        config: &Config,
        fingerprint: u64,
        access: Arc<Access>,
        sessions: Arc<Sessions>,
        queue: QueueSender,
        newest: watch::Receiver<Weights>,
    ) -> Self {
        Self {
            access,
            expectation: Arc::new(Expectation::new(config, fingerprint)),
            sessions,
            queue,
            newest,
            patience: config.learner.session_timeout(),
            synchronous: config.rollout.synchronous,
        }
    }

    /// Serves one upload until the actor ends it or a message is rejected. Admitted unrolls remain admitted.
    pub async fn serve(
        self,
        mut messages: Streaming<UnrollBatch>,
        acks: mpsc::Sender<Result<UploadAck, Status>>,
    ) {
        let mut upload = Upload::default();
        let end = self.receive(&mut messages, &mut upload, &acks).await;
        if let Some(session) = &upload.session {
            session.end_upload();
            if end.is_ok() {
                session.dismiss();
            }
            self.sessions.close(session.id);
            tracing::info!(
                actor = session.peer.name,
                session = format_args!("{:016x}", session.id),
                unrolls = upload.unrolls,
                reason = end
                    .as_ref()
                    .err()
                    .map(|s| tracing::field::display(s.message())),
                "actor left"
            );
        }
        // The peer may be gone or may not read; then the last acknowledgement is dropped.
        let _ = timeout(self.patience, acks.send(end.map(|()| upload.ack()))).await;
    }

    async fn receive(
        &self,
        messages: &mut Streaming<UnrollBatch>,
        upload: &mut Upload,
        acks: &mpsc::Sender<Result<UploadAck, Status>>,
    ) -> Result<(), Status> {
        loop {
            let Some(message) = self.next(messages, upload, acks).await? else {
                return Ok(());
            };
            // The count is not taken from the message, because nothing in it has been checked.
            let frames = self.expectation.shape.frames() as u64;
            names::LEARNER_UNROLLS_RECEIVED.get().increment(1);
            names::LEARNER_FRAMES_RECEIVED.get().increment(frames);
            names::LEARNER_RECEIVED_BYTES
                .get()
                .increment(prost::Message::encoded_len(&message) as u64);
            self.admit(message, frames, upload)
                .await
                .inspect_err(count_refused)?;
            upload.unrolls += 1;
            upload.frames += frames;
        }
    }

    /// Checks an unroll completely and queues it; waits while the queue is full.
    async fn admit(
        &self,
        message: UnrollBatch,
        frames: u64,
        upload: &mut Upload,
    ) -> Result<(), Refusal> {
        let session = match &upload.session {
            Some(session) => session.clone(),
            None => {
                let session = self.sessions.find(message.session)?;
                self.sessions.open_upload(&session)?;
                upload.threads = vec![Sent::default(); session.peer.threads as usize];
                upload.session = Some(session.clone());
                session
            }
        };
        session.ledger.receive(frames);
        let admitted = self
            .check_and_queue(message, &session, &mut upload.threads)
            .await;
        match admitted {
            Ok(()) => session.ledger.admit(frames),
            Err(_) => session.ledger.refuse(frames),
        }
        admitted
    }

    async fn check_and_queue(
        &self,
        message: UnrollBatch,
        session: &Arc<Session>,
        threads: &mut [Sent],
    ) -> Result<(), Refusal> {
        if session.id != message.session {
            let detail = "differs from the session of the upload's first unroll";
            return Err(Refusal::field("session", detail));
        }
        self.sessions.find(session.id)?;
        // A removed token also ends the sessions that joined with it.
        self.access
            .let_in(&session.peer.caller, AccessRole::Actor)?;
        let joined = threads.len();
        let Some(sent) = threads.get_mut(message.thread as usize) else {
            let detail = format!("{}, but the actor joined with {joined}", message.thread);
            return Err(Refusal::field("thread", detail));
        };
        // A session has one upload, and a rejection ends it. So all admitted unrolls of the thread precede this one.
        let next = sent.unrolls;
        if message.sequence != next {
            let detail = format!(
                "{}, but the rollout thread's next unroll is {next}",
                message.sequence
            );
            return Err(Refusal::field("sequence", detail));
        }
        let newest = self.newest.borrow().version;
        let unroll = wire::decode(message, &self.expectation, newest)?;
        *sent = Sent {
            unrolls: next + 1,
            version: unroll.policy_versions.last().copied(),
        };
        self.queue.send(unroll, session.clone()).await
    }

    /// Returns the next message and sends acknowledgements meanwhile. Returns `None` when the actor ended its stream.
    async fn next(
        &self,
        messages: &mut Streaming<UnrollBatch>,
        upload: &Upload,
        acks: &mpsc::Sender<Result<UploadAck, Status>>,
    ) -> Result<Option<UnrollBatch>, Status> {
        let Some(session) = &upload.session else {
            return timeout(self.patience, messages.message())
                .await
                .map_err(|_| self.silent())?;
        };
        let mut message = pin!(messages.message());
        let mut permissions = session.watch_permitted();
        loop {
            match timeout(self.patience, acks.send(Ok(upload.ack()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Status::cancelled("the actor is gone")),
                Err(_) => return Err(self.silent()),
            }
            // The actor owes an unroll if it may have begun one.
            let owing = session.permitted() > upload.unrolls;
            let mut newest = self.newest.clone();
            let owed = async {
                // In a synchronous run, the actor also owes nothing until one of its threads can play newer weights.
                // Another actor delays them.
                let newer = newest.wait_for(|weights| {
                    let may_play = |sent: &Sent| sent.version.is_none_or(|v| v < weights.version);
                    !self.synchronous || upload.threads.iter().any(may_play)
                });
                if newer.await.is_err() {
                    // No newer weights will follow: the run ends, and so does the session.
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(self.patience).await;
            };
            tokio::select! {
                message = &mut message => return message,
                // The session holds the sender, so this cannot fail.
                _ = permissions.changed() => {}
                () = session.ended() => return Err(Refusal::Session { session: session.id }.into()),
                () = owed, if owing => return Err(self.silent()),
            }
        }
    }

    fn silent(&self) -> Status {
        let refusal = Refusal::Silent {
            seconds: self.patience.as_secs(),
        };
        count_refused(&refusal);
        refusal.into()
    }
}

impl Upload {
    fn ack(&self) -> UploadAck {
        UploadAck {
            unrolls_permitted: self
                .session
                .as_ref()
                .map_or(0, |session| session.permitted()),
            unrolls_admitted: self.unrolls,
            frames_admitted: self.frames,
        }
    }
}

/// Counts and logs a rejected unroll by its reason.
pub(crate) fn count_refused(refusal: &Refusal) {
    tracing::warn!(%refusal, "rejected");
    names::LEARNER_UNROLLS_REFUSED
        .with(Field(refusal.reason()))
        .increment(1);
}
