//! The addresses of the page. All links in it are relative, so that it works behind a proxy's path prefix.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use hrm_common::{
    shutdown::Shutdown,
    telemetry::names::{self, CallRefused},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{
    download,
    feed::Feed,
    follow::{self, Place, Viewer},
    gate::{self, Gate},
};
use crate::{
    admission::access::{Access, Caller},
    view::replay::player,
};

/// Event of a client that waits while its connection sends another.
const WAITING: usize = 1;

/// Longest time that a client waits for its turn to receive the recording.
const TURN: Duration = Duration::from_secs(10);

/// Seconds after which a rejected client may ask again.
const RETRY: &str = "10";

/// Content of the page's routes.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// The events.
    pub(super) feed: Arc<Feed>,
    /// The tokens.
    pub(super) access: Arc<Access>,
    /// Places for clients that follow the events.
    pub(super) places: Arc<Semaphore>,
    /// Places for clients that receive the recording.
    pub(super) downloads: Arc<Semaphore>,
    /// Ends all event streams.
    pub(super) closing: Shutdown,
}

/// Returns the page's routes behind its gate.
pub(super) fn routes(content: Content, gate: Gate) -> Router {
    let text = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, kind)], text) })
    };
    let script = |source| text("text/javascript; charset=utf-8", source);
    let style = |source| text("text/css; charset=utf-8", source);
    let html = include_str!("page.html");
    Router::new()
        .route("/", text("text/html; charset=utf-8", html))
        .route("/icon.svg", text("image/svg+xml", include_str!("icon.svg")))
        .route("/page.css", style(include_str!("page.css")))
        .route("/charts.js", script(include_str!("charts.js")))
        .route("/page.js", script(include_str!("page.js")))
        .route("/player.css", style(player::STYLE))
        .route("/player.js", script(player::SCRIPT))
        .route("/events", get(events))
        .route("/recording.json", get(recording))
        .with_state(content)
        .layer(middleware::from_fn_with_state(Arc::new(gate), gate::guard))
}

async fn events(State(content): State<Content>, Extension(caller): Extension<Caller>) -> Response {
    let Ok(permit) = content.places.try_acquire_owned() else {
        return too_many("too many clients follow the page\n");
    };
    let (client, stream) = mpsc::channel(WAITING);
    let place = Place::new(permit);
    let viewer = Viewer {
        access: content.access,
        caller,
    };
    tokio::spawn(follow::follow(
        content.feed,
        client,
        place,
        viewer,
        content.closing,
    ));
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        // nginx otherwise collects the events.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let stream = ReceiverStream::new(stream).map(Ok::<_, Infallible>);
    (headers, Body::from_stream(stream)).into_response()
}

async fn recording(State(content): State<Content>) -> Response {
    // All browsers ask at the same time, when an evaluation has ended.
    let Ok(Ok(place)) = timeout(TURN, content.downloads.acquire_owned()).await else {
        return too_many("too many clients receive the episodes\n");
    };
    let Some(recording) = content.feed.recording() else {
        let reason = "no evaluation has ended since the learner started\n";
        return (StatusCode::NOT_FOUND, reason).into_response();
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // The connection breaks when the body ends early, so that the client knows.
        (CONTENT_LENGTH, HeaderValue::from(recording.len())),
    ];
    (headers, download::start(recording, place)).into_response()
}

/// Rejects a client, and counts it.
fn too_many(reason: &'static str) -> Response {
    names::LEARNER_CALLS_REFUSED
        .with(CallRefused::PageClients)
        .increment(1);
    let retry = [(RETRY_AFTER, RETRY)];
    (StatusCode::SERVICE_UNAVAILABLE, retry, reason).into_response()
}

#[cfg(test)]
mod tests {
    use hrm_common::config::Config;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_without_a_turn_may_ask_again() {
        let content = Content {
            feed: Feed::new(&Config::default()),
            access: Arc::new(Access::Open),
            places: Arc::new(Semaphore::new(0)),
            downloads: Arc::new(Semaphore::new(0)),
            closing: Shutdown::new(),
        };
        let refused = recording(State(content.clone())).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[RETRY_AFTER], RETRY);
        content.downloads.add_permits(1);
        for _ in 0..2 {
            let answer = recording(State(content.clone())).await;
            assert_eq!(
                answer.status(),
                StatusCode::NOT_FOUND,
                "nothing is recorded"
            );
        }
    }
}
