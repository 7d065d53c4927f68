//! Checkpoints: one safetensors file each, atomic, the newest few kept.
//!
//! A file holds the model's tensors by name, the optimiser's two running means, and as metadata the
//! configuration and the state of the run as JSON, and a checksum over all of it. It is written by
//! [`files::write`], so a file with a checkpoint's name is complete; whether it still is what was written, the
//! checksum says.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use hrm_common::{
    config::{Config, ConfigError, Saved, SavedUse},
    env::CurriculumState,
    model::{
        Hrm, LoadError, ModelConfigError,
        state::{self, StateError},
    },
};
use rand_xoshiro::Xoshiro256PlusPlus;
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tch::{Device, Tensor};
use thiserror::Error;

use crate::{files, optimizer::Adam};

/// Ending of a checkpoint's file name; what stands before it is the frame count.
const ENDING: &str = "safetensors";
/// Metadata keys.
const CONFIG: &str = "hrm.config";
const STATE: &str = "hrm.state";
const CHECKSUM: &str = "hrm.sha256";
/// Ending of the name of one that is damaged, once there is a sound one to go on from.
const DAMAGED: &str = "damaged";
/// Names of the optimiser's tensors; no tensor of the model has such a name.
const MEAN: &str = "optimizer.mean";
const SQUARE: &str = "optimizer.square";

/// Where a run stands, besides its tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunState {
    /// Identifies the run across restarts.
    pub run_id: String,
    /// How often the learner had been started on it before.
    #[serde(default)]
    pub restarts: u64,
    /// Environment steps trained on.
    pub frames: u64,
    /// Optimiser steps.
    pub updates: u64,
    /// Steps that the optimiser's bias correction counts.
    pub optimizer_steps: u64,
    /// Sessions opened so far.
    pub sessions_joined: u64,
    /// Seconds of training so far, over all restarts, as [`TrainingClock`](crate::training_clock::TrainingClock) counts
    /// them.
    pub seconds: f64,
    /// Level and outcomes of the distance curriculum.
    pub curriculum: CurriculumState,
    /// The generator that shuffles minibatches.
    pub rng: Xoshiro256PlusPlus,
}

/// A checkpoint that was read.
#[derive(Debug)]
pub struct Checkpoint {
    /// The configuration that the run had.
    pub config: Config,
    /// Where the run stood.
    pub state: RunState,
    /// The file that it was read from.
    pub path: PathBuf,
    tensors: Vec<(String, Tensor)>,
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("{path}: {reason}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// There is none.
    #[error(
        "{0}: holds no checkpoint; give a run's folder, its checkpoints folder, or a .safetensors file"
    )]
    None(PathBuf),
    /// The file is no safetensors file, or is damaged.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: StateError,
    },
    /// The file is safetensors, but no checkpoint of ours.
    #[error("{path}: no checkpoint of this program: {what}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing or unreadable.
        what: String,
    },
    /// It is not what was written.
    #[error("{0}: its checksum does not match: it was damaged after it was written")]
    Checksum(PathBuf),
    /// The tensors do not fit the model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model of the stored configuration cannot be built.
    #[error(transparent)]
    Model(#[from] ModelConfigError),
}

impl CheckpointError {
    /// True when the file is not what was written, and never will be again.
    fn is_damage(&self) -> bool {
        matches!(self, Self::Format { .. } | Self::Checksum(_))
    }

