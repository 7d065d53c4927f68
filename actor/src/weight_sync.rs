//! Receives weights while the rollout plays, and keeps the newest verified version available.

use std::{ops::ControlFlow, time::Duration};

use hrm_common::{
    telemetry::names,
    weights::{Assembler, Weights},
};
use hrm_proto::v1::SubscribeRequest;
use tokio::sync::watch;

use crate::{
    connect::{Client, answered},
    error::SessionError,
};

/// The end of a subscription that met no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncEnd {
    /// The learner said that the run is complete.
    RunComplete,
    /// The learner closed the stream, because it stops.
    Closed,
}

/// Subscribes, and passes every version that arrives to `take` until that breaks. Returns `None` when the stream ends
/// before.
///
/// # Errors
///
/// Fails when the learner does not answer within `answer`, the stream breaks, or weights are damaged.
pub(crate) async fn subscribe<T>(
    mut client: Client,
    answer: Duration,
    session: u64,
    model_fingerprint: u64,
    mut take: impl FnMut(Weights) -> ControlFlow<T>,
) -> Result<Option<T>, SessionError> {
    let subscribing = client.subscribe(SubscribeRequest { session });
    let mut stream = answered("Subscribe", answer, subscribing).await?;
    let mut assembler = Assembler::new(model_fingerprint);
    while let Some(chunk) = stream.message().await? {
        if let Some(weights) = assembler.push(chunk).map_err(SessionError::Weights)?
            && let ControlFlow::Break(end) = take(weights)
        {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// Subscribes, and writes every version that arrives into `newest` until the stream ends.
///
/// # Errors
///
/// Fails as [`subscribe`] does.
pub(crate) async fn weight_sync(
    client: Client,
    answer: Duration,
    session: u64,
    model_fingerprint: u64,
    newest: watch::Sender<Option<Weights>>,
) -> Result<SyncEnd, SessionError> {
    let take = |weights: Weights| {
        names::ACTOR_WEIGHTS_RECEIVED.get().increment(1);
        names::ACTOR_WEIGHTS_RECEIVED_BYTES
            .get()
            .increment(weights.body.len() as u64);
        if weights.run_complete {
            return ControlFlow::Break(SyncEnd::RunComplete);
        }
        newest.send_replace(Some(weights));
        ControlFlow::Continue(())
    };
    let end = subscribe(client, answer, session, model_fingerprint, take).await?;
    Ok(end.unwrap_or(SyncEnd::Closed))
}
