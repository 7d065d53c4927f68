//! Files that a configuration names: certificates, keys, tokens.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file that the configuration names and that cannot be used. Holds nothing of the file's content.
#[derive(Debug, Clone, Error)]
#[error("{key} = \"{}\": {reason}\n  remedy: {remedy}", .path.display())]
pub struct FileError {
    key: &'static str,
    path: PathBuf,
    reason: String,
    remedy: String,
}

impl FileError {
    /// What is wrong with the file at `path`, which `key` names, and what to do about it.
    pub fn new(
        key: &'static str,
        path: &Path,
        reason: impl ToString,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            key,
            path: path.to_owned(),
            reason: reason.to_string(),
            remedy: remedy.into(),
        }
    }

    /// The key that names the file.
    pub fn key(&self) -> &'static str {
        self.key
    }
}

/// Reads the file at `path`, which `key` names.
///
/// # Errors
///
/// Fails when it cannot be read.
pub fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|reason| {
        let remedy = "name a file that this process may read, or \"\" for none";
        FileError::new(key, path, reason, remedy)
    })
}

/// A path, or `""` for none: TOML has no null.
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
