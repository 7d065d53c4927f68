//! One checkpoint: weights, optimiser and state of the run.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use rand_xoshiro::Xoshiro256PlusPlus;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::error::CheckpointError;
use crate::{
    checksum::{FileHasher, hex},
    config::{self, Config, ConfigError, Saved, SavedUse},
    env::CurriculumState,
    model::{
        LoadError, NamedTensor, Parameters,
        state::{self, StateError},
    },
};

/// Metadata keys.
pub(super) const CONFIG: &str = "hrm.config";
pub(super) const STATE: &str = "hrm.state";
pub(super) const CHECKSUM: &str = "hrm.sha256";
/// Names of the optimiser's tensors, which differ from all names of the model's tensors.
const MEAN: &str = "optimizer.mean";
const SQUARE: &str = "optimizer.square";

/// The state of a run, without its tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunState {
    /// Identifier of the run, the same across restarts.
    pub run_id: String,
    /// Number of earlier starts of the learner on this run.
    #[serde(default)]
    pub restarts: u64,
    /// Environment steps trained on.
    pub frames: u64,
    /// Optimiser updates tried, also those that were skipped.
    #[serde(rename = "updates")]
    pub updates_tried: u64,
    /// Steps counted by the optimiser's bias correction.
    pub optimizer_steps: u64,
    /// Sessions opened so far.
    pub sessions_joined: u64,
    /// Seconds of training so far, over all restarts, as
    /// `TrainingClock` counts them.
    pub seconds: f64,
    /// Level and outcomes of the distance curriculum.
    pub curriculum: CurriculumState,
    /// The generator that shuffles minibatches.
    pub rng: Xoshiro256PlusPlus,
}

/// A checkpoint read from a file.
#[derive(Debug)]
pub struct Checkpoint {
    /// The run's configuration.
    pub config: Config,
    /// The run's state.
    pub state: RunState,
    /// The path of the file.
    pub path: PathBuf,
    tensors: Vec<NamedTensor>,
}

/// Adam's state between steps: f32 `[n]` each, in the order of the flat parameters.
#[derive(Debug, Clone, Copy)]
pub struct Moments<T> {
    /// The running mean of the gradient.
    pub mean: T,
    /// The running mean of the squared gradient.
    pub square: T,
}

impl Moments<Vec<f32>> {
    /// Returns the state before the first step, for `parameters` trained numbers.
    pub fn zeros(parameters: usize) -> Self {
        let zeros = vec![0.0; parameters];
        Self {
            mean: zeros.clone(),
            square: zeros,
        }
    }
}

/// Encodes the checkpoint of a file that will have this path. Without `moments` of the optimiser, programs can act with
/// it, but no run can resume from it.
///
/// # Errors
///
/// Returns an error when configuration or state cannot be written as JSON.
pub fn encode(
    path: &Path,
    config: &Config,
    state: &RunState,
    parameters: &Parameters,
    moments: Option<Moments<Vec<f32>>>,
) -> Result<Vec<u8>, CheckpointError> {
    let json = |what: serde_json::Result<String>| {
        what.map_err(|e| CheckpointError::Foreign {
            path: path.to_owned(),
            what: e.to_string(),
        })
    };
    let metadata = HashMap::from([
        (CONFIG.to_owned(), json(serde_json::to_string(config))?),
        (STATE.to_owned(), json(serde_json::to_string(state))?),
    ]);
    let mut tensors = parameters.named();
    let moments = moments.map(|moments| [(MEAN, moments.mean), (SQUARE, moments.square)]);
    for (name, values) in moments.into_iter().flatten() {
        tensors.push(NamedTensor {
            name: name.to_owned(),
            shape: vec![values.len()],
            values,
        });
    }
    encode_sealed(&tensors, metadata).map_err(|reason| CheckpointError::Format {
        path: path.to_owned(),
        reason,
    })
}

/// Returns the content of a checkpoint file with a matching checksum.
///
/// # Errors
///
/// Returns an error when it is not a safetensors file of weights.
pub fn seal(bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    encode_sealed(&state::decode(bytes)?, metadata_of(bytes)?)
}

