//! Files that a configuration names: certificates, keys, tokens.

use std::path::Path;

use thiserror::Error;

use crate::invalid_value::InvalidValue;

/// The error for an unusable file that the configuration names. It contains nothing of the file's content.
#[derive(Debug, Clone, Error)]
#[error(transparent)]
pub struct FileError(InvalidValue);

impl FileError {
    /// Returns the error for the file at `path`, which `key` names, with a reason and a remedy.
    pub fn new(
        key: &'static str,
        path: &Path,
        reason: impl ToString,
        remedy: impl Into<String>,
    ) -> Self {
        let value = format!("\"{}\"", path.display());
        Self(InvalidValue::new(key, value, reason.to_string(), remedy))
    }
}

/// Reads the file at `path`, which `key` names.
///
/// # Errors
///
/// Fails when the file cannot be read.
pub fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|reason| {
        let remedy = "set it to a file that this process can read, or to \"\" for none";
        FileError::new(key, path, reason, remedy)
    })
}

/// Reads and writes an optional path. `""` means none, because TOML has no null.
pub(super) mod or_none {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer, ser};

    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => match path.to_str() {
                Some(path) => serializer.serialize_str(path),
                None => Err(ser::Error::custom(format!("{path:?} is not UTF-8"))),
            },
            None => serializer.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok((!text.is_empty()).then(|| text.into()))
    }
}
