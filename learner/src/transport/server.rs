//! The gRPC server: what stands between a socket and the service.
//!
//! ```text
//!   listener: places, silence, TLS --> HTTP/2: keep-alive, windows, streams --access--> service
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

/// A connection on which nothing arrives for so long is closed. A live peer answers the keep-alive well before; this
/// is for those that never get as far as speaking HTTP/2, and for those that do not read.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection on which nothing has arrived yet is closed after so long.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// Who is let in at a door, and how.
#[derive(Debug)]
pub struct Door {
    /// Encryption; `None` for plaintext.
    pub tls: Option<Tls>,
    /// Tokens.
    pub access: Arc<Access>,
    /// Connections at a time.
    pub max_connections: usize,
}

impl Door {
    /// The one that the configuration describes, for so many connections.
    ///
    /// # Errors
    ///
    /// When a file that it names cannot be used.
    pub fn new(config: &LearnerConfig, max_connections: usize) -> Result<Self, FileError> {
        Ok(Self {
            tls: tls::from_config(config)?,
            access: Arc::new(Access::new(config)?),
            max_connections,
        })
    }

    /// The files of tokens and certificates that it uses.
    pub fn files(&self) -> Vec<Arc<dyn Refresh>> {
        let mut files = self.access.files();
        files.extend(self.tls.clone().map(|tls| tls as Arc<dyn Refresh>));
        files
    }
}

/// Connections that the main port may hold: those of the configuration, or as many as the file descriptors of this
/// process allow.
///
/// # Errors
///
/// When they allow none.
pub fn max_connections(config: &LearnerConfig) -> anyhow::Result<usize> {
    let descriptors =
        Descriptors::of_process().context("counting the open files of this process")?;
    // Each local actor has a connection with two ends, and another one while it reconnects.
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

/// Serves at one door until `stop` trips.
///
/// # Errors
///
/// When the transport fails.
pub async fn serve(
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
        silence: SILENCE,
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
