//! The actors that run in the learner's own process, and a port that only they can use.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use hrm_actor::{ActorOptions, Ending, SessionError, connect::Credentials};
use hrm_common::{config::Config, shutdown::Shutdown, token::Token};
use tch::Device;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    admission::access::Access, training::device_network::DeviceNetwork, transport::server::Door,
};

/// A loopback port for the actors of this process. They connect as all other actors do, but the main port's TLS and
/// tokens do not apply to them. Only a token that never leaves this process gives access.
#[derive(Debug)]
pub(crate) struct LocalDoor {
    address: SocketAddr,
    token: Token,
}

impl LocalDoor {
    /// Opens the port for `actors` actors, with a free port number.
    ///
    /// # Errors
    ///
    /// Returns an error when the loopback interface has no free port.
    pub(crate) async fn open(actors: usize) -> anyhow::Result<(Self, TcpListener, Door)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("opening a port of the loopback interface for local actors")?;
        let token = Token::random();
        let door = Door {
            tls: None,
            access: Arc::new(Access::Only(token.clone())),
            // Each actor needs one connection, and a second while it reconnects and its old one is closing.
            max_connections: 2 * actors,
        };
        let address = listener.local_addr()?;
        Ok((Self { address, token }, listener, door))
    }
}

/// The local actors of a run; each is a task.
#[derive(Debug)]
pub(crate) struct LocalActors {
    tasks: JoinSet<Result<Ending, SessionError>>,
    stop: Shutdown,
}

impl LocalActors {
    /// Starts `learner.local_actors` actors that connect to `door` and act on `device`; without a door it starts none.
    pub(crate) fn start(config: &Config, device: Device, door: Option<LocalDoor>) -> Self {
        let stop = Shutdown::new();
        let mut tasks = JoinSet::new();
        if let Some(LocalDoor { address, token }) = door {
            for index in 0..config.learner.local_actors {
                let options = ActorOptions {
                    learner: format!("http://{address}"),
                    credentials: Credentials::from_token(token.clone()),
                    threads: 1,
                    ..ActorOptions::new(config, format!("local-{index}"))
                };
                let stop = stop.clone();
                match device {
                    Device::Cpu => tasks.spawn(hrm_actor::run(options, stop)),
                    device => {
                        let build = move |parameters| DeviceNetwork::new(parameters, 0, device);
                        tasks.spawn(hrm_actor::run_with(options, build, stop))
                    }
                };
            }
        }
        Self { tasks, stop }
    }

    /// Returns the signal that stops the actors.
    pub(crate) fn stop(&self) -> &Shutdown {
        &self.stop
    }

    /// Stops the actors and waits until they have ended.
    pub(crate) async fn finish(&mut self) {
        self.stop.trip();
        while let Some(actor) = self.tasks.join_next().await {
            match actor {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!(%error, "local actor failed"),
                Err(error) => tracing::error!(%error, "local actor panicked"),
            }
        }
    }
}