/// Encodes tensors and metadata with the checksum of both.
fn encode_sealed(
    tensors: &[NamedTensor],
    mut metadata: HashMap<String, String>,
) -> Result<Vec<u8>, StateError> {
    let body = state::encode_named(tensors, None);
    let body = SafeTensors::deserialize(&body)?;
    metadata.insert(CHECKSUM.to_owned(), checksum(&metadata, &body));
    Ok(state::encode_named(tensors, Some(metadata)))
}

/// Returns the metadata of a safetensors file.
fn metadata_of(bytes: &[u8]) -> Result<HashMap<String, String>, StateError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    Ok(header.metadata().clone().unwrap_or_default())
}

/// Returns the SHA-256 of configuration, state, and each tensor's name, shape, kind and bytes, in hexadecimal.
pub(super) fn checksum(metadata: &HashMap<String, String>, tensors: &SafeTensors) -> String {
    let mut hasher = FileHasher::new();
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
    /// Returns an error when the file cannot be read, is damaged, or is not a checkpoint.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = fs::read(path).map_err(CheckpointError::io(path))?;
        let format = |reason| CheckpointError::Format {
            path: path.to_owned(),
            reason,
        };
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| format(e.into()))?;
        let metadata = metadata_of(&bytes).map_err(format)?;
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
            config: config::read_stored(part(CONFIG)?).map_err(|e| unreadable(CONFIG, e))?,
            state: serde_json::from_str(part(STATE)?).map_err(|e| unreadable(STATE, e))?,
            tensors: state::decode(&bytes).map_err(format)?,
            path: path.to_owned(),
        })
    }

    /// Returns the checkpoint's configuration as a layer below this process's settings.
    ///
    /// # Errors
    ///
    /// Returns an error when the configuration cannot be written as TOML.
    pub fn saved(&self, usage: SavedUse) -> Result<Saved, ConfigError> {
        Saved::new(&self.config, &self.path, usage)
    }

    /// Returns the model with the stored weights. The checksum finds damage only, so a file can hold any configuration.
    /// This checks it, and compares the tensors with it, before it allocates anything for the model.
    ///
    /// # Errors
    ///
    /// Returns an error when the stored configuration is invalid, or the tensors do not fit it.
    pub fn parameters(&self) -> Result<Parameters, CheckpointError> {
        let Config { env, model, .. } = &self.config;
        let valid = env.validate().and_then(|()| model.validate());
        valid.map_err(|fault| CheckpointError::Configuration {
            path: self.path.clone(),
            fault: Box::new(fault),
        })?;
        let named = self.of_model();
        Ok(Parameters::from_named(model, env.grid(), &named)?)
    }

    /// Copies the stored weights into a model.
    ///
    /// # Errors
    ///
    /// Returns an error when the model has another shape.
    pub fn restore(&self, parameters: &mut Parameters) -> Result<(), CheckpointError> {
        Ok(parameters.load(&self.of_model())?)
    }

    /// Returns the tensors of the model, without those of the optimiser.
    fn of_model(&self) -> Vec<NamedTensor> {
        self.tensors
            .iter()
            .filter(|tensor| tensor.name != MEAN && tensor.name != SQUARE)
            .cloned()
            .collect()
    }

    /// Returns the optimiser's running means for `parameters` trained numbers.
    ///
    /// # Errors
    ///
    /// Returns an error when they are missing or have another size.
    pub fn moments(&self, parameters: usize) -> Result<Moments<&[f32]>, CheckpointError> {
        let tensor = |wanted: &str| {
            let stored = self.tensors.iter().find(|tensor| tensor.name == wanted);
            let stored = stored.ok_or_else(|| LoadError::Missing {
                name: wanted.to_owned(),
            })?;
            let (expected, found) = (vec![parameters], stored.shape.clone());
            match expected == found {
                true => Ok(stored.values.as_slice()),
                false => Err(LoadError::Shape {
                    name: stored.name.clone(),
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
