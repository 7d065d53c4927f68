//! The error for an invalid value of the configuration.

use std::fmt::Display;

use thiserror::Error;

/// An invalid value of the configuration, without its source.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid {key} = {value}: {reason}\n  remedy: {remedy}")]
pub struct InvalidValue {
    /// The key, as `section.key`.
    pub key: String,
    /// The value in TOML notation.
    pub value: String,
    /// The reason why the value is invalid.
    pub reason: String,
    /// The remedy.
    pub remedy: String,
}

impl InvalidValue {
    /// Returns the error for a value of `section.key`.
    pub fn new(
        key: impl Into<String>,
        value: impl Display,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            value: value.to_string(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}
