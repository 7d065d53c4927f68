//! The folder of a run, `runs/NAME/`, and the run's identity.
//!
//! ```text
//!   config.toml          the effective configuration, with the source of each value
//!   run.json             the run's identity, and the number of its starts
//!   metrics.jsonl        one record per line
//!   events.out.tfevents.0000000000.hrm-learner    the same records for TensorBoard
//!   ledger.jsonl         frame accounting, one line per session
//!   trained-frames       number of frames that the run was trained on, up to the last batch
//!   checkpoints/         the newest few
//!   owed-evaluations/    weights of evaluations that are not made yet
//!   learning-curve.svg   drawn at the end and on demand
//!   replay.html          the final agent in held-out mazes, for a browser
//!   episodes.csv         one line per episode of the final evaluations
//!   summary.json         the result, written last
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hrm_common::checkpoint::{self, CheckpointError, RunState};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::storage::files;

/// Number of versions per start of the learner. A restart uses the next block, so a version never repeats, even if some
/// were published after the last checkpoint. Unrolls from before the restart then exceed every limit of the policy lag.
const VERSIONS_PER_START: u64 = 1 << 32;

/// Name of the file with the run's identity.
pub(crate) const IDENTITY: &str = "run.json";
/// Name of the folder of the checkpoints.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// Name of the folder with weights of evaluations that are not made yet.
pub(crate) const OWED: &str = "owed-evaluations";

/// The identity of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Random identifier, drawn at the run's first start.
    pub run_id: String,
    /// Number of earlier starts of the learner on this run.
    pub restarts: u64,
}

impl Identity {
    /// Creates the identity of a new run.
    pub(crate) fn begin() -> Self {
        Self {
            run_id: format!("{:016x}", rand::random::<u64>()),
            restarts: 0,
        }
    }

    /// Returns the identity in a run's folder, or `None` if no run has begun there.
    ///
    /// # Errors
    ///
    /// Returns an error when the file is damaged or cannot be read.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, RunDirError> {
        let path = folder.join(IDENTITY);
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(identity) => Ok(Some(identity)),
                Err(reason) => Err(RunDirError::Identity { path, reason }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(reason) => Err(RunDirError::Io { path, reason }),
        }
    }

    /// Returns the first version of this start of the learner.
    pub(crate) fn version_base(&self) -> u64 {
        self.restarts * VERSIONS_PER_START
    }
}

/// Errors that prevent the use of a run's folder.
#[derive(Debug, Error)]
pub(crate) enum RunDirError {
    /// The folder holds a run, and `--resume` is not given.
    #[error(
        "{0} already holds a run: add --resume to continue it, name another folder with --run-dir, or \
         remove it"
    )]
    Taken(PathBuf),
    /// The file system reported an error, or a checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file system reported an error.
    #[error("{path}: {reason}; name a folder that can be written with --run-dir")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's message.
        reason: io::Error,
    },
    /// Another process trains in the folder.
    #[error(
        "{0} is in use by another process; stop that one, or name another folder with --run-dir"
    )]
    Locked(PathBuf),
    /// `run.json` is damaged.
    #[error(
        "{path}: {reason}; remove this file to resume from the newest checkpoint, or the folder to start a new run"
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// The fault in the file.
        reason: serde_json::Error,
    },
}

/// A run's folder that this process has locked. The lock ends when the file is closed.
#[derive(Debug)]
pub(crate) struct LockedFolder {
    path: PathBuf,
    _lock: fs::File,
}

