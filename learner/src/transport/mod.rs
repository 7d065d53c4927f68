//! Transport: accepts sockets and turns them into gRPC calls.
//!
//! ```text
//!   listener   accepts connections within the limit, and closes idle ones
//!   tls        encrypts them, with certificates that reload
//!   server     HTTP/2 limits, tokens, and the services behind them
//!   certs      creates certificates and tokens for trying TLS
//! ```

pub mod certs;
pub(crate) mod listener;
pub(crate) mod server;
pub(crate) mod tls;
