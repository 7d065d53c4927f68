//! The error for an invalid value of the configuration.

use std::fmt::{self, Display};

use thiserror::Error;

/// An invalid value of the configuration. The message names the key, the value, its source, the reason and a remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct InvalidValue {
    /// The key, as `section.key`.
    pub key: String,
    /// The value in TOML notation.
    pub value: String,
    /// The source: `default`, a file, a variable, a flag, a preset or a maze. `None` where it is not known.
    pub origin: Option<Box<str>>,
    /// The reason why the value is invalid.
    pub reason: String,
    /// The remedy.
    pub remedy: String,
}

impl InvalidValue {
    /// Returns the error for a value of `section.key` from an unknown source.
    pub fn new(
        key: impl Into<String>,
        value: impl Display,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            value: value.to_string(),
            origin: None,
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    /// Adds the source of the value.
    #[must_use]
    pub fn from_origin(self, origin: impl Into<Box<str>>) -> Self {
        Self {
            origin: Some(origin.into()),
            ..self
        }
    }
}

impl Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            value,
            origin,
            reason,
            remedy,
        } = self;
        write!(f, "invalid {key} = {value}")?;
        if let Some(origin) = origin {
            write!(f, " (from {origin})")?;
        }
        write!(f, ": {reason}\n  remedy: {remedy}")
    }
}
