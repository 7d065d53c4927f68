//! A value that a configuration cannot hold.

use std::fmt::Display;

use thiserror::Error;

/// A value that the configuration cannot hold, from whichever source.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid {key} = {value}: {reason}\n  remedy: {remedy}")]
pub struct InvalidValue {
    /// The key, as `section.key`.
    pub key: String,
    /// The value as it would stand in a TOML file.
    pub value: String,
    /// The reason why the key cannot have it.
    pub reason: String,
    /// The remedy.
    pub remedy: String,
}

impl InvalidValue {
    /// An invalid value of `section.key`.
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
