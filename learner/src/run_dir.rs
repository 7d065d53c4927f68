//! The folder of a run, `runs/NAME/`, and who the run is.
//!
//! ```text
//!   config.toml          the effective configuration, with where each value came from
//!   run.json             the run's identity, and how often it was started
//!   metrics.jsonl        one record a line
//!   checkpoints/         the newest few
//!   learning-curve.svg   drawn at the end and on demand
//!   summary.json         what came out
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checkpoint::{self, CheckpointError};

/// Versions of the weights that one start of the learner may use. A restart goes on in the next block,
/// so that a version never repeats, whatever was published after the last checkpoint, and what is still
/// in flight is older than any bound on the policy lag.
const VERSIONS_PER_START: u64 = 1 << 32;

/// Who a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Random, drawn when the run began.
    pub run_id: String,
    /// How often the learner was started on it before.
    pub restarts: u64,
}

impl Identity {
    /// A run that begins now.
    pub fn begin() -> Self {
        Self {
            run_id: format!("{:016x}", rand::random::<u64>()),
            restarts: 0,
        }
    }

    /// The version that stands for no update in this start of the learner.
    pub fn version_base(&self) -> u64 {
        self.restarts * VERSIONS_PER_START
    }
}

/// Why a run's folder cannot be used.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// It holds a run, and nobody said to resume it.
    #[error(
        "{0} already holds a run: add --resume to continue it, name another folder with --run-dir, or \
         remove it"
    )]
    Taken(PathBuf),
    /// The file system refused, or a checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process trains in it.
    #[error(
        "{0} is in use by another process; stop that one, or name another folder with --run-dir"
    )]
    Locked(PathBuf),
    /// `run.json` is damaged.
    #[error("{path}: {source}; remove the folder to start anew")]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// An open run folder. Held by one process at a time.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Who the run is.
    pub identity: Identity,
    /// The newest checkpoint, when the run is resumed from one.
    pub newest_checkpoint: Option<PathBuf>,
    _lock: fs::File,
}

impl RunDir {
    /// Opens the folder, making it where it is missing. With `resume` the run in it goes on from its
    /// newest checkpoint, or begins when there is none.
    ///
    /// # Errors
    ///
    /// When it holds a run that is not to be resumed, is in use, or the file system refuses.
    pub fn open(path: &Path, resume: bool) -> Result<Self, RunDirError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| RunDirError::Io { path, source }
        };
        fs::create_dir_all(path).map_err(io_error(path))?;
        let lock_path = path.join(".lock");
        let lock = fs::File::create(&lock_path).map_err(io_error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(RunDirError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => return Err(io_error(&lock_path)(source)),
        }

        let newest_checkpoint = checkpoint::list(&path.join("checkpoints"))?.pop();
        let identity_path = path.join("run.json");
        let known: Option<Identity> =
            match fs::read(&identity_path) {
                Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|source| {
                    RunDirError::Identity {
                        path: identity_path.clone(),
                        source,
                    }
                })?),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(io_error(&identity_path)(source)),
            };
        if !resume && newest_checkpoint.is_some() {
            return Err(RunDirError::Taken(path.to_owned()));
        }
        let identity = match known {
            Some(old) => Identity {
                restarts: old.restarts + 1,
                ..old
            },
            None => Identity::begin(),
        };
        let json = serde_json::to_vec(&identity).map_err(|source| RunDirError::Identity {
            path: identity_path.clone(),
            source,
        })?;
        // Before anything is published: a version that went out must never go out again.
        checkpoint::write_atomically(&identity_path, &json)?;
        Ok(Self {
            path: path.to_owned(),
            identity,
            newest_checkpoint,
            _lock: lock,
        })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where checkpoints go.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }
}
