//! The actors of the learner's own process, and the door that only they pass.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use hrm_actor::{ActorOptions, Ending, SessionError, connect::Credentials};
use hrm_common::{config::Config, shutdown::Shutdown, token::Token};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{admission::access::Access, transport::server::Door};

/// A door on the loopback interface for the actors of this process. They take the same path as all others, whatever
/// the main door asks for. Only a token that never leaves this process passes it.
#[derive(Debug)]
pub(crate) struct LocalDoor {
    address: SocketAddr,
    token: Token,
}

impl LocalDoor {
    /// Opens the door for `actors` actors, on a free port.
    ///
    /// # Errors
    ///
    /// When the loopback interface has no port.
    pub(crate) async fn open(actors: usize) -> anyhow::Result<(Self, TcpListener, Door)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("opening a port of the loopback interface for local actors")?;
        let token = Token::random();
        let door = Door {
            tls: None,
            access: Arc::new(Access::Only(token.clone())),
            // One for each, and one that is being closed while its actor comes back.
            max_connections: 2 * actors,
        };
        let address = listener.local_addr()?;
        Ok((Self { address, token }, listener, door))
    }
}

/// The local actors of a run, each a task.
#[derive(Debug)]
pub(crate) struct LocalActors {
    tasks: JoinSet<Result<Ending, SessionError>>,
    stop: Shutdown,
}

impl LocalActors {
    /// Starts `learner.local_actors` actors behind the door, none without a door.
    pub(crate) fn start(config: &Config, door: Option<LocalDoor>) -> Self {
        let stop = Shutdown::new();
        let mut tasks = JoinSet::new();
        if let Some(LocalDoor { address, token }) = door {
            for index in 0..config.learner.local_actors {
                let options = ActorOptions {
                    learner: format!("http://{address}"),
                    credentials: Credentials::from_token(token.clone()),
                    ..ActorOptions::new(config, format!("local-{index}"))
                };
                tasks.spawn(hrm_actor::run(options, stop.clone()));
            }
        }
        Self { tasks, stop }
    }

    /// Stops them when it trips.
    pub(crate) fn stop(&self) -> &Shutdown {
        &self.stop
    }

    /// Stops them and waits for their end.
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
