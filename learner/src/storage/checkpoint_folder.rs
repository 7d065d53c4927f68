//! The checkpoints of a run: `checkpoints/FRAMES.safetensors`, of which the newest few are kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use hrm_common::{config::Config, model::Parameters, telemetry::names};

use crate::storage::{
    checkpoint::{self, Checkpoint, CheckpointError, Moments, RunState, io_error},
    files,
};

/// Extension of a checkpoint's file name, which begins with the frame count.
const ENDING: &str = "safetensors";

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
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let path = folder.join(format!("{:012}.{ENDING}", state.frames));
    checkpoint::write(&path, config, state, parameters, moments)?;
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
    let others = list(folder).map(|mut others| {
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
        removed => removed.map_err(io_error(&old)).err(),
    };
    old.filter_map(remove).collect()
}

/// Returns the temporary files of incomplete checkpoints. Only the folder's writer may call this: another process may
/// still complete its files.
fn leftovers(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let entry = entry.map_err(io_error(folder))?;
        let name = entry.file_name();
        let of_checkpoint = files::temporary_of(&name).and_then(|name| frames_of(Path::new(name)));
        found.extend(of_checkpoint.map(|_| entry.path()));
    }
    Ok(found)
}

/// Returns the complete checkpoints in a folder, oldest first; empty when the folder does not exist.
///
/// # Errors
///
/// Returns an error when the folder cannot be read or is a dangling link. An unmounted disk is not a folder without
/// checkpoints.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_symlink() => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(io_error(folder))?,
    };
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error(folder))?.path();
        found.extend(frames_of(&path).map(|frames| (frames, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Returns the frame count in the name of a complete checkpoint, and `None` for any other file.
pub(super) fn frames_of(path: &Path) -> Option<u64> {
    let frames = path.file_stem()?.to_str()?.parse().ok()?;
    (path.extension()? == ENDING).then_some(frames)
}

/// Returns the newest checkpoint of a run's folder or of a checkpoints folder, or the file itself.
///
/// # Errors
///
/// Returns an error when no checkpoint exists.
pub fn find(place: &Path) -> Result<PathBuf, CheckpointError> {
    let newest = candidates(place)?.pop();
    newest.ok_or_else(|| CheckpointError::None(place.to_owned()))
}

/// Returns all checkpoints of a place, as in [`find`], oldest first.
fn candidates(place: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    for folder in [place.join("checkpoints"), place.to_owned()] {
        match list(&folder) {
            Ok(found) if found.is_empty() => {}
            // A component of the path is a file, so the place is not a run's folder.
            Err(CheckpointError::Io { reason, .. })
                if reason.kind() == io::ErrorKind::NotADirectory => {}
            found => return found,
        }
    }
    Ok(Vec::new())
}

/// Returns the newest valid checkpoint of a place, as in [`find`], and the errors of damaged newer ones. A run may
/// train in the folder meanwhile.
///
/// # Errors
///
/// Returns an error when no checkpoint exists. When all are damaged, returns the error of the newest. Also returns an
/// error when a checkpoint cannot be read for another reason, such as missing permissions or another release. That
/// reason may pass, or someone can correct it.
pub fn newest(place: &Path) -> Result<(Checkpoint, Vec<CheckpointError>), CheckpointError> {
    newest_by(place, Checkpoint::read)
}

/// [`newest`] with a function that reads a listed file.
pub(super) fn newest_by(
    place: &Path,
    mut read: impl FnMut(&Path) -> Result<Checkpoint, CheckpointError>,
) -> Result<(Checkpoint, Vec<CheckpointError>), CheckpointError> {
    'listing: loop {
        let mut damaged = Vec::new();
        for path in candidates(place)?.iter().rev() {
            match read(path) {
                Ok(checkpoint) => return Ok((checkpoint, damaged)),
                Err(error) if error.is_damage() => damaged.push(error),
                // The run has removed this file since the listing, and has a newer one.
                Err(error) if error.is_gone() => continue 'listing,
                Err(error) => return Err(error),
            }
        }
        return match damaged.is_empty() {
            true => Err(CheckpointError::None(place.to_owned())),
            false => Err(damaged.swap_remove(0)),
        };
    }
}

/// Returns the checkpoint in `folder` from which a run resumes, or `None` without checkpoints. Renames newer damaged
/// checkpoints; otherwise the run would keep them as its newest.
///
/// # Errors
///
/// Returns the errors of [`newest`], or an error of the file system.
pub fn resume(folder: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
    let all = list(folder)?;
    if all.is_empty() {
        return Ok(None);
    }
    let (checkpoint, damaged) = newest(folder)?;
    for (path, error) in all.iter().rev().zip(&damaged) {
        let aside = path.with_extension(DAMAGED);
        fs::rename(path, &aside).map_err(io_error(path))?;
        tracing::warn!(%error, moved_to = %aside.display(), "a damaged checkpoint; resuming from the previous one");
    }
    let metadata = checkpoint.path.metadata();
    if let Ok(written) = metadata.and_then(|metadata| metadata.modified()) {
        set_gauges(checkpoint.state.frames, written);
    }
    Ok(Some(checkpoint))
}
