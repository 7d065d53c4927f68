//! What can be wrong with a configuration, and what to do about it.

use std::{fmt::Display, io};

use thiserror::Error;

/// The exit status of a process whose configuration is wrong (`EX_USAGE` of sysexits.h).
pub const EXIT_CONFIG: i32 = 64;

/// Why a configuration could not be loaded. Every message names the key, the value, where the value
/// came from and a remedy; the process should print it and exit with [`EXIT_CONFIG`].
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(
        "cannot read the configuration file {path}: {reason}\n  remedy: check the path given with \
         --config, and that the file is readable UTF-8 text"
    )]
    Unreadable {
        /// The file as it was named.
        path: String,
        /// What the operating system said.
        reason: io::Error,
    },

    /// The file is not TOML.
    #[error("{path} is not valid TOML: {reason}\n  remedy: {remedy}")]
    Malformed {
        /// The file as it was named.
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
        /// The flag that introduced it.
        flag: String,
        /// What was given.
        text: String,
    },

    /// There is no such key.
    #[error("invalid {key} = {value} (from {origin}): unknown key\n  remedy: {remedy}")]
    UnknownKey {
        /// The key, as `section.key`.
        key: String,
        /// The value given to it.
        value: String,
        /// Where it was given: a file, a variable or a flag.
        origin: String,
        /// The key that was probably meant, or the keys there are.
        remedy: String,
    },

    /// The value of a known key has the wrong type, is out of range or contradicts another.
    #[error("invalid {key} = {value} (from {origin}): {reason}\n  remedy: {remedy}")]
    Invalid {
        /// The key, as `section.key`.
        key: String,
        /// The value given to it.
        value: String,
        /// Where it was given: `default`, a file, a variable, a flag, a preset or a maze.
        origin: String,
        /// Why it cannot be.
        reason: String,
        /// What to do instead.
        remedy: String,
    },

    /// The layers could not be laid over each other.
    #[error("the layers of the configuration cannot be merged: {0}")]
    Merge(String),
}

impl ConfigError {
    pub(super) fn merge(reason: impl Display) -> Self {
        Self::Merge(reason.to_string())
    }
}