impl LockedFolder {
    /// Locks the folder for this process; creates it if missing.
    ///
    /// # Errors
    ///
    /// Returns an error when the folder is in use, or the file system fails.
    pub(crate) fn new(path: &Path) -> Result<Self, RunDirError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |reason| RunDirError::Io { path, reason }
        };
        fs::create_dir_all(path).map_err(io_error(path))?;
        let lock_path = path.join(".lock");
        let lock = fs::File::create(&lock_path).map_err(io_error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(RunDirError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(io_error(&lock_path)(error)),
        }
    }

    /// Locks a folder in which no run has begun; creates it if missing.
    ///
    /// # Errors
    ///
    /// Returns an error when the folder holds a run or parts of one, is in use, or the file system fails.
    pub(crate) fn without_run(path: &Path) -> Result<Self, RunDirError> {
        let lock = Self::new(path)?;
        let begun =
            path.join(IDENTITY).exists() || !checkpoint::list(&path.join(CHECKPOINTS))?.is_empty();
        match begun {
            true => Err(RunDirError::Taken(path.to_owned())),
            false => Ok(lock),
        }
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// An open run folder, which one process at a time can hold.
#[derive(Debug)]
pub(crate) struct RunDir {
    folder: LockedFolder,
    /// The run's identity.
    pub identity: Identity,
}

impl RunDir {
    /// Opens the folder. With `resume` the run in it resumes from its newest checkpoint, or begins if it has none.
    ///
    /// # Errors
    ///
    /// Returns an error when the folder holds a run but `resume` is false, or the file system fails.
    pub(crate) fn open(folder: LockedFolder, resume: bool) -> Result<Self, RunDirError> {
        let path = folder.path();
        let holds_run = !checkpoint::list(&path.join(CHECKPOINTS))?.is_empty();
        let known = Identity::read(path)?;
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
        Ok(Self { folder, identity })
    }

    /// Begins a start of the run: writes `run.json` and `config.toml`. This must precede all publishing, because a
    /// published version must never be published again. The identity comes from the checkpoint, if `run.json` was lost
    /// or is older.
    ///
    /// # Errors
    ///
    /// Returns an error of the file system.
    pub(crate) fn begin(
        &mut self,
        checkpoint: Option<&RunState>,
        config: &str,
    ) -> Result<(), RunDirError> {
        if let Some(state) = checkpoint
            && self.identity.restarts <= state.restarts
        {
            self.identity = Identity {
                run_id: state.run_id.clone(),
                restarts: state.restarts + 1,
            };
        }
        let path = self.file(IDENTITY);
        let identity = match serde_json::to_vec(&self.identity) {
            Ok(json) => json,
            Err(reason) => return Err(RunDirError::Identity { path, reason }),
        };
        for (path, content) in [
            (path, identity),
            (self.file("config.toml"), config.as_bytes().to_vec()),
        ] {
            files::write(&path, content).map_err(|reason| RunDirError::Io { path, reason })?;
        }
        Ok(())
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Returns the folder of the checkpoints.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path().join(CHECKPOINTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_folder(path: &Path, resume: bool) -> Result<RunDir, RunDirError> {
        RunDir::open(LockedFolder::new(path)?, resume)
    }

    /// Writes a stand-in for a checkpoint: opening a folder reads only names.
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
        let open = |resume| {
            let mut run = open_folder(&dir, resume).expect("free");
            run.begin(None, "").expect("room");
            run.identity
        };
        let first = open(false);
        assert_eq!((first.restarts, first.version_base()), (0, 0));
        // The run was killed before its first checkpoint. It begins again, but its published versions still exist.
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
        let taken = open_folder(folder.path(), false).expect_err("it holds a run");
        assert!(matches!(taken, RunDirError::Taken(_)));
        assert!(taken.to_string().contains("--resume"), "{taken}");
        open_folder(folder.path(), true).expect("asked for");
    }

    #[test]
    fn resuming_in_an_empty_folder_begins_a_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = open_folder(folder.path(), true).expect("a new run");
        assert_eq!(run.identity.restarts, 0);
    }

    #[test]
    fn a_folder_belongs_to_one_process_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = open_folder(folder.path(), false).expect("free");
        first.begin(None, "").expect("room");
        let second = open_folder(folder.path(), false).expect_err("in use");
        assert!(matches!(second, RunDirError::Locked(_)));
        assert!(second.to_string().contains("--run-dir"), "{second}");
        let restarts = first.identity.restarts;
        drop(first);
        let third = open_folder(folder.path(), false).expect("free again");
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
        let error = open_folder(folder.path(), true).expect_err("damaged");
        let message = error.to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        assert!(message.contains("start a new run"), "{message}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        let error = open_folder(&file.join("run"), false).expect_err("no folder");
        assert!(matches!(error, RunDirError::Io { .. }), "{error}");
        assert!(error.to_string().contains("file/run"), "{error}");
    }
}
