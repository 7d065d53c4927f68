//! Answers HTTP/1.1 requests: those of scrapers for metrics, and those of browsers for the live page.

use std::{pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use crate::{connections::HEADERS, shutdown::Shutdown};

/// Longest time for the headers of a request to arrive, and so for an open connection to wait for the next request.
const REQUEST: Duration = Duration::from_secs(10);

/// Answers the requests on the connections that `next` returns until `closing` trips, and then those that have arrived.
/// `next` returns `None` for a connection that is refused.
pub async fn answer_all<C>(
    mut next: impl AsyncFnMut() -> Option<C>,
    pages: Router,
    closing: Shutdown,
) where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = next() => if let Some(connection) = accepted {
                open.spawn(answer(connection, pages.clone(), closing.clone()));
            },
            Some(_) = open.join_next() => {}
            () = closing.tripped() => break,
        }
    }
    while open.join_next().await.is_some() {}
}

/// Answers the requests of one connection with `pages`. Ends once `closing` trips and the request under way is
/// answered.
async fn answer<C>(connection: C, pages: Router, closing: Shutdown)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut answered = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST)
            .max_buf_size(HEADERS as usize)
            .serve_connection(TokioIo::new(connection), TowerToHyperService::new(pages))
    );
    let result = tokio::select! {
        result = answered.as_mut() => result,
        () = closing.tripped() => {
            answered.as_mut().graceful_shutdown();
            answered.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}
