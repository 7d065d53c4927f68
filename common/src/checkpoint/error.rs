//! The error for a checkpoint.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    invalid_value::InvalidValue,
    model::{LoadError, state::StateError},
};

/// Errors of writing or reading a checkpoint.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file system reported an error.
    #[error("{path}: {reason}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's message.
        reason: io::Error,
    },
    /// No checkpoint exists.
    #[error(
        "{0}: holds no checkpoint; give a run's folder, its checkpoints folder, or a .safetensors file"
    )]
    None(PathBuf),
    /// The file is not a safetensors file, or is damaged.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The fault in the file.
        reason: StateError,
    },
    /// The file is a safetensors file, but not a checkpoint of this program.
    #[error("{path}: not a checkpoint of this program: {what}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The missing or unreadable part.
        what: String,
    },
    /// The content differs from what was written.
    #[error("{0}: its checksum does not match: it was damaged after it was written")]
    Checksum(PathBuf),
    /// The tensors do not fit the model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No run can have the stored configuration.
    #[error(
        "{path}: invalid {} = {} in its configuration: {}\n  remedy: use a checkpoint that this program wrote",
        .fault.key, .fault.value, .fault.reason
    )]
    Configuration {
        /// The file.
        path: PathBuf,
        /// The invalid value.
        fault: Box<InvalidValue>,
    },
}

impl CheckpointError {
    /// Returns the conversion of an error of the file system, for a file or folder.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { path, reason }
    }

    /// Returns true when the file is damaged, so that reading it again cannot succeed.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Format { .. } | Self::Checksum(_))
    }

    /// Returns true when a listed file no longer exists, because a run removed its old checkpoints.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Io { path, reason } => {
                // A dangling link remains in the list.
                reason.kind() == io::ErrorKind::NotFound && !path.is_symlink()
            }
            _ => false,
        }
    }
}
