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

/// Unrolls that a session may play before the first acknowledgement: the first weights permit one.
pub(crate) const FIRST: u64 = 1;

/// The result of an upload that ended in order.
pub(crate) struct Uploaded {
    /// Frames passed to the transport.
    pub(crate) frames_sent: u64,
    /// The learner's last acknowledgement.
    pub(crate) ack: UploadAck,
}

/// Sends the unrolls from `unrolls` until its sender is dropped, then waits for the learner's last acknowledgement.
///
/// The learner's acknowledgements count the unrolls that the actor may have begun. Each further one adds a permit to
/// `credits`, and every new unroll costs one. No more than `in_flight` permits are kept, whatever the learner
/// acknowledges. HTTP/2 flow control stops the stream if the learner stops reading.
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
    let mut permitted = FIRST;
    while let Some(ack) = acks.message().await? {
        let more = ack.unrolls_permitted.saturating_sub(permitted);
        let room = in_flight.saturating_sub(credits.available_permits());
        credits.add_permits(room.min(more as usize));
        permitted = permitted.max(ack.unrolls_permitted);
        newest = ack;
    }
    Ok(Uploaded {
        frames_sent: frames_sent.load(Ordering::Acquire),
        ack: newest,
    })
}
