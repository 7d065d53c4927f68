//! The gRPC service: the handshake, uploads from actors, weights to actors, and the run's status.
//!
//! Nothing here touches the model. An upload handler decodes, checks and queues unrolls. A subscription sends the bytes
//! that the trainer encoded once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hrm_common::{
    config::MAX_THREADS,
    refusal::Refusal,
    telemetry::names::{self, CallRefused},
    weights::Weights,
    wire,
};
use hrm_proto::{
    WIRE_MAJOR, WIRE_MINOR,
    v1::{
        JoinRequest, JoinResponse, StatusRequest, StatusResponse, SubscribeRequest, UnrollBatch,
        UploadAck, WeightsChunk, learner_server::Learner,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::admission::{
    sessions::{Peer, Session},
    upload::{Admission, count_refused},
};

/// Pieces of weights between a subscription and its connection: one is written while the next one waits. A larger
/// buffer would only hold older weights.
const CHUNKS_IN_FLIGHT: usize = 1;

/// Acknowledgements between an upload and its connection. They are cumulative, so the newest one is enough.
const ACKS_IN_FLIGHT: usize = 1;

/// Longest time that a session may have neither a subscription nor an upload. An actor opens both immediately; an actor
/// that dies before that must not be counted forever.
const CLAIM: Duration = Duration::from_secs(30);

/// Longest actor name that the learner keeps, in characters; names appear in logs.
const MAX_NAME: usize = 100;

/// Progress of the run, for `Status` calls.
#[derive(Debug, Default)]
pub struct RunCounters {
    /// Environment steps trained on.
    pub frames: AtomicU64,
    /// Optimiser updates tried, also those that were skipped.
    pub updates_tried: AtomicU64,
}

impl RunCounters {
    /// Creates the position of a run after `frames` frames and `updates_tried` optimiser updates.
    pub fn new(frames: u64, updates_tried: u64) -> Self {
        Self {
            frames: frames.into(),
            updates_tried: updates_tried.into(),
        }
    }
}

/// State of the run that the service uses.
#[derive(Debug, Clone)]
pub struct LearnerService {
    /// The run's identifier.
    pub run_id: String,
    /// The shared configuration for actors, as JSON.
    pub spec: String,
    /// The admission checks, shared by all uploads.
    pub admission: Admission,
    /// The progress of the run.
    pub counters: Arc<RunCounters>,
    /// False if the learner drops what it admits.
    pub trains: bool,
}

#[tonic::async_trait]
impl Learner for LearnerService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let address = request.remote_addr();
        let caller = request.extensions().get().copied().unwrap_or_default();
        let JoinRequest {
            actor_id,
            wire_major,
            name,
            threads,
            ..
        } = request.into_inner();
        if wire_major != WIRE_MAJOR {
            let refusal = Refusal::WireVersion {
                found: wire_major,
                expected: WIRE_MAJOR,
            };
            count_refused(&refusal);
            return Err(refusal.into());
        }
        if !(1..=MAX_THREADS).contains(&threads) {
            let detail = format!("{threads}, but it must be from 1 to {MAX_THREADS}");
            let refusal = Refusal::field("threads", detail);
            count_refused(&refusal);
            return Err(refusal.into());
        }
        let sessions = &self.admission.sessions;
        if self.admission.newest.borrow().run_complete {
            tracing::info!(
                actor_id = format_args!("{actor_id:016x}"),
                "told an actor that reconnected: the run is complete"
            );
            sessions.dismiss(actor_id);
            return Err(Refusal::RunComplete.into());
        }
        // A learner that is stopping admits no actor.
        if self.admission.newest.has_changed().is_err() {
            return Err(Refusal::ShuttingDown.into());
        }
        let name: String = name
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_NAME)
            .collect();
        let peer = Peer {
            name,
            threads,
            caller,
        };
        let (session, seed) = sessions
            .join(actor_id, peer)
            .inspect_err(|refusal| count_call_refused(refusal, CallRefused::Sessions))?;
        tracing::info!(
            actor = session.peer.name,
            threads,
            session = format_args!("{:016x}", session.id),
            peer = address.map(tracing::field::display),
            "actor joined"
        );
        tokio::spawn({
            let (sessions, session) = (sessions.clone(), session.clone());
            let patience = self.admission.patience;
            async move {
                let looking = async {
                    sleep(CLAIM).await;
                    sessions.close_unclaimed(&session);
                    sleep(patience).await;
                    sessions.close_idle(&session);
                };
                tokio::select! {
                    () = looking => {}
                    () = session.ended() => {}
                }
            }
        });
        Ok(Response::new(wire::seal_join(JoinResponse {
            session: session.id,
            run_id: self.run_id.clone(),
            spec: self.spec.clone(),
            model_fingerprint: self.admission.expectation.model_fingerprint,
            seed,
            wire_major: WIRE_MAJOR,
            wire_minor: WIRE_MINOR,
            checksum: Bytes::new(),
        })))
    }

    type UploadStream = ReceiverStream<Result<UploadAck, Status>>;

    async fn upload(
        &self,
        request: Request<Streaming<UnrollBatch>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let place = self.admission.sessions.place_for_upload();
        let place =
            place.inspect_err(|refusal| count_call_refused(refusal, CallRefused::Uploads))?;
        let (acks, stream) = mpsc::channel(ACKS_IN_FLIGHT);
        let serving = self.admission.clone().serve(request.into_inner(), acks);
        tokio::spawn(async move {
            serving.await;
            drop(place);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type SubscribeStream = ReceiverStream<Result<WeightsChunk, Status>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let sessions = self.admission.sessions.clone();
        let session = sessions.find(request.into_inner().session)?;
        sessions.open_subscription(&session)?;
        let (chunks, stream) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let newest = self.admission.newest.clone();
        let patience = self.admission.patience;
        tokio::spawn(async move {
            send_weights(newest, chunks, &session, patience).await;
            session.end_subscription();
            sessions.close_idle(&session);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let (version, curriculum_distance) = {
            let newest = self.admission.newest.borrow();
            (newest.version, newest.curriculum_distance)
        };
        Ok(Response::new(StatusResponse {
            run_id: self.run_id.clone(),
            version,
            updates_tried: self.counters.updates_tried.load(Ordering::Relaxed),
            frames: self.counters.frames.load(Ordering::Relaxed),
            sessions: self.admission.sessions.len() as u32,
            queued_unrolls: self.admission.queue.len() as u32,
            curriculum_distance,
            trains: self.trains,
        }))
    }
}

/// Counts and logs a call that exceeds a limit.
fn count_call_refused(refusal: &Refusal, reason: CallRefused) {
    tracing::warn!(%refusal, "rejected");
    names::LEARNER_CALLS_REFUSED.with(reason).increment(1);
}

/// Sends the newest weights, then each newer version. Skips versions that are replaced during a send. Ends with the run
/// or the session, or when the subscriber disconnects or does not read.
async fn send_weights(
    mut newest: watch::Receiver<Weights>,
    chunks: mpsc::Sender<Result<WeightsChunk, Status>>,
    session: &Session,
    patience: Duration,
) {
    // The first weights are the permission for the first unroll.
    let mut permitted = session.watch_permitted();
    let mut ending = newest.clone();
    tokio::select! {
        _ = permitted.wait_for(|unrolls| *unrolls > 0) => {}
        _ = ending.wait_for(|weights| weights.run_complete) => {}
        () = chunks.closed() => return,
        () = session.ended() => return,
    }
    newest.mark_changed();
    loop {
        tokio::select! {
            // Sends the last version of a run before the end of the run closes the session.
            biased;
            changed = newest.changed() => if changed.is_err() { return },
            () = chunks.closed() => return,
            () = session.ended() => return,
        }
        let weights = newest.borrow_and_update().clone();
        for chunk in weights.chunks() {
            let bytes = chunk.data.len() as u64;
            let sent = timeout(patience, chunks.send(Ok(chunk))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
            names::LEARNER_SENT_BYTES.get().increment(bytes);
        }
        if weights.run_complete {
            session.dismiss();
        }
    }
}
