//! The ports of a run: the main port, the local actors' port, the health port and the live page's.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hrm_common::{
    config::LearnerConfig,
    health::{self, Health, HealthEndpoint},
    listen,
    reload::Poller,
    shutdown::Shutdown,
};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::transport;

use crate::{
    admission::service::LearnerService,
    run::local_actors::LocalDoor,
    transport::server::{self, Door},
    view::page::{Feed, LivePage, Watched},
};

/// A service that listens on its ports.
#[derive(Debug)]
pub(crate) struct Serving {
    /// Address of the main port, with the actual port number.
    pub(crate) address: SocketAddr,
    /// Token and certificate files of the main port.
    pub(crate) credentials: Poller,
    /// The health state that the ports report.
    pub(crate) health: Health,
    /// The live page.
    pub(crate) page: Option<LivePage>,
    _health_endpoint: Option<HealthEndpoint>,
    servers: JoinSet<Result<(), transport::Error>>,
    stop: Shutdown,
}

impl Serving {
    /// Binds all ports of the configuration and serves on them. The main port follows the rules of `door`. Local actors
    /// get a separate port, which is returned. The live page shows `feed`.
    ///
    /// # Errors
    ///
    /// Returns an error that names the key when an address cannot be bound.
    pub(crate) async fn start(
        config: &LearnerConfig,
        service: LearnerService,
        door: Door,
        feed: Option<Arc<Feed>>,
    ) -> anyhow::Result<(Self, Option<LocalDoor>)> {
        let health = Health::default();
        health.set(health::LEARNER, true).await;
        let health_endpoint = match config.health_listen {
            Some(address) => Some(health.listen(address, "learner.health_listen").await?),
            None => None,
        };
        let (listener, address) =
            listen::bind(config.listen, "learner.listen", "; --listen sets it").await?;
        let page = match feed {
            Some(feed) => {
                let watched = Watched {
                    sessions: service.admission.sessions.clone(),
                    counters: service.counters.clone(),
                };
                LivePage::open(config, feed, door.access.clone(), watched).await?
            }
            None => None,
        };
        let mut files = door.files();
        files.extend(page.iter().flat_map(LivePage::files));
        let mut serving = Self {
            address,
            credentials: Poller::start(files),
            health,
            page,
            _health_endpoint: health_endpoint,
            servers: JoinSet::new(),
            stop: Shutdown::new(),
        };
        let local = match config.local_actors {
            0 => None,
            actors => {
                let (local, listener, door) = LocalDoor::open(actors).await?;
                let mut service = service.clone();
                service.admission.access = door.access.clone();
                serving.serve(service, listener, door);
                Some(local)
            }
        };
        serving.serve(service, listener, door);
        Ok((serving, local))
    }

    fn serve(&mut self, service: LearnerService, listener: TcpListener, door: Door) {
        let (health, stop) = (self.health.clone(), self.stop.clone());
        self.servers
            .spawn(server::serve(service, health, listener, door, stop));
    }

    /// Stops serving. Connections that are still open one second after the deadline are closed.
    pub(crate) async fn close(&mut self, deadline: Instant) {
        self.stop.trip();
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(1);
        let served = async {
            while let Some(served) = self.servers.join_next().await {
                match served {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "service failed"),
                    Err(error) => tracing::error!(%error, "service panicked"),
                }
            }
        };
        if tokio::time::timeout(left, served).await.is_err() {
            tracing::warn!("connections were still open at the drain deadline; closing them");
            self.servers.abort_all();
        }
    }
}