    /// True when a file of this name was listed and is there no more, as when a run removes its old checkpoints.
    fn is_gone(&self) -> bool {
        match self {
            Self::Io { path, reason } => {
                // A link to nothing stays in the list.
                reason.kind() == io::ErrorKind::NotFound && !path.is_symlink()
            }
            _ => false,
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |reason| CheckpointError::Io { path, reason }
}

/// Writes a checkpoint into `folder`. Returns its path.
///
/// # Errors
///
/// When the file system refuses.
pub fn save(
    folder: &Path,
    config: &Config,
    state: &RunState,
    model: &Hrm,
    optimizer: &Adam,
) -> Result<PathBuf, CheckpointError> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let path = folder.join(format!("{:012}.{ENDING}", state.frames));
    let json = |what: serde_json::Result<String>| {
        what.map_err(|e| CheckpointError::Foreign {
            path: path.clone(),
            what: e.to_string(),
        })
    };
    let mut metadata = HashMap::from([
        (CONFIG.to_owned(), json(serde_json::to_string(config))?),
        (STATE.to_owned(), json(serde_json::to_string(state))?),
    ]);
    let mut tensors = model.named_tensors();
    let (_, mean, square) = optimizer.state();
    tensors.push((MEAN.to_owned(), mean.shallow_clone()));
    tensors.push((SQUARE.to_owned(), square.shallow_clone()));
    let body = state::encode_named(&tensors, None);
    let body = SafeTensors::deserialize(&body).map_err(|error| CheckpointError::Format {
        path: path.clone(),
        reason: error.into(),
    })?;
    metadata.insert(CHECKSUM.to_owned(), checksum(&metadata, &body));
    let bytes = state::encode_named(&tensors, Some(metadata));

    files::write(&path, &bytes).map_err(io_error(&path))?;
    Ok(path)
}

/// Removes all checkpoints of `folder` but the one just `written` and the newest `keep - 1` others, and what a killed
/// process left of others. Returns what could not be removed.
pub fn prune(folder: &Path, keep: usize, written: &Path) -> Vec<CheckpointError> {
    let others = list(folder).map(|mut others| {
        // However many frames the others have: what was just written is what there is to keep.
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

/// Temporary files of checkpoints that were never completed. Only the writer of the folder may ask: another's may be
/// completed yet.
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

/// SHA-256 over configuration, state, and every tensor by name, shape, kind and bytes, in hexadecimal.
fn checksum(metadata: &HashMap<String, String>, tensors: &SafeTensors) -> String {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // With its length, so that nothing can move from one part to the next.
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for key in [CONFIG, STATE] {
        part(metadata.get(key).map_or(&[], |text| text.as_bytes()));
    }
    let mut all = tensors.tensors();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, tensor) in &all {
        part(name.as_bytes());
        part(format!("{:?} {:?}", tensor.dtype(), tensor.shape()).as_bytes());
        part(tensor.data());
    }
    let digest: [u8; 32] = hasher.finalize().into();
    digest.map(|byte| format!("{byte:02x}")).concat()
}

/// Complete checkpoints in a folder, oldest first; empty when the folder does not exist.
///
/// # Errors
///
/// When the folder cannot be read, or is a link to something that is not there: a disk that is not mounted is no
/// folder without checkpoints.
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

/// The frames that the name of a complete checkpoint says; `None` for every other file.
fn frames_of(path: &Path) -> Option<u64> {
    let frames = path.file_stem()?.to_str()?.parse().ok()?;
    (path.extension()? == ENDING).then_some(frames)
}

/// The newest checkpoint of a run's folder, a checkpoints folder, or the file itself.
///
/// # Errors
///
/// When there is none.
pub fn find(place: &Path) -> Result<PathBuf, CheckpointError> {
    let newest = candidates(place)?.pop();
    newest.ok_or_else(|| CheckpointError::None(place.to_owned()))
}

/// All checkpoints of a place, as [`find`] has it, oldest first.
fn candidates(place: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    for folder in [place.join("checkpoints"), place.to_owned()] {
        match list(&folder) {
            Ok(found) if found.is_empty() => {}
            // A file on the way to it: no run's folder.
            Err(CheckpointError::Io { reason, .. })
                if reason.kind() == io::ErrorKind::NotADirectory => {}
            found => return found,
        }
    }
    Ok(Vec::new())
}

/// The newest checkpoint of a place, as [`find`] has it, that can be read whole; and what is wrong with those that
/// are newer. A run may train there meanwhile.
///
/// # Errors
///
/// When there is none, or all of them are damaged: the error of the newest, then. When one cannot be read for another
/// reason, which may pass or be somebody's to mend, such as missing permissions or another release.
pub fn newest(place: &Path) -> Result<(Checkpoint, Vec<CheckpointError>), CheckpointError> {
    newest_by(place, Checkpoint::read)
}

/// [`newest`], by this way of reading a file that was listed.
fn newest_by(
    place: &Path,
    mut read: impl FnMut(&Path) -> Result<Checkpoint, CheckpointError>,
) -> Result<(Checkpoint, Vec<CheckpointError>), CheckpointError> {
    'listing: loop {
        let mut damaged = Vec::new();
        for path in candidates(place)?.iter().rev() {
            match read(path) {
                Ok(checkpoint) => return Ok((checkpoint, damaged)),
                Err(error) if error.is_damage() => damaged.push(error),
                // The run has removed it since, and has a newer one.
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

/// The checkpoint in `folder` that a run goes on from; `None` when there is none at all. Damaged ones that are newer
/// are moved out of the way, or the run would keep them as its newest.
///
/// # Errors
///
/// As [`newest`], or when the file system refuses.
pub fn resume(folder: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
    let all = list(folder)?;
    if all.is_empty() {
        return Ok(None);
    }
    let (checkpoint, damaged) = newest(folder)?;
    for (path, error) in all.iter().rev().zip(&damaged) {
        let aside = path.with_extension(DAMAGED);
        fs::rename(path, &aside).map_err(io_error(path))?;
        tracing::warn!(%error, moved_to = %aside.display(), "a damaged checkpoint; going on from the one before");
    }
    Ok(Some(checkpoint))
}

impl Checkpoint {
    /// Reads a checkpoint file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is damaged, or is something else.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = fs::read(path).map_err(io_error(path))?;
        let format = |reason| CheckpointError::Format {
            path: path.to_owned(),
            reason,
        };
        let broken = |e: SafeTensorError| format(e.into());
        let tensors = SafeTensors::deserialize(&bytes).map_err(broken)?;
        let metadata = SafeTensors::read_metadata(&bytes)
            .map_err(broken)?
            .1
            .metadata()
            .clone()
            .unwrap_or_default();
        let part = |key: &str| {
            metadata.get(key).ok_or_else(|| CheckpointError::Foreign {
                path: path.to_owned(),
                what: format!("no {key} in its metadata"),
            })
        };
        if *part(CHECKSUM)? != checksum(&metadata, &tensors) {
            return Err(CheckpointError::Checksum(path.to_owned()));
        }
        let unreadable = |what: &str, e: serde_json::Error| CheckpointError::Foreign {
            path: path.to_owned(),
            what: format!("{what} in its metadata: {e}"),
        };
        Ok(Self {
            config: serde_json::from_str(part(CONFIG)?).map_err(|e| unreadable(CONFIG, e))?,
            state: serde_json::from_str(part(STATE)?).map_err(|e| unreadable(STATE, e))?,
            tensors: state::decode(&bytes).map_err(format)?,
            path: path.to_owned(),
        })
    }

    /// Its configuration as a layer under those of this process.
    ///
    /// # Errors
    ///
    /// When it cannot be written as TOML.
    pub fn saved(&self, usage: SavedUse) -> Result<Saved, ConfigError> {
        Saved::new(&self.config, &self.path, usage)
    }

    /// The model, with the stored weights.
    ///
    /// # Errors
    ///
    /// When the stored configuration and tensors do not belong together.
    pub fn model(&self, device: Device) -> Result<Hrm, CheckpointError> {
        let mut model = Hrm::new(&self.config.model, self.config.env.grid(), 0, device)?;
        self.restore_model(&mut model)?;
        Ok(model)
    }

    /// Puts the stored weights into a model.
    ///
    /// # Errors
    ///
    /// When the model is of another shape.
    pub fn restore_model(&self, model: &mut Hrm) -> Result<(), CheckpointError> {
        let of_model: Vec<(String, Tensor)> = self
            .tensors
            .iter()
            .filter(|(name, _)| name != MEAN && name != SQUARE)
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        Ok(model.load(&of_model)?)
    }

    /// Puts the stored running means into an optimiser.
    ///
    /// # Errors
    ///
    /// When they are missing.
    pub fn restore_optimizer(&self, optimizer: &mut Adam) -> Result<(), CheckpointError> {
        let tensor = |wanted: &str| {
            let found = self.tensors.iter().find(|(name, _)| name == wanted);
            found.map(|(_, t)| t).ok_or_else(|| LoadError::Missing {
                name: wanted.to_owned(),
            })
        };
        let (mean, square) = (tensor(MEAN)?, tensor(SQUARE)?);
        for (name, found) in [(MEAN, mean), (SQUARE, square)] {
            let (expected, found) = (optimizer.state().1.size(), found.size());
            if expected != found {
                return Err(LoadError::Shape {
                    name: name.to_owned(),
                    expected,
                    found,
                }
                .into());
            }
        }
        optimizer.restore(self.state.optimizer_steps, mean, square);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::{env::DistanceCurriculum, model::ModelConfig};
    use rand::SeedableRng as _;
    use tch::Kind;

    use super::*;

    fn config(hidden: usize) -> Config {
        Config {
            model: ModelConfig {
                hidden,
                inter_multiple: 8,
                ..ModelConfig::small()
            },
            ..Config::default()
        }
    }

    fn state_at(frames: u64) -> RunState {
        let config = config(8);
        RunState {
            run_id: "0123".into(),
            restarts: 0,
            frames,
            updates: 7,
            optimizer_steps: 2,
            sessions_joined: 3,
            seconds: 0.1 + 0.2,
            curriculum: DistanceCurriculum::new(&config.curriculum, &config.env)
                .expect("one")
                .state(),
            rng: Xoshiro256PlusPlus::seed_from_u64(u64::MAX),
        }
    }

    /// A model and an optimiser that made two steps.
    fn trained(config: &Config) -> (Hrm, Adam) {
        let grid = config.env.grid();
        let model = Hrm::new(&config.model, grid, 1, Device::Cpu).expect("a model");
        let parameters = model.flat_parameters();
        let mut adam = Adam::new(config.optimizer.clone(), parameters);
        let n = parameters.numel() as i64;
        let gradient = Tensor::arange(n, (Kind::Float, Device::Cpu)).sin();
        for _ in 0..2 {
            adam.step(parameters, &gradient, 0.01);
        }
        (model, adam)
    }

    fn saved(folder: &Path, frames: u64, keep: usize) -> PathBuf {
        let config = config(8);
        let (model, adam) = trained(&config);
        let path = save(folder, &config, &state_at(frames), &model, &adam).expect("room");
        let left = prune(folder, keep, &path);
        assert!(left.is_empty(), "{left:?}");
        path
    }

    fn floats(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor).expect("floats")
    }

    #[test]
    fn what_was_saved_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = saved(folder.path(), 12, 1);
        let config = config(8);
        let (model, adam) = trained(&config);
        let read = Checkpoint::read(&path).expect("sound");
        assert_eq!(read.config, config);
        let json = |state: &RunState| serde_json::to_value(state).expect("JSON");
        assert_eq!(json(&read.state), json(&state_at(12)));
        let copy = read.model(Device::Cpu).expect("its model");
        assert_eq!(state::encode(&copy), state::encode(&model));
        let mut restored = Adam::new(config.optimizer, copy.flat_parameters());
        read.restore_optimizer(&mut restored).expect("its means");
        let ((steps, mean, square), (_, mean2, square2)) = (adam.state(), restored.state());
        assert_eq!(restored.state().0, steps);
        assert_eq!(floats(mean), floats(mean2));
        assert_eq!(floats(square), floats(square2));
        assert!(floats(mean).iter().any(|&m| m != 0.0));
    }

    #[test]
    fn only_the_newest_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        // More digits than the name has room for still sort by number.
        let frames = [5, 64, 1_000, 2_000_000_000_000];
        let paths = frames.map(|frames| saved(folder.path(), frames, 2));
        assert_eq!(list(folder.path()).expect("a folder"), paths[2..]);
        let left = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 2, "and nothing beside them");
    }

    #[test]
    fn it_is_found_by_run_by_folder_and_by_file() {
        let run = tempfile::tempdir().expect("a folder");
        let folder = run.path().join("checkpoints");
        saved(&folder, 1, 9);
        let newest = saved(&folder, 2, 9);
        for place in [run.path(), &folder, &newest] {
            assert_eq!(find(place).expect("there"), newest);
        }
        let empty = tempfile::tempdir().expect("a folder");
        for place in [empty.path(), &empty.path().join("missing")] {
            assert!(matches!(find(place), Err(CheckpointError::None(_))));
        }
    }

    #[test]
    fn what_a_crash_left_behind_is_no_checkpoint() {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = saved(folder.path(), 1, 9);
        let half = ".000000000002.safetensors.a1B2c3.tmp";
        // The last two are somebody else's.
        let others = [
            "notes.safetensors",
            "000000000003.txt",
            "000000000002.tmp",
            ".notes.a1B2c3.tmp",
        ];
        for name in others.iter().chain([&half]) {
            fs::write(folder.path().join(name), "half").expect("a file");
        }
        assert_eq!(find(folder.path()).expect("the whole one"), whole);
        // The next save clears up after it.
        let next = saved(folder.path(), 2, 9);
        assert!(!folder.path().join(half).exists());
        for name in others {
            assert!(folder.path().join(name).exists(), "{name}");
        }
        assert!(Checkpoint::read(&next).is_ok());
    }

    #[test]
    fn what_cannot_be_removed_is_named_and_the_new_checkpoint_stands() {
        let folder = tempfile::tempdir().expect("a folder");
        let stuck = folder.path().join("000000000001.safetensors");
        // Nobody can remove a folder as a file.
        fs::create_dir(&stuck).expect("a folder");
        let removed = saved(folder.path(), 2, 9);
        let config = config(8);
        let (model, adam) = trained(&config);
        let written = save(folder.path(), &config, &state_at(3), &model, &adam).expect("room");
        let errors = prune(folder.path(), 1, &written);
        assert!(
            matches!(&errors[..], [CheckpointError::Io { path, .. }] if *path == stuck),
            "{errors:?}"
        );
        assert!(!removed.exists(), "the others are removed all the same");
        assert_eq!(newest(folder.path()).expect("sound").0.state.frames, 3);
        let gone = folder.path().join("gone");
        assert_eq!(prune(&gone, 1, &gone.join("1.safetensors")).len(), 1);
    }

    /// A run that keeps one checkpoint removes under its reader's hands what that has just listed.
    #[test]
    fn a_reader_beside_a_run_that_keeps_one_checkpoint_never_fails() {
        use std::sync::atomic::{AtomicBool, Ordering};

        const SAVES_SEEN: usize = 30;
        let run = tempfile::tempdir().expect("a folder");
        let folder = run.path().join("checkpoints");
        saved(&folder, 1, 1);
        let done = AtomicBool::new(false);
        let (frames, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut frames = 1;
                while !done.load(Ordering::Relaxed) {
                    frames += 1;
                    saved(&folder, frames, 1);
                }
                frames
            });
            let mut frames = vec![];
            let read = loop {
                match newest(run.path()) {
                    Ok((read, damaged)) if damaged.is_empty() => frames.push(read.state.frames),
                    unsound => break Err(unsound),
                }
                frames.dedup();
                if frames.len() == SAVES_SEEN {
                    break Ok(frames);
                }
            };
            // Whatever was found, or the writer would never end.
            done.store(true, Ordering::Relaxed);
            (read, writer.join().expect("the writer"))
        });
        let frames = frames.expect("a checkpoint, always");
        assert!(frames.is_sorted() && *frames.last().expect("reads") <= written);
    }

    #[test]
    fn a_checkpoint_that_is_removed_after_it_was_listed_has_a_newer_one() {
        let run = tempfile::tempdir().expect("a folder");
        let folder = run.path().join("checkpoints");
        saved(&folder, 1, 1);
        for place in [run.path(), &folder] {
            let mut listed = Vec::new();
            let read = newest_by(place, |path| {
                listed.push(path.to_owned());
                // The run saves another between the listing and the reading, once.
                if listed.len() == 1 {
                    let frames = frames_of(path).expect("a checkpoint's name");
                    saved(&folder, frames + 1, 1);
                }
                Checkpoint::read(path)
            });
            let (read, damaged) = read.expect("the newer one");
            assert!(damaged.is_empty(), "{damaged:?}");
            assert_eq!(listed.len(), 2, "{listed:?}");
            assert_eq!(frames_of(&listed[1]), Some(read.state.frames));
        }
    }

    #[test]
    fn a_link_to_nothing_is_an_error_and_not_a_reason_to_look_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("000000000009.safetensors");
        std::os::unix::fs::symlink(folder.path().join("gone"), &link).expect("a link");
        let error = newest(folder.path()).expect_err("nothing there");
        assert!(error.to_string().contains("000000000009"), "{error}");
    }

    /// One byte of the file's last tensor is another.
    fn damage(path: &Path) {
        let mut bytes = fs::read(path).expect("a file");
        *bytes.last_mut().expect("not empty") ^= 1;
        fs::write(path, bytes).expect("a file");
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = saved(folder.path(), 1, 1);
        let whole = fs::read(&path).expect("a file");
        for at in (0..whole.len()).step_by(97) {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            fs::write(&path, &bytes).expect("a file");
            // White space between the parts of its header is the one thing that may change.
            if let Ok(read) = Checkpoint::read(&path) {
                fs::write(&path, &whole).expect("a file");
                let sound = Checkpoint::read(&path).expect("sound");
                let model =
                    |c: &Checkpoint| state::encode(&c.model(Device::Cpu).expect("its model"));
                assert_eq!(model(&read), model(&sound), "byte {at}");
            }
        }
    }

    #[test]
    fn a_run_goes_on_from_the_newest_sound_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = [1, 2, 3].map(|frames| saved(folder.path(), frames, 9));
        damage(&paths[2]);
        let (read, damaged) = newest(folder.path()).expect("two are sound");
        assert_eq!(read.state.frames, 2);
        assert!(matches!(&damaged[..], [CheckpointError::Checksum(path)] if *path == paths[2]));
        assert_eq!(
            list(folder.path()).expect("a folder"),
            paths,
            "only looked at"
        );

        let resumed = resume(folder.path()).expect("two are sound");
        assert_eq!(resumed.expect("a checkpoint").state.frames, 2);
        assert_eq!(list(folder.path()).expect("a folder"), paths[..2]);
        assert!(
            paths[2].with_extension(DAMAGED).exists(),
            "for whoever wants to look at it"
        );
        // The next ones are kept, where they would have been older than the damaged one.
        let next = saved(folder.path(), 3, 2);
        assert_eq!(find(folder.path()).expect("there"), next);
    }

    #[test]
    fn where_none_is_sound_nothing_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(resume(folder.path()).expect("empty").is_none());
        let paths = [1, 2].map(|frames| saved(folder.path(), frames, 9));
        paths.iter().for_each(|path| damage(path));
        let error = resume(folder.path()).expect_err("all damaged");
        assert!(
            matches!(&error, CheckpointError::Checksum(path) if *path == paths[1]),
            "{error}"
        );
        assert_eq!(
            list(folder.path()).expect("a folder"),
            paths,
            "left as they are"
        );
    }

    #[test]
    fn what_is_damaged_or_foreign_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = fs::read(saved(folder.path(), 1, 1)).expect("a file");
        let model = trained(&config(8)).0;
        let metadata = |json: &str, with_checksum: bool| {
            let mut all = HashMap::from([
                (CONFIG.to_owned(), json.to_owned()),
                (STATE.to_owned(), json.to_owned()),
            ]);
            if with_checksum {
                let body = state::encode(&model);
                let body = SafeTensors::deserialize(&body).expect("tensors");
                all.insert(CHECKSUM.to_owned(), checksum(&all, &body));
            }
            state::encode_named(&model.named_tensors(), Some(all))
        };
        for (content, part) in [
            (Vec::new(), "damaged"),
            (b"not a checkpoint at all".to_vec(), "damaged"),
            (bytes[..bytes.len() - 1].to_vec(), "damaged"),
            (bytes[..100].to_vec(), "damaged"),
            ([&bytes[..], b"x"].concat(), "damaged"),
            (state::encode(&model), "no checkpoint of this program"),
            (metadata("{}", false), "no hrm.sha256 in its metadata"),
            (metadata("{}", true), "hrm.config in its metadata"),
        ] {
            let path = folder.path().join("suspect.safetensors");
            fs::write(&path, content).expect("a file");
            let message = Checkpoint::read(&path).expect_err("bad").to_string();
            assert!(message.contains(part), "{part:?} in {message}");
            assert!(message.contains("suspect.safetensors"), "{message}");
        }
        let missing = Checkpoint::read(&folder.path().join("gone")).expect_err("missing");
        assert!(matches!(missing, CheckpointError::Io { .. }), "{missing}");
    }

    #[test]
    fn another_model_takes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = Checkpoint::read(&saved(folder.path(), 1, 1)).expect("sound");
        let (mut wider, mut adam) = trained(&config(16));
        let before = state::encode(&wider);
        let error = read.restore_model(&mut wider).expect_err("wider");
        assert!(matches!(error, CheckpointError::Load(_)), "{error}");
        assert_eq!(state::encode(&wider), before);
        let error = read.restore_optimizer(&mut adam).expect_err("wider");
        assert!(error.to_string().contains(MEAN), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_looked_at_is_no_folder_without_checkpoints() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("checkpoints");
        assert!(resume(&at).expect("nothing there").is_none());
        // A disk that is not mounted.
        std::os::unix::fs::symlink(folder.path().join("disk"), &at).expect("a link");
        let error = resume(&at).expect_err("who knows what is there");
        assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
        fs::create_dir(folder.path().join("disk")).expect("mounted");
        assert!(resume(&at).expect("nothing there").is_none());
    }

    #[test]
    fn what_cannot_be_read_is_not_what_is_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        saved(folder.path(), 100, 9);
        let newest = saved(folder.path(), 200, 9);
        // Neither root nor anybody else can read a folder as a file.
        fs::remove_file(&newest).expect("removed");
        fs::create_dir(&newest).expect("a folder");
        let error = resume(folder.path()).expect_err("it may be sound");
        assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
        assert!(newest.exists(), "nothing is moved aside");
    }

    #[test]
    fn what_was_just_written_stays_whatever_else_there_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let later = [700, 800].map(|frames| saved(folder.path(), frames, 9));
        let written = saved(folder.path(), 100, 2);
        let left = [written, later[1].clone()];
        assert_eq!(list(folder.path()).expect("a folder"), left);
    }
}
