//! The gRPC server: what stands between a socket and the service.
//!
//! ```text
//!   listener: places, silence, TLS --> HTTP/2: keep-alive, windows, streams --access--> service
//! ```

use std::{sync::Arc, time::Duration};

use axum::middleware;
use hrm_common::{
    config::{FileError, LearnerConfig},
    health::Health,
    shutdown::Shutdown,
};
use hrm_proto::v1::{self, learner_server::LearnerServer};
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{self, Server},
};

use crate::{
    access::{self, Access},
    listener,
    service::LearnerService,
    tls::{self, Tls},
};

/// HTTP/2 asks a connection for a sign of life this often, and closes it when none comes within as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A connection on which nothing arrives for so long is closed. A live peer answers the keep-alive well before; this
/// is for those that never get as far as speaking HTTP/2, and for those that do not read.
const SILENCE: Duration = Duration::from_secs(60);

/// Calls of one connection at a time. An actor makes two, an upload and a subscription; each may make the
/// learner hold one message.
const STREAMS: u32 = 8;

/// Bytes of the headers of one call: ours are a token and a few names.
const HEADERS: u32 = 16 << 10;

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
    /// The one that the configuration describes.
    ///
    /// # Errors
    ///
    /// When a file that it names cannot be used.
    pub fn of(config: &LearnerConfig) -> Result<Self, FileError> {
        Ok(Self {
            tls: tls::of(config)?,
            access: Arc::new(Access::of(config)?),
            max_connections: config.max_connections,
        })
    }
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
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADERS)
        // An unroll of the small model is 1.1 to 1.3 MB with its carry in f32: let one travel without
        // waiting for window updates.
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(4 << 20)
        .add_routes(router.into())
        .serve_with_incoming_shutdown(
            listener::accept(listener, door.tls, door.max_connections, SILENCE),
            async move { stop.tripped().await },
        )
        .await
}
