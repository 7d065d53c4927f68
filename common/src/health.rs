//! The gRPC health service (`grpc.health.v1.Health`), and the client for a container's health check.
//!
//! The service named `""` is serving while the process runs, for liveness probes. The services [`LEARNER`] and
//! [`JOINED`] are serving while the process can do its work, for readiness probes.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Server};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, health_check_response, health_client::HealthClient,
        health_server::HealthServer,
    },
    server::{HealthReporter, HealthService},
};

use crate::{
    connections::{Connection, Connections, HEADERS, Limits, STREAMS},
    listen::{self, ListenError},
    refusal::causes,
};

/// The service that is serving while a learner accepts actors.
pub const LEARNER: &str = "hrm.v1.Learner";
/// The service that is serving while an actor is joined to its learner.
pub const JOINED: &str = "joined";

/// Time limit for the connection and for the answer of a health check.
const PATIENCE: Duration = Duration::from_secs(5);

/// Limit of a health check's message, in bytes. It holds the name of a service.
const REQUEST: usize = 16 << 10;

/// Interval of the HTTP/2 keep-alive pings, and time limit for their answers. Both together are below the port's idle
/// timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// The health of a process, by service. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Health(HealthReporter);

impl Health {
    /// Sets the state of `service`.
    pub async fn set(&self, service: &str, serving: bool) {
        let status = match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        self.0.set_service_status(service, status).await;
    }

    /// Returns the gRPC service, to add to a server.
    pub fn service(&self) -> HealthServer<HealthService> {
        let service = HealthService::from_health_reporter(self.0.clone());
        HealthServer::new(service).max_decoding_message_size(REQUEST)
    }

    /// Serves the health service alone at `address`, which is `key` in the configuration. Probes then need no access
    /// to the port for actors. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails when the address cannot be bound.
    pub async fn listen(
        &self,
        address: SocketAddr,
        key: &'static str,
    ) -> Result<HealthEndpoint, ListenError> {
        let (listener, address) = listen::bind(address, key, listen::OPTIONAL).await?;
        let connections = Connections::new(listener, key, Limits::SIDE_PORT);
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .max_concurrent_streams(STREAMS)
            .http2_max_header_list_size(HEADERS)
            .add_service(self.service())
            .serve_with_incoming(stream(connections));
        let task = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "health service failed");
            }
        });
        tracing::info!(%address, "serving health");
        Ok(HealthEndpoint { address, task })
    }
}

/// Returns a stream of the accepted connections. Accepting ends when the stream is dropped.
fn stream(mut connections: Connections) -> ReceiverStream<io::Result<Connection>> {
    let (sender, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = connections.next() => accepted,
                () = sender.closed() => return,
            };
            if let Ok(connection) = accepted {
                // The connection closes if the service has ended.
                drop(sender.send(Ok(connection)).await);
            }
        }
    });
    ReceiverStream::new(stream)
}

/// A health service with its own address. It stops when dropped.
#[derive(Debug)]
pub struct HealthEndpoint {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl HealthEndpoint {
    /// The address of the service, with the actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HealthEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The result of a failed health check.
#[derive(Debug, Error)]
pub enum Unhealthy {
    /// No server answers.
    #[error("no health service answers at {address}: {reason}")]
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// The transport's message, with its causes.
        reason: String,
    },
    /// The server does not know the service, or its answer is an error.
    #[error("the health check of {service:?} at {address} failed with {}: {}", .status.code(), .status.message())]
    Refused {
        /// The name of the service.
        service: String,
        /// The address.
        address: SocketAddr,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// The server answers that the service is not serving.
    #[error("{service:?} is not serving at {address}")]
    NotServing {
        /// The name of the service.
        service: String,
        /// The address.
        address: SocketAddr,
    },
}

/// Checks that `service` is serving, in the process whose configuration names `address`.
///
/// # Errors
///
/// Fails when the service is not serving or the process does not answer.
pub async fn check(address: SocketAddr, service: &str) -> Result<(), Unhealthy> {
    let address = reachable(address);
    let unreachable = |error: tonic::transport::Error| Unhealthy::Unreachable {
        address,
        reason: causes(&error),
    };
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(unreachable)?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE)
        .connect()
        .await
        .map_err(unreachable)?;
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(channel)
        .check(request)
        .await
        .map_err(|status| Unhealthy::Refused {
            service: service.to_owned(),
            address,
            status: Box::new(status),
        })?;
    match answer.into_inner().status() {
        health_check_response::ServingStatus::Serving => Ok(()),
        _ => Err(Unhealthy::NotServing {
            service: service.to_owned(),
            address,
        }),
    }
}

/// Returns the address at which this machine reaches a server that listens on `address`. It is the loopback address for
/// a server that listens on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_health_check_returns_the_state_that_was_set() {
        let health = Health::default();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let endpoint = health.listen(any, "x").await.expect("a free port");
        let address = endpoint.address();
        assert_ne!(address.port(), 0);

        check(address, "").await.expect("it lives");
        let unknown = check(address, JOINED).await.expect_err("not known yet");
        assert!(matches!(unknown, Unhealthy::Refused { .. }), "{unknown}");
        health.set(JOINED, false).await;
        let not_yet = check(address, JOINED).await.expect_err("not joined");
        assert!(matches!(not_yet, Unhealthy::NotServing { .. }), "{not_yet}");
        health.set(JOINED, true).await;
        check(address, JOINED).await.expect("joined");
    }

    #[tokio::test]
    async fn an_address_without_a_listener_is_unhealthy() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, address) = listen::bind(any, "x", listen::OPTIONAL)
            .await
            .expect("a free port");
        drop(listener);
        let error = check(address, "").await.expect_err("nobody there");
        assert!(matches!(error, Unhealthy::Unreachable { .. }), "{error}");
    }
}
