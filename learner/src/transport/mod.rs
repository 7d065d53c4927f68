//! Transport: from a socket to a call.
//!
//! ```text
//!   listener   accepts connections within the limit, and closes idle ones
//!   tls        encrypts them, with certificates that reload
//!   server     HTTP/2 limits, tokens, and the services behind them
//!   certs      makes certificates and tokens to try TLS with
//! ```

pub mod certs;
pub mod listener;
pub mod server;
pub mod tls;
