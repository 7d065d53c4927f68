//! Binds the addresses that the configuration names.

use std::{io, net::SocketAddr};

use thiserror::Error;
use tokio::net::TcpListener;

use crate::invalid_value::InvalidValue;

/// The error for an address that cannot be bound.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct ListenError(InvalidValue);

/// The hint for an address that the program can do without.
pub const OPTIONAL: &str = "; \"\" switches it off";

/// Binds `address`, which is `key` in the configuration. `hint` ends the remedy of the error. Returns the address with
/// the actual port.
///
/// # Errors
///
/// Fails when the address is in use, is not an address of this machine, or is not allowed.
pub async fn bind(
    address: SocketAddr,
    key: &'static str,
    hint: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let error = |reason: io::Error| {
        let remedy = format!(
            "set {key} to a free address of this machine, or to port 0 for any free port{hint}"
        );
        let reason = format!("cannot listen there ({reason})");
        ListenError(InvalidValue::new(
            key,
            format!("\"{address}\""),
            reason,
            remedy,
        ))
    };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let found = listener.local_addr().map_err(error)?;
    Ok((listener, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_key_and_a_remedy() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (_listener, taken) = bind(any, "x", OPTIONAL).await.expect("a free port");
        assert_ne!(taken.port(), 0);
        let error = bind(taken, "actor.metrics_listen", OPTIONAL)
            .await
            .expect_err("taken");
        let message = error.to_string();
        assert!(message.contains("actor.metrics_listen"), "{message}");
        assert!(message.contains(&taken.to_string()), "{message}");
        assert!(message.contains("remedy: "), "{message}");
        assert!(message.ends_with("switches it off"), "{message}");
        let error = bind(taken, "learner.listen", "").await.expect_err("taken");
        assert!(!error.to_string().contains("off"), "{error}");
    }
}
