//! The checkpoints of a run's folder: `checkpoints/FRAMES.safetensors`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{error::CheckpointError, file::Checkpoint};

/// Extension of a checkpoint's file name, which begins with the frame count.
const ENDING: &str = "safetensors";

/// Returns the name of the checkpoint after `frames` frames.
pub fn file_name(frames: u64) -> String {
    format!("{frames:012}.{ENDING}")
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
        entries => entries.map_err(CheckpointError::io(folder))?,
    };
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry.map_err(CheckpointError::io(folder))?.path();
        found.extend(frames_of(&path).map(|frames| (frames, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Returns the frame count in the name of a complete checkpoint, and `None` for any other file.
pub fn frames_of(path: &Path) -> Option<u64> {
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
