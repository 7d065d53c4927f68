//! Streams unrolls to the learner, and receives credits for more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hrm_common::{telemetry::names, trajectory::Unroll, wire};
use hrm_proto::v1::UploadAck;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::{
    connect::{Client, answered},
    error::SessionError,
};

/// The result of an upload that ended in order.
pub(crate) struct Uploaded {
    /// Frames passed to the transport.
    pub(crate) frames_sent: u64,
    /// The learner's last acknowledgement.
    pub(crate) ack: UploadAck,
}

/// Sends the unrolls from `unrolls` until its sender is dropped, then waits for the learner's last acknowledgement.
///
/// Every unroll that the trainer takes returns one permit to `credits`, and every new unroll costs one. An actor is
/// therefore never more than `in_flight` unrolls ahead of the learner, whatever the learner acknowledges. HTTP/2 flow
/// control stops the stream if the learner stops reading.
///
/// # Errors
///
/// Fails when the learner does not answer within `answer`, or ends the call with an error.
pub(crate) async fn upload(
    mut client: Client,
    answer: Duration,
    unrolls: mpsc::Receiver<Unroll>,
    credits: Arc<Semaphore>,
    in_flight: usize,
) -> Result<Uploaded, SessionError> {
    let frames_sent = Arc::new(AtomicU64::new(0));
    let count = frames_sent.clone();
    let messages = ReceiverStream::new(unrolls).map(move |unroll| {
        names::ACTOR_UNROLLS_SENT.get().increment(1);
        let frames = unroll.shape.frames() as u64;
        names::ACTOR_FRAMES_SENT.get().increment(frames);
        count.fetch_add(frames, Ordering::AcqRel);
        let message = wire::encode(&unroll);
        names::ACTOR_SENT_BYTES
            .get()
            .increment(prost::Message::encoded_len(&message) as u64);
        message
    });
    let mut acks = answered("Upload", answer, client.upload(messages)).await?;
    let mut newest = UploadAck::default();
    while let Some(ack) = acks.message().await? {
        let taken = ack.unrolls_taken.saturating_sub(newest.unrolls_taken);
        let room = in_flight.saturating_sub(credits.available_permits());
        credits.add_permits(room.min(taken as usize));
        newest = ack;
    }
    Ok(Uploaded {
        frames_sent: frames_sent.load(Ordering::Acquire),
        ack: newest,
    })
}
