//! A checkpoint: one safetensors file.
//!
//! A file holds the model's tensors by name, the optimiser's two running means, and as metadata the configuration and
//! the state of the run as JSON, and a checksum over all of it. It is written atomically, so a file with a checkpoint's
//! name is complete. The checksum says whether it is still what was written.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use hrm_common::{
    checksum::{FieldHasher, hex},
    config::{Config, ConfigError, Saved, SavedUse},
    env::CurriculumState,
    invalid_value::InvalidValue,
    model::{
        Hrm, LoadError,
        state::{self, StateError},
    },
};
use rand_xoshiro::Xoshiro256PlusPlus;
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};
use thiserror::Error;

use crate::storage::files;

/// Metadata keys.
pub(super) const CONFIG: &str = "hrm.config";
pub(super) const STATE: &str = "hrm.state";
pub(super) const CHECKSUM: &str = "hrm.sha256";
/// Names of the optimiser's tensors; no tensor of the model has such a name.
pub(super) const MEAN: &str = "optimizer.mean";
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
    /// Seconds of training so far, over all restarts, as [`TrainingClock`](crate::run::training_clock::TrainingClock) counts
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

/// What Adam keeps between steps: f32 `[n]` each, in the order of the flat parameters.
#[derive(Debug, Clone, Copy)]
pub struct Moments<T> {
    /// The running mean of the gradient.
    pub mean: T,
    /// The running mean of its square.
    pub square: T,
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
    Model(#[from] InvalidValue),
}

impl CheckpointError {
    /// True when the file is not what was written, and never will be again.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Format { .. } | Self::Checksum(_))
    }

    /// True when a file of this name was listed and is there no more, as when a run removes its old checkpoints.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Io { path, reason } => {
                // A link to nothing stays in the list.
                reason.kind() == io::ErrorKind::NotFound && !path.is_symlink()
            }
            _ => false,
        }
    }
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |reason| CheckpointError::Io { path, reason }
}

/// Writes a checkpoint.
///
/// # Errors
///
/// When the file system refuses.
pub(super) fn write(
    path: &Path,
    config: &Config,
    state: &RunState,
    model: &Hrm,
    moments: Moments<&Tensor>,
) -> Result<(), CheckpointError> {
    let json = |what: serde_json::Result<String>| {
        what.map_err(|e| CheckpointError::Foreign {
            path: path.to_owned(),
            what: e.to_string(),
        })
    };
    let mut metadata = HashMap::from([
        (CONFIG.to_owned(), json(serde_json::to_string(config))?),
        (STATE.to_owned(), json(serde_json::to_string(state))?),
    ]);
    let mut tensors = model.named_tensors();
    tensors.push((MEAN.to_owned(), moments.mean.shallow_clone()));
    tensors.push((SQUARE.to_owned(), moments.square.shallow_clone()));
    let body = state::encode_named(&tensors, None);
    let body = SafeTensors::deserialize(&body).map_err(|error| CheckpointError::Format {
        path: path.to_owned(),
        reason: error.into(),
    })?;
    metadata.insert(CHECKSUM.to_owned(), checksum(&metadata, &body));
    let bytes = state::encode_named(&tensors, Some(metadata));

    files::write(path, &bytes).map_err(io_error(path))
}

/// SHA-256 over configuration, state, and every tensor by name, shape, kind and bytes, in hexadecimal.
pub(super) fn checksum(metadata: &HashMap<String, String>, tensors: &SafeTensors) -> String {
    let mut hasher = FieldHasher::new();
    for key in [CONFIG, STATE] {
        hasher = hasher.bytes(metadata.get(key).map_or(&[], |text| text.as_bytes()));
    }
    let mut all = tensors.tensors();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, tensor) in &all {
        hasher = hasher
            .bytes(name.as_bytes())
            .bytes(format!("{:?} {:?}", tensor.dtype(), tensor.shape()).as_bytes())
            .bytes(tensor.data());
    }
    hex(&hasher.finish())
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

    /// The optimiser's running means for `parameters` trained numbers.
    ///
    /// # Errors
    ///
    /// When they are missing or of another size.
    pub fn moments(&self, parameters: usize) -> Result<Moments<&Tensor>, CheckpointError> {
        let tensor = |wanted: &str| {
            let stored = self.tensors.iter().find(|(name, _)| name == wanted);
            let (name, stored) = stored.ok_or_else(|| LoadError::Missing {
                name: wanted.to_owned(),
            })?;
            let (expected, found) = (vec![parameters as i64], stored.size());
            match expected == found {
                true => Ok(stored),
                false => Err(LoadError::Shape {
                    name: name.clone(),
                    expected,
                    found,
                }),
            }
        };
        Ok(Moments {
            mean: tensor(MEAN)?,
            square: tensor(SQUARE)?,
        })
    }
}
