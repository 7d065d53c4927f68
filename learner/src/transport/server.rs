//! The gRPC server. Enforces the connection limit, idle timeout, TLS, HTTP/2 limits and per-method tokens.
//!
//! ```text
//!   listener: limit, idle timeout, TLS --> HTTP/2: keep-alive, windows, streams --access--> service
//! ```

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::middleware;
use hrm_common::{
    config::{FileError, LearnerConfig},
    connections::{Connections, HEADERS, Limits, STREAMS},
    descriptors::Descriptors,
    health::Health,
    http2,
    reload::Refresh,
    shutdown::Shutdown,
};
use hrm_proto::v1::{self, learner_server::LearnerServer};
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{self, Server},
};

use crate::{
    admission::{
        access::{self, Access},
        service::LearnerService,
    },
    transport::{
        listener,
        tls::{self, Tls},
    },
};

/// Idle timeout of a connection. A live peer answers the keep-alive much earlier. The timeout closes connections that
/// never reach HTTP/2, and those that do not read.
const SILENCE: Duration = Duration::from_secs(60);

/// Longest time until the first byte of a connection arrives.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// Access rules of a port.
#[derive(Debug)]
pub(crate) struct Door {
    /// TLS; `None` for plaintext.
    pub tls: Option<Tls>,
    /// The tokens that the port accepts.
    pub access: Arc<Access>,
    /// Connection limit.
    pub max_connections: usize,
}

impl Door {
    /// Creates the rules that the configuration describes, with a connection limit.
    ///
    /// # Errors
    ///
    /// Returns an error when a file that the configuration names cannot be used.
    pub(crate) fn new(config: &LearnerConfig, max_connections: usize) -> Result<Self, FileError> {
        Ok(Self {
            tls: tls::from_config(config)?,
            access: Arc::new(Access::new(config)?),
            max_connections,
        })
    }

    /// Returns the files of tokens and certificates that the port uses.
    pub(crate) fn files(&self) -> Vec<Arc<dyn Refresh>> {
        let mut files = self.access.files();
        files.extend(self.tls.clone().map(|tls| tls as Arc<dyn Refresh>));
        files
    }
}

/// Returns the connection limit of the main port: the configured one, or as many as this process's file descriptors
/// allow.
///
/// # Errors
///
/// Returns an error when the descriptors allow no connection.
pub(crate) fn max_connections(config: &LearnerConfig) -> anyhow::Result<usize> {
    let descriptors =
        Descriptors::from_process().context("counting the open files of this process")?;
    // Each local actor has a connection with two ends, and a second connection while it reconnects.
    let possible = descriptors.for_connections(4 * config.local_actors)?;
    if possible < config.max_connections {
        tracing::warn!(
            connections = possible,
            max_connections = config.max_connections,
            ulimit = descriptors.limit,
            "learner.max_connections is out of reach: the limit for open files (ulimit -n) is too low for it and for \
             what is kept for checkpoints"
        );
    }
    Ok(possible.min(config.max_connections))
}

/// Serves at one port until `stop` trips.
///
/// # Errors
///
/// Returns an error when the transport fails.
pub(crate) async fn serve(
    service: LearnerService,
    health: Health,
    listener: TcpListener,
    door: Door,
    stop: Shutdown,
) -> Result<(), transport::Error> {
    let limit = service.admission.expectation.max_message_size();
    let learner = LearnerServer::new(service).max_decoding_message_size(limit);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let reflection = reflection.expect("the descriptors were compiled with this program");
    let router = Routes::new(health.service())
        .add_service(reflection)
        .add_service(learner)
        .into_axum_router()
        .layer(middleware::from_fn_with_state(door.access, access::guard));
    let limits = Limits {
        most: door.max_connections,
        first_byte: FIRST_BYTE,
        silence: Some(SILENCE),
        stall: SILENCE,
    };
    let connections = Connections::new(listener, "learner.listen", limits);
    Server::builder()
        .http2_keepalive_interval(Some(http2::KEEP_ALIVE))
        .http2_keepalive_timeout(Some(http2::KEEP_ALIVE))
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADERS)
        .initial_stream_window_size(http2::STREAM_WINDOW)
        .initial_connection_window_size(http2::CONNECTION_WINDOW)
        .add_routes(router.into())
        .serve_with_incoming_shutdown(listener::accept(connections, door.tls), async move {
            stop.tripped().await
        })
        .await
}
