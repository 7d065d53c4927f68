//! The port of the page.

use std::{future, net::SocketAddr, sync::Arc, sync::atomic::Ordering, time::Duration};

use hrm_common::{
    config::{LearnerConfig, WebListen},
    connections::{Connections, Limits},
    http1, listen,
    reload::Refresh,
    shutdown::Shutdown,
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
    time::{self, MissedTickBehavior, interval},
};
use tokio_stream::StreamExt as _;

use super::{
    download,
    feed::Feed,
    gate::Gate,
    routes::{self, Content},
};
use crate::{
    admission::{access::Access, service::RunCounters, sessions::Sessions},
    transport::{
        listener,
        tls::{self, Tls},
    },
};

const KEY: &str = "learner.web_listen";

/// Largest number of clients that follow the page.
pub(super) const CLIENTS: usize = 32;

/// The limits of the port: a browser has a connection for the events and some for files. A client that follows the
/// events sends nothing, but must receive the comments in between.
const LIMITS: Limits = Limits {
    most: 2 * CLIENTS,
    first_byte: Duration::from_secs(10),
    silence: None,
    stall: Duration::from_secs(30),
};

/// Time between two looks at the run's state.
const LOOK: Duration = Duration::from_secs(2);

/// Time for clients to receive the last events at the end.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// The state of a run that the page asks for.
#[derive(Debug)]
pub(crate) struct Watched {
    /// The actors.
    pub(crate) sessions: Arc<Sessions>,
    /// The progress.
    pub(crate) counters: Arc<RunCounters>,
}

/// A page that is bound to its address. It stops when dropped.
#[derive(Debug)]
pub(crate) struct LivePage {
    address: SocketAddr,
    tls: Option<Tls>,
    closing: Shutdown,
    task: JoinHandle<()>,
}

impl LivePage {
    /// Serves the page of a run at the configured address. Returns `None` when `"auto"` finds no port, because a run
    /// does not need the page.
    ///
    /// # Errors
    ///
    /// Returns an error when the user's address cannot be bound, or a certificate file cannot be used.
    pub(crate) async fn open(
        config: &LearnerConfig,
        feed: Arc<Feed>,
        access: Arc<Access>,
        watched: Watched,
    ) -> anyhow::Result<Option<Self>> {
        let tls = tls::for_browsers(config)?;
        let Some((listener, address)) = bind(config.web_listen).await? else {
            return Ok(None);
        };
        let closing = Shutdown::new();
        let gate = Gate {
            access: access.clone(),
            loopback: address.ip().is_loopback(),
        };
        let content = Content {
            feed: feed.clone(),
            access: access.clone(),
            places: Arc::new(Semaphore::new(CLIENTS)),
            downloads: Arc::new(Semaphore::new(download::PLACES)),
            closing: closing.clone(),
        };
        let pages = routes::routes(content, gate);
        let connections = Connections::new(listener, KEY, LIMITS);
        let mut connections = listener::accept(connections, tls.clone());
        let next = async move || match connections.next().await {
            Some(connection) => connection.ok(),
            // The port accepts nothing any more.
            None => future::pending().await,
        };
        let server = http1::answer_all(next, pages, closing.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                () = server => {}
                () = look(feed, watched) => {}
            }
        });
        let page = Self {
            address,
            tls,
            closing,
            task,
        };
        let url = page.url();
        match access.is_open() {
            true => tracing::info!("watch the run at {url}"),
            false => tracing::info!("watch the run at {url}, with a viewer's token as password"),
        }
        Ok(Some(page))
    }

    /// Returns the files that the page uses.
    pub(crate) fn files(&self) -> Vec<Arc<dyn Refresh>> {
        let tls = self.tls.clone();
        tls.map(|tls| tls as Arc<dyn Refresh>).into_iter().collect()
    }

    /// Returns the page's address for a browser on this machine.
    pub(crate) fn url(&self) -> String {
        let scheme = match self.tls {
            Some(_) => "https",
            None => "http",
        };
        let port = self.address.port();
        match self.address {
            any if any.ip().is_unspecified() => format!("{scheme}://localhost:{port}/"),
            address => format!("{scheme}://{address}/"),
        }
    }

    /// Ends the page once its clients have the last events, or a second later.
    pub(crate) async fn finish(mut self) {
        self.closing.trip();
        if time::timeout(LAST_EVENTS, &mut self.task).await.is_err() {
            tracing::debug!("a client of the live page was still connected at the end");
        }
    }
}

impl Drop for LivePage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds the configured address. With `"auto"`, a taken port is no reason to fail.
async fn bind(listen: WebListen) -> anyhow::Result<Option<(TcpListener, SocketAddr)>> {
    if let WebListen::At(address) = listen {
        return Ok(Some(listen::bind(address, KEY, listen::OPTIONAL).await?));
    }
    let mut free = WebListen::PREFERRED;
    free.set_port(0);
    for address in [WebListen::PREFERRED, free] {
        if let Ok(bound) = listen::bind(address, KEY, listen::OPTIONAL).await {
            return Ok(Some(bound));
        }
    }
    tracing::warn!("no port of the loopback interface is free for the live page; the run has none");
    Ok(None)
}

/// Tells the feed of the run's state again and again.
async fn look(feed: Arc<Feed>, run: Watched) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        feed.observe(
            run.sessions.len(),
            run.counters.frames.load(Ordering::Relaxed),
            run.counters.updates_tried.load(Ordering::Relaxed),
        );
    }
}
