//! The errors of a configuration, each with a remedy.

use std::{fmt::Display, io};

use thiserror::Error;

use crate::invalid_value::InvalidValue;

/// The exit status of a process whose configuration is invalid (`EX_USAGE` of sysexits.h).
pub const EXIT_CONFIG: i32 = 64;

/// The error for a configuration that cannot be loaded. The message names the key, the value, the source and a remedy.
/// The process should print it and exit with [`EXIT_CONFIG`].
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(
        "cannot read the configuration file {path}: {reason}\n  remedy: check the path given with \
         --config, and that the file is readable UTF-8 text"
    )]
    Unreadable {
        /// The path of the file, as given.
        path: String,
        /// The operating system's message.
        reason: io::Error,
    },

    /// The file is not TOML.
    #[error("{path} is not valid TOML: {reason}\n  remedy: {remedy}")]
    Malformed {
        /// The path of the file, as given.
        path: String,
        /// The parser's message, with line and column.
        reason: Box<toml::de::Error>,
        /// The remedy.
        remedy: String,
    },

    /// A setting on the command line is not of the form `section.key=value`.
    #[error(
        "{flag} {text:?} is not a setting\n  remedy: write it as {flag} section.key=value, for \
         example {flag} loss.gamma=0.97"
    )]
    NotASetting {
        /// The flag before the setting.
        flag: String,
        /// The text after the flag.
        text: String,
    },

    /// The key does not exist. The remedy names the key that was probably meant, or the existing keys.
    #[error(transparent)]
    UnknownKey(InvalidValue),

    /// The value of a known key has the wrong type, is out of range or contradicts another.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),

    /// The layers could not be merged.
    #[error("cannot merge the layers of the configuration: {0}")]
    Merge(String),
}

impl ConfigError {
    pub(super) fn merge(reason: impl Display) -> Self {
        Self::Merge(reason.to_string())
    }
}
