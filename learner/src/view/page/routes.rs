//! The addresses of the page. All links in it are relative, so that it works behind a proxy's path prefix.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{
        HeaderName, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use hrm_common::{
    shutdown::Shutdown,
    telemetry::names::{self, CallRefused},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{
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
        names::LEARNER_CALLS_REFUSED
            .with(CallRefused::PageClients)
            .increment(1);
        let retry = [(RETRY_AFTER, RETRY)];
        let reason = "too many clients follow the page\n";
        return (StatusCode::SERVICE_UNAVAILABLE, retry, reason).into_response();
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
    match content.feed.recording() {
        Some(recording) => ([(CONTENT_TYPE, "application/json")], recording).into_response(),
        None => (
            StatusCode::NOT_FOUND,
            "no evaluation has ended since the learner started\n",
        )
            .into_response(),
    }
}
