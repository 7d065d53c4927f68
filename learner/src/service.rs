//! The gRPC service: handshake, uploads in, weights out.
//!
//! Nothing here touches the model. An upload handler decodes, checks and queues; a subscription sends
//! the bytes that the trainer encoded once.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hrm_common::{
    error::Refusal,
    telemetry::names::{self, Field},
    weights::Weights,
    wire::{self, Expectation},
};
use hrm_proto::{
    WIRE_MAJOR, WIRE_MINOR,
    v1::{
        JoinRequest, JoinResponse, StatusRequest, StatusResponse, SubscribeRequest, UnrollBatch,
        UploadSummary, WeightsChunk, learner_server::Learner,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{queue::QueueSender, sessions::Sessions};

/// Pieces of weights between a subscription and its connection: one is being written while the next
/// waits. More would only hold older weights.
const CHUNKS_IN_FLIGHT: usize = 1;

/// Longest actor name that is kept, in characters: it goes into logs.
const MAX_NAME: usize = 100;

/// How far the run is, for whoever asks.
#[derive(Debug, Default)]
pub struct Position {
    /// Environment steps trained on.
    pub frames: AtomicU64,
    /// Optimiser steps.
    pub updates: AtomicU64,
}

/// What the service needs of the run.
#[derive(Debug)]
pub struct LearnerService {
    /// Identifies the run.
    pub run_id: String,
    /// JSON that an actor runs by.
    pub spec: String,
    /// What a valid unroll looks like.
    pub expectation: Expectation,
    /// Open sessions.
    pub sessions: Arc<Sessions>,
    /// Towards the trainer.
    pub queue: QueueSender,
    /// The newest weights, from the trainer.
    pub newest: watch::Receiver<Weights>,
    /// How far the run is.
    pub position: Arc<Position>,
}

impl LearnerService {
    /// Reads one upload until it ends; whatever it admitted stays admitted.
    async fn receive(
        &self,
        mut messages: Streaming<UnrollBatch>,
        opened: &mut Option<u64>,
        summary: &mut UploadSummary,
    ) -> Result<(), Status> {
        while let Some(message) = messages.message().await? {
            let frames = u64::from(message.ticks) * u64::from(message.envs);
            names::LEARNER_UNROLLS_RECEIVED.get().increment(1);
            names::LEARNER_FRAMES_RECEIVED.get().increment(frames);
            names::LEARNER_RECEIVED_BYTES
                .get()
                .increment(prost::Message::encoded_len(&message) as u64);
            self.admit(message, opened)
                .await
                .inspect_err(count_refused)?;
            names::LEARNER_UNROLLS_ADMITTED.get().increment(1);
            names::LEARNER_FRAMES_ADMITTED.get().increment(frames);
            summary.unrolls_admitted += 1;
            summary.frames_admitted += frames;
        }
        Ok(())
    }

    /// Checks an unroll completely and puts it into the queue; waits there while the queue is full.
    async fn admit(&self, message: UnrollBatch, opened: &mut Option<u64>) -> Result<(), Refusal> {
        let session = self.sessions.find(message.session)?;
        *opened = Some(session.id);
        let newest = self.newest.borrow().version;
        let unroll = wire::decode(message, &self.expectation, newest)?;
        self.queue.send(unroll, session).await
    }
}

fn count_refused(refusal: &Refusal) {
    tracing::warn!(%refusal, "refused");
    names::LEARNER_UNROLLS_REFUSED
        .with(Field(refusal.reason()))
        .increment(1);
}

#[tonic::async_trait]
impl Learner for LearnerService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let peer = request.remote_addr();
        let JoinRequest {
            actor_id,
            wire_major,
            name,
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
        let name: String = name
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_NAME)
            .collect();
        let (session, seed) = self.sessions.join(actor_id, name);
        tracing::info!(
            actor = session.name,
            session = format_args!("{:016x}", session.id),
            peer = peer.map(tracing::field::display),
            "actor joined"
        );
        Ok(Response::new(JoinResponse {
            session: session.id,
            run_id: self.run_id.clone(),
            spec: self.spec.clone(),
            model_fingerprint: self.expectation.model_fingerprint,
            seed,
            wire_major: WIRE_MAJOR,
            wire_minor: WIRE_MINOR,
        }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UnrollBatch>>,
    ) -> Result<Response<UploadSummary>, Status> {
        let mut summary = UploadSummary::default();
        let mut opened = None;
        let result = self
            .receive(request.into_inner(), &mut opened, &mut summary)
            .await;
        if let Some(session) = opened {
            self.sessions.close(session);
            tracing::info!(
                session = format_args!("{session:016x}"),
                unrolls = summary.unrolls_admitted,
                reason = result
                    .as_ref()
                    .err()
                    .map(|s| tracing::field::display(s.message())),
                "actor left"
            );
        }
        result.map(|()| Response::new(summary))
    }

    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<WeightsChunk, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.sessions.find(request.into_inner().session)?;
        let (chunks, stream) = mpsc::channel(CHUNKS_IN_FLIGHT);
        tokio::spawn(send_weights(self.newest.clone(), chunks));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let (version, curriculum_distance) = {
            let newest = self.newest.borrow();
            (newest.version, newest.curriculum_distance)
        };
        Ok(Response::new(StatusResponse {
            run_id: self.run_id.clone(),
            version,
            updates: self.position.updates.load(Ordering::Relaxed),
            frames: self.position.frames.load(Ordering::Relaxed),
            sessions: self.sessions.len() as u32,
            queued_unrolls: self.queue.len() as u32,
            curriculum_distance,
        }))
    }
}

/// Sends the newest weights, then every newer version; versions that came and went while one was being
/// sent are skipped. Ends when the run does or the subscriber is gone.
async fn send_weights(
    mut newest: watch::Receiver<Weights>,
    chunks: mpsc::Sender<Result<WeightsChunk, Status>>,
) {
    newest.mark_changed();
    loop {
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = chunks.closed() => return,
        }
        let weights = newest.borrow_and_update().clone();
        for chunk in weights.chunks() {
            let bytes = chunk.data.len() as u64;
            if chunks.send(Ok(chunk)).await.is_err() {
                return;
            }
            names::LEARNER_SENT_BYTES.get().increment(bytes);
        }
    }
}
