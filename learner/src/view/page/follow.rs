//! The event stream of one client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hrm_common::{shutdown::Shutdown, telemetry::names};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, error::SendError},
    },
    time::{MissedTickBehavior, interval, timeout},
};

use super::feed::Feed;
use crate::admission::access::{Access, AccessRole, Caller};

/// Time between two comments, which keep proxies from ending a quiet stream and find clients that are gone. The
/// client's token is checked at the same interval.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Longest time for a client to receive the events so far. A slow one otherwise keeps records in memory that the
/// history no longer has.
const HISTORY: Duration = Duration::from_secs(60);

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

/// The sender of the request that a stream answers.
#[derive(Debug)]
pub(super) struct Viewer {
    /// The tokens.
    pub(super) access: Arc<Access>,
    /// The request's token.
    pub(super) caller: Caller,
}

impl Viewer {
    /// Returns once the viewer may no longer see the run, because its token was removed.
    async fn refused(&self) {
        let mut checks = interval(HEARTBEAT);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            let permitted = self.access.let_in(&self.caller, AccessRole::Viewer);
            if permitted.is_err() {
                return;
            }
        }
    }
}

/// Sends the feed's events to one client until the client leaves, falls too far behind or loses its permission, or
/// until `closing` trips. The client keeps its place as long.
pub(super) async fn follow(
    feed: Arc<Feed>,
    client: mpsc::Sender<Bytes>,
    _place: Place,
    viewer: Viewer,
    closing: Shutdown,
) {
    tokio::select! {
        () = send_events(&feed, &client, &closing) => {}
        // Also while the client does not read.
        () = viewer.refused() => tracing::debug!("a client of the live page lost its permission"),
    }
}

async fn send_events(feed: &Feed, client: &mpsc::Sender<Bytes>, closing: &Shutdown) {
    let (events, mut later) = feed.subscribe();
    let history = async {
        for event in events {
            client.send(event).await?;
        }
        Ok::<_, SendError<Bytes>>(())
    };
    let Ok(Ok(())) = timeout(HISTORY, history).await else {
        return;
    };
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

#[cfg(test)]
mod tests {
    use std::fs;

    use hrm_common::config::{Config, LearnerConfig};
    use tokio::{sync::Semaphore, time::Instant};

    use super::*;

    const ACTOR: &str = "actor-token-0123456789abcdef";
    const REMOVED: &str = "viewer-token-0123456789abcdef";
    const KEPT: &str = "viewer-token-next-0123456789abcdef";

    /// Returns the stream of a client that has one of the places and sent this token.
    fn stream(places: &Arc<Semaphore>, access: &Arc<Access>, token: &str) -> mpsc::Receiver<Bytes> {
        let (client, stream) = mpsc::channel(1);
        let permit = places.clone().try_acquire_owned().expect("a place");
        let viewer = Viewer {
            access: access.clone(),
            caller: Caller::from_token(Some(token.as_bytes())),
        };
        let feed = Feed::new(&Config::default());
        let place = Place::new(permit);
        tokio::spawn(follow(feed, client, place, viewer, Shutdown::new()));
        stream
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_token_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        let viewers = file("viewers", &format!("{REMOVED}\n{KEPT}\n"));
        let access = Access::new(&LearnerConfig {
            actor_tokens_file: Some(file("actors", ACTOR)),
            viewer_tokens_file: Some(viewers.clone()),
            ..LearnerConfig::default()
        });
        let access = Arc::new(access.expect("two files of tokens"));
        let places = Arc::new(Semaphore::new(2));
        let mut removed = stream(&places, &access, REMOVED);
        let mut kept = stream(&places, &access, KEPT);
        // Time passes whenever all tasks wait.
        for stream in [&mut removed, &mut kept] {
            let mut comments = 0;
            while comments < 2 {
                let event = stream.recv().await.expect("an open stream");
                comments += u32::from(event == COMMENT);
            }
        }
        // Another file with the same name, as Kubernetes replaces one.
        let fresh = file("fresh", KEPT);
        fs::rename(&fresh, &viewers).expect("renamed");
        access.files().iter().for_each(|file| file.refresh());
        let mut further = 0;
        while removed.recv().await.is_some() {
            further += 1;
            assert!(further < 5, "still open");
        }
        for _ in 0..5 {
            kept.recv().await.expect("an open stream");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_the_history_loses_its_place() {
        let places = Arc::new(Semaphore::new(1));
        let _unread = stream(&places, &Arc::new(Access::Open), "");
        let began = Instant::now();
        let _next = places.acquire().await.expect("a place");
        assert!(began.elapsed() >= HISTORY);
    }
}
