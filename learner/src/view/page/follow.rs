//! The event stream of one client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hrm_common::{shutdown::Shutdown, telemetry::names};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{MissedTickBehavior, interval},
};

use super::feed::Feed;

/// Time between two comments, which keep proxies from ending a quiet stream and find clients that are gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A comment of the event stream.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// A place among the clients, counted in the metrics.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        names::LEARNER_PAGE_CLIENTS.get().increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        names::LEARNER_PAGE_CLIENTS.get().decrement(1.0);
    }
}

/// Sends the feed's events to one client until the client leaves, falls too far behind, or `closing` trips. The client
/// keeps its place as long.
pub(super) async fn follow(
    feed: Arc<Feed>,
    client: mpsc::Sender<Bytes>,
    _place: Place,
    closing: Shutdown,
) {
    let (events, mut later) = feed.subscribe();
    for event in events {
        if client.send(event).await.is_err() {
            return;
        }
    }
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            biased;
            event = later.recv() => match event {
                Ok(event) => event,
                // The client connects again, and receives the history.
                Err(_) => return,
            },
            () = client.closed() => return,
            () = closing.tripped() => return,
            _ = heartbeat.tick() => COMMENT,
        };
        if client.send(event).await.is_err() {
            return;
        }
    }
}
