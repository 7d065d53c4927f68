//! Streams unrolls to the learner over one client-streaming call.

use hrm_common::{telemetry::names, trajectory::Unroll, wire};
use hrm_proto::v1::{UploadSummary, learner_client::LearnerClient};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::Channel;

use crate::session::SessionError;

/// Sends what `unrolls` yields until its sender is gone, then waits for the learner's count.
///
/// When the learner's queue is full it stops reading; HTTP/2 flow control stops this stream, the
/// channel fills, and the rollout thread waits: that is the back-pressure.
pub(crate) async fn upload(
    mut client: LearnerClient<Channel>,
    unrolls: mpsc::Receiver<Unroll>,
) -> Result<UploadSummary, SessionError> {
    let messages = ReceiverStream::new(unrolls).map(|unroll| {
        names::ACTOR_UNROLLS_SENT.get().increment(1);
        let message = wire::encode(&unroll);
        names::ACTOR_SENT_BYTES
            .get()
            .increment(prost::Message::encoded_len(&message) as u64);
        message
    });
    Ok(client.upload(messages).await?.into_inner())
}
