//! One session of a load test.

use std::{collections::VecDeque, ops::ControlFlow, time::Duration};

use hrm_common::{shutdown::Shutdown, weights::Weights};
use hrm_proto::v1::UploadAck;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{pace::Pace, recording::RecordedUnrolls, tally::Tally};
use crate::{
    connect::{answered, connect},
    error::{SessionError, Stream},
    join::join,
    options::ActorOptions,
    upload::FIRST,
    weight_sync::subscribe,
};

/// Joins on a connection of its own, waits for the start, and sends recorded unrolls until `stop` trips.
///
/// # Errors
///
/// The reason why the session ended before.
pub(super) async fn replay(
    options: &ActorOptions,
    recording: &RecordedUnrolls,
    pace: Pace,
    tally: &Tally,
    joining: &Semaphore,
    mut started: watch::Receiver<Option<Instant>>,
    stop: &Shutdown,
) -> Result<(), SessionError> {
    let turn = joining.acquire().await;
    let mut client = connect(&options.learner, &options.credentials).await?;
    let joined = join(&mut client, options).await?;
    let (session, fingerprint) = (joined.session, joined.parameters.fingerprint());
    let (version_tx, mut version) = watch::channel(None);
    let (subscriber, answer) = (client.clone(), options.answer);
    let mut subscription = Box::pin(async move {
        let take = |weights: Weights| {
            tally.receive_weights(weights.version, weights.body.len() as u64);
            version_tx.send_replace(Some(weights.version));
            ControlFlow::<()>::Continue(())
        };
        subscribe(subscriber, answer, session, fingerprint, take).await?;
        Err(SessionError::Closed(Stream::Weights))
    });
    tokio::select! {
        ended = &mut subscription => return ended,
        _ = version.wait_for(Option::is_some) => {}
    }
    drop(turn);
    tally.join();
    let replaying = async {
        let started = started.wait_for(Option::is_some);
        let Some(began) = started.await.ok().and_then(|began| *began) else {
            return Ok(None);
        };
        let (unrolls, messages) = mpsc::channel(1);
        let calling = client.upload(ReceiverStream::new(messages));
        let acks = answered("Upload", options.answer, calling).await?;
        let mut sender = Sender::new(acks, tally);
        let mut pace = pace;
        loop {
            tokio::select! {
                () = stop.tripped() => return Ok(Some(sender)),
                acked = sender.acknowledgement() => acked?,
                () = sleep_until(pace.due(began)), if sender.is_permitted() => {
                    let version = version.borrow().unwrap_or_default();
                    let message = recording.message(session, sender.unrolls, version);
                    if unrolls.send(message).await.is_err() {
                        return Err(SessionError::Closed(Stream::Upload));
                    }
                    sender.sent(recording.frames());
                    pace.advance();
                }
            }
        }
    };
    let sender = tokio::select! {
        ended = &mut subscription => return ended,
        sender = replaying => sender?,
    };
    // The subscription stays open: until the first unroll arrives, the learner knows the session by it alone. The end
    // of the upload ends the session.
    match sender {
        Some(sender) => sender.drain(options.drain).await,
        None => Ok(()),
    }
}

/// The unrolls of an upload that were sent, and the acknowledgements of them.
struct Sender<'a> {
    acks: Streaming<UploadAck>,
    tally: &'a Tally,
    unrolls: u64,
    permitted: u64,
    admitted: UploadAck,
    /// The times at which the unrolls without an acknowledgement were sent.
    waiting: VecDeque<Instant>,
}

impl<'a> Sender<'a> {
    fn new(acks: Streaming<UploadAck>, tally: &'a Tally) -> Self {
        Self {
            acks,
            tally,
            unrolls: 0,
            permitted: FIRST,
            admitted: UploadAck::default(),
            waiting: VecDeque::new(),
        }
    }

    fn is_permitted(&self) -> bool {
        self.permitted > self.unrolls
    }

    fn sent(&mut self, frames: u64) {
        self.unrolls += 1;
        self.waiting.push_back(Instant::now());
        self.tally.send(frames);
    }

    /// Waits for the next acknowledgement.
    async fn acknowledgement(&mut self) -> Result<(), SessionError> {
        match self.acks.message().await? {
            Some(ack) => {
                self.take(ack);
                Ok(())
            }
            None => Err(SessionError::Closed(Stream::Upload)),
        }
    }

    fn take(&mut self, ack: UploadAck) {
        let unrolls = ack
            .unrolls_admitted
            .saturating_sub(self.admitted.unrolls_admitted);
        for _ in 0..unrolls {
            if let Some(sent) = self.waiting.pop_front() {
                self.tally.admit_after(sent.elapsed());
            }
        }
        let before = self.admitted.frames_admitted;
        let frames = ack.frames_admitted.saturating_sub(before);
        self.tally.admit(frames);
        self.permitted = self.permitted.max(ack.unrolls_permitted);
        self.admitted = ack;
    }

    /// Waits for the last acknowledgement, for `deadline` at most.
    async fn drain(mut self, deadline: Duration) -> Result<(), SessionError> {
        let draining = async {
            while let Some(ack) = self.acks.message().await? {
                self.take(ack);
            }
            Ok(())
        };
        match tokio::time::timeout(deadline, draining).await {
            Ok(drained) => drained,
            Err(_) => Err(SessionError::NoAnswer {
                call: "Upload",
                after: deadline,
            }),
        }
    }
}
