//! The folder of a run, `runs/NAME/`, and who the run is.
//!
//! ```text
//!   config.toml          the effective configuration, with where each value came from
//!   run.json             the run's identity, and how often it was started
//!   metrics.jsonl        one record a line
//!   ledger.jsonl         what became of every frame, a line a session
//!   trained-frames       how many the run was trained on, up to the last batch
//!   checkpoints/         the newest few
//!   owed-evaluations/    weights of evaluations that are still to be made
//!   learning-curve.svg   drawn at the end and on demand
//!   episodes.csv         one line per episode of the final evaluations
//!   summary.json         what came out, written last
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::storage::{
    checkpoint::{CheckpointError, RunState},
    checkpoint_folder, files,
};

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
    pub(crate) fn version_base(&self) -> u64 {
        self.restarts * VERSIONS_PER_START
    }
}

/// Why a run's folder cannot be used.
#[derive(Debug, Error)]
pub(crate) enum RunDirError {
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
    #[error("{path}: {reason}; name a folder that can be written with --run-dir")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// Another process trains in it.
    #[error(
        "{0} is in use by another process; stop that one, or name another folder with --run-dir"
    )]
    Locked(PathBuf),
    /// `run.json` is damaged.
    #[error(
        "{path}: {reason}; remove this file to go on from the newest checkpoint, or the folder to start anew"
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
}

/// An open run folder. Held by one process at a time.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// Who the run is.
    pub identity: Identity,
    _lock: fs::File,
}

impl RunDir {
    /// Locks the folder for this process, making it where it is missing; the lock ends with the file.
    fn lock(path: &Path) -> Result<fs::File, RunDirError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |reason| RunDirError::Io { path, reason }
        };
        fs::create_dir_all(path).map_err(io_error(path))?;
        let lock_path = path.join(".lock");
        let lock = fs::File::create(&lock_path).map_err(io_error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(fs::TryLockError::WouldBlock) => Err(RunDirError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(io_error(&lock_path)(error)),
        }
    }

    /// Locks a folder that no run has begun in, making it where it is missing. The lock ends with the file.
    ///
    /// # Errors
    ///
    /// When it holds a run or its beginnings, is in use, or the file system refuses.
    pub(crate) fn lock_new(path: &Path) -> Result<fs::File, RunDirError> {
        let lock = Self::lock(path)?;
        let begun = path.join("run.json").exists()
            || !checkpoint_folder::list(&path.join("checkpoints"))?.is_empty();
        match begun {
            true => Err(RunDirError::Taken(path.to_owned())),
            false => Ok(lock),
        }
    }

    /// Opens the folder, making it where it is missing. With `resume` the run in it goes on from its
    /// newest checkpoint, or begins when there is none.
    ///
    /// # Errors
    ///
    /// When it holds a run that is not to be resumed, is in use, or the file system refuses.
    pub(crate) fn open(path: &Path, resume: bool) -> Result<Self, RunDirError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |reason| RunDirError::Io { path, reason }
        };
        let lock = Self::lock(path)?;
        let holds_run = !checkpoint_folder::list(&path.join("checkpoints"))?.is_empty();
        let identity_path = path.join("run.json");
        let known: Option<Identity> =
            match fs::read(&identity_path) {
                Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|reason| {
                    RunDirError::Identity {
                        path: identity_path.clone(),
                        reason,
                    }
                })?),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(io_error(&identity_path)(error)),
            };
        if !resume && holds_run {
            return Err(RunDirError::Taken(path.to_owned()));
        }
        let identity = match known {
            Some(old) => Identity {
                restarts: old.restarts + 1,
                ..old
            },
            None => Identity::begin(),
        };
        let this = Self {
            path: path.to_owned(),
            identity,
            _lock: lock,
        };
        this.write_identity()?;
        Ok(this)
    }

    /// Makes sure that a run goes on as what its checkpoint says it is, where `run.json` was lost or is older.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub(crate) fn go_on_from(&mut self, state: &RunState) -> Result<(), RunDirError> {
        if self.identity.restarts > state.restarts {
            return Ok(());
        }
        self.identity = Identity {
            run_id: state.run_id.clone(),
            restarts: state.restarts + 1,
        };
        self.write_identity()
    }

    /// To be done before anything is published: a version that went out must never go out again.
    fn write_identity(&self) -> Result<(), RunDirError> {
        let path = self.file("run.json");
        match serde_json::to_vec(&self.identity) {
            Ok(json) => {
                files::write(&path, json).map_err(|reason| RunDirError::Io { path, reason })
            }
            Err(reason) => Err(RunDirError::Identity { path, reason }),
        }
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where checkpoints go.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for a checkpoint: opening a folder looks at names only.
    fn checkpoint(run: &Path, frames: u64) -> PathBuf {
        let folder = run.join("checkpoints");
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(format!("{frames:012}.safetensors"));
        fs::write(&path, "").expect("a file");
        path
    }

    #[test]
    fn versions_never_repeat_over_restarts() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("runs/new");
        let open = |resume| RunDir::open(&dir, resume).expect("free").identity;
        let first = open(false);
        assert_eq!((first.restarts, first.version_base()), (0, 0));
        // Killed before its first checkpoint: it begins anew, but what it published is out there.
        let second = open(false);
        checkpoint(&dir, 1);
        let third = open(true);
        assert_eq!([second.restarts, third.restarts], [1, 2]);
        assert_eq!([&second.run_id, &third.run_id], [&first.run_id; 2]);
        assert_eq!(second.version_base(), VERSIONS_PER_START);
        assert_eq!(third.version_base(), 2 * VERSIONS_PER_START);
    }

    #[test]
    fn a_run_is_continued_only_when_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        checkpoint(folder.path(), 900);
        checkpoint(folder.path(), 1000);
        let taken = RunDir::open(folder.path(), false).expect_err("it holds a run");
        assert!(matches!(taken, RunDirError::Taken(_)));
        assert!(taken.to_string().contains("--resume"), "{taken}");
        RunDir::open(folder.path(), true).expect("asked for");
    }

    #[test]
    fn resuming_nothing_begins() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::open(folder.path(), true).expect("a new run");
        assert_eq!(run.identity.restarts, 0);
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = RunDir::open(folder.path(), false).expect("free");
        let second = RunDir::open(folder.path(), false).expect_err("in use");
        assert!(matches!(second, RunDirError::Locked(_)));
        assert!(second.to_string().contains("--run-dir"), "{second}");
        let restarts = first.identity.restarts;
        drop(first);
        let third = RunDir::open(folder.path(), false).expect("free again");
        assert_eq!(
            third.identity.restarts,
            restarts + 1,
            "the second left no trace"
        );
    }

    #[test]
    fn a_damaged_identity_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.json");
        fs::write(&path, "{\"run_id\":").expect("a file");
        let error = RunDir::open(folder.path(), true).expect_err("damaged");
        let message = error.to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        assert!(message.contains("start anew"), "{message}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        let error = RunDir::open(&file.join("run"), false).expect_err("no folder");
        assert!(matches!(error, RunDirError::Io { .. }), "{error}");
        assert!(error.to_string().contains("file/run"), "{error}");
    }
}
