//! A recording on its way to one client.
//!
//! A client that reads slowly keeps its recording in memory, also after an evaluation has replaced it. The number of
//! these clients and the time of each are therefore limited.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

/// Largest number of clients that receive a recording at the same time. The others wait.
pub(super) const PLACES: usize = 4;

/// Longest time for a client to receive the whole recording.
const DEADLINE: Duration = Duration::from_secs(60);

/// Size of a piece, in bytes. The connection may hold two pieces after the deadline.
const PIECE: usize = 64 << 10;

/// Piece that waits while the connection writes another.
const WAITING: usize = 1;

/// Returns a recording as the body of an answer, which ends early after the deadline. The client keeps its place as
/// long as this module keeps the recording.
pub(super) fn start(recording: Bytes, place: OwnedSemaphorePermit) -> Body {
    let (client, pieces) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let sent = timeout(DEADLINE, send(recording, client)).await;
        if sent.is_err() {
            tracing::debug!("a client of the live page received its recording too slowly");
        }
        drop(place);
    });
    Body::from_stream(ReceiverStream::new(pieces).map(Ok::<_, Infallible>))
}

/// Sends a recording until the client has all of it or leaves.
async fn send(recording: Bytes, client: mpsc::Sender<Bytes>) {
    for piece in recording.chunks(PIECE) {
        // A copy, because a slice of the recording would keep all of it.
        let piece = Bytes::copy_from_slice(piece);
        if client.send(piece).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;
    use tokio::{sync::Semaphore, time::Instant};

    use super::*;

    fn recording() -> Bytes {
        (0..4 * PIECE + 5).map(|at| at as u8).collect()
    }

    /// Returns one place for all clients, and the body of the client that has it.
    fn download(recording: Bytes) -> (Arc<Semaphore>, Body) {
        let places = Arc::new(Semaphore::new(1));
        let place = places.clone().try_acquire_owned().expect("a place");
        (places, start(recording, place))
    }

    #[tokio::test]
    async fn a_client_receives_everything_and_frees_its_place() {
        let (places, body) = download(recording());
        let received = body.collect().await.expect("a body").to_bytes();
        assert_eq!(received, recording());
        let _next = places.acquire().await.expect("a place");
    }

    #[tokio::test]
    async fn a_client_that_leaves_makes_room() {
        let (places, body) = download(recording());
        drop(body);
        let _next = places.acquire().await.expect("a place");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_too_slow_loses_its_place_and_the_rest() {
        let recording = recording();
        let (places, body) = download(recording.clone());
        let began = Instant::now();
        let _next = places.acquire().await.expect("a place");
        assert!(began.elapsed() >= DEADLINE);
        assert!(recording.is_unique(), "its recording is kept");
        let received = body.collect().await.expect("a body").to_bytes();
        assert_eq!(received, recording[..PIECE]);
    }
}
