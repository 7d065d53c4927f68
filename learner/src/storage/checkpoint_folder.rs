//! The checkpoints of a run: `checkpoints/FRAMES.safetensors`, of which the newest few are kept. A file is written
//! atomically, so a file with a checkpoint's name is complete.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use hrm_common::{
    checkpoint::{self, Checkpoint, CheckpointError, Moments, RunState, frames_of},
    config::Config,
    model::Parameters,
    telemetry::names,
};

use crate::storage::files;

/// Extension of a damaged checkpoint's name, once a valid one to resume from exists.
pub(super) const DAMAGED: &str = "damaged";

/// Writes a checkpoint into `folder`. Returns its path.
///
/// # Errors
///
/// Returns an error of the file system.
pub fn save(
    folder: &Path,
    config: &Config,
    state: &RunState,
    parameters: &Parameters,
    moments: Moments<Vec<f32>>,
) -> Result<PathBuf, CheckpointError> {
    fs::create_dir_all(folder).map_err(CheckpointError::io(folder))?;
    let path = folder.join(checkpoint::file_name(state.frames));
    let bytes = checkpoint::encode(&path, config, state, parameters, Some(moments))?;
    files::write(&path, bytes).map_err(CheckpointError::io(&path))?;
    set_gauges(state.frames, SystemTime::now());
    Ok(path)
}

/// Sets the gauges of the newest checkpoint.
fn set_gauges(frames: u64, written: SystemTime) {
    names::LEARNER_CHECKPOINT_FRAMES.get().set(frames as f64);
    if let Ok(written) = written.duration_since(UNIX_EPOCH) {
        names::LEARNER_CHECKPOINT_TIME
            .get()
            .set(written.as_secs_f64());
    }
}

/// Removes old checkpoints and the temporary files of killed processes. Keeps the one just `written` and the newest
/// `keep - 1` others. Returns the errors of files that cannot be removed.
pub(crate) fn prune(folder: &Path, keep: usize, written: &Path) -> Vec<CheckpointError> {
    let others = checkpoint::list(folder).map(|mut others| {
        // The checkpoint just written is kept, even if others have more frames.
        others.retain(|other| other != written);
        others.truncate(others.len().saturating_sub(keep.max(1) - 1));
        others
    });
    let old = match others.and_then(|others| Ok((others, leftovers(folder)?))) {
        Ok((others, leftovers)) => others.into_iter().chain(leftovers),
        Err(error) => return vec![error],
    };
    let remove = |old: PathBuf| match fs::remove_file(&old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        removed => removed.map_err(CheckpointError::io(&old)).err(),
    };
    old.filter_map(remove).collect()
}

/// Returns the temporary files of incomplete checkpoints. Only the folder's writer may call this: another process may
/// still complete its files.
fn leftovers(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(CheckpointError::io(folder))? {
        let entry = entry.map_err(CheckpointError::io(folder))?;
        let name = entry.file_name();
        let of_checkpoint = files::temporary_of(&name).and_then(|name| frames_of(Path::new(name)));
        found.extend(of_checkpoint.map(|_| entry.path()));
    }
    Ok(found)
}

/// Returns the checkpoint in `folder` from which a run resumes, or `None` without checkpoints. Renames newer damaged
/// checkpoints; otherwise the run would keep them as its newest.
///
/// # Errors
///
/// Returns the errors of [`checkpoint::newest`], or an error of the file system.
pub fn resume(folder: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
    let all = checkpoint::list(folder)?;
    if all.is_empty() {
        return Ok(None);
    }
    let (checkpoint, damaged) = checkpoint::newest(folder)?;
    for (path, error) in all.iter().rev().zip(&damaged) {
        let aside = path.with_extension(DAMAGED);
        fs::rename(path, &aside).map_err(CheckpointError::io(path))?;
        tracing::warn!(%error, moved_to = %aside.display(), "a damaged checkpoint; resuming from the previous one");
    }
    let metadata = checkpoint.path.metadata();
    if let Ok(written) = metadata.and_then(|metadata| metadata.modified()) {
        set_gauges(checkpoint.state.frames, written);
    }
    Ok(Some(checkpoint))
}
