//! The values of a model's tensors.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::{
    config::ModelConfig,
    error::LoadError,
    init::Initialiser,
    segments::Segments,
    tensors::{DeclaredTensor, ModelTensors, TensorIndex},
};
use crate::{env::Grid, invalid_value::InvalidValue};

/// A tensor by name: f32, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// The name.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The values; as many as the shape says.
    pub values: Vec<f32>,
}

/// A model on a grid of fixed size: its configuration, and the values of its tensors in f32.
#[derive(Debug, Clone)]
pub struct Parameters {
    config: ModelConfig,
    grid: Grid,
    tensors: ModelTensors,
    ranges: Vec<Range<usize>>,
    values: Vec<f32>,
}

impl Parameters {
    /// Returns initial values: the same bits for the same configuration, grid and seed.
    ///
    /// # Errors
    ///
    /// Fails when the configuration is invalid.
    pub fn new(config: &ModelConfig, grid: Grid, seed: u64) -> Result<Self, InvalidValue> {
        config.validate()?;
        let tensors = ModelTensors::new(config, grid);
        let mut initialiser = Initialiser::new(seed);
        let mut values = Vec::new();
        let ranges = append(&tensors.declared, &mut values, |tensor, values| {
            initialiser.fill(tensor.init, tensor.elements(), values);
        });
        Ok(Self {
            config: config.clone(),
            grid,
            tensors,
            ranges,
            values,
        })
    }

    /// Returns a model with the values of `named`. It allocates only as much as `named` hold, so that a configuration
    /// from a file cannot demand more memory than the file has. Configuration and grid must be valid.
    ///
    /// # Errors
    ///
    /// Fails when `named` are not exactly the model's tensors by name and shape, in any order.
    pub(crate) fn from_named(
        config: &ModelConfig,
        grid: Grid,
        named: &[NamedTensor],
    ) -> Result<Self, LoadError> {
        let tensors = ModelTensors::new(config, grid);
        let sources = in_order(&tensors.declared, named)?;
        let mut values = Vec::with_capacity(sources.iter().map(|source| source.values.len()).sum());
        let ranges = append(sources, &mut values, |source, values| {
            values.extend_from_slice(&source.values);
        });
        Ok(Self {
            config: config.clone(),
            grid,
            tensors,
            ranges,
            values,
        })
    }

    /// Returns the same values with other segments. They do not decide which tensors a model has.
    ///
    /// # Errors
    ///
    /// Fails when decisions cannot have these segments.
    pub fn with_segments(mut self, segments: Segments) -> Result<Self, InvalidValue> {
        self.config.segments = segments;
        self.config.validate()?;
        Ok(self)
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The size of the observations.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// The tensors' names and shapes.
    pub fn tensors(&self) -> &ModelTensors {
        &self.tensors
    }

    /// Returns the values of one tensor.
    pub fn get(&self, index: TensorIndex) -> &[f32] {
        &self.values[index.of(&self.ranges).clone()]
    }

    /// Returns the values of one tensor, to be changed.
    pub fn get_mut(&mut self, index: TensorIndex) -> &mut [f32] {
        &mut self.values[index.of(&self.ranges).clone()]
    }

    /// Returns all trained values, in the order of declaration.
    pub fn trained(&self) -> &[f32] {
        let fixed = self.ranges.get(self.tensors.trained);
        &self.values[..fixed.map_or(self.values.len(), |range| range.start)]
    }

    /// All values, in the order of declaration: first what is trained, then what is fixed.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Returns name, shape and values of each tensor, in the order of declaration.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        let declared = self.tensors.declared.iter().zip(&self.ranges);
        declared.map(|(tensor, range)| {
            (
                tensor.name.as_str(),
                tensor.shape.as_slice(),
                &self.values[range.clone()],
            )
        })
    }

    /// Returns a copy of all tensors by name.
    pub fn named(&self) -> Vec<NamedTensor> {
        self.iter()
            .map(|(name, shape, values)| NamedTensor {
                name: name.to_owned(),
                shape: shape.to_vec(),
                values: values.to_vec(),
            })
            .collect()
    }

    /// Copies the values of `named`.
    ///
    /// # Errors
    ///
    /// Fails when `named` are not exactly the model's tensors by name and shape, in any order. It then copies nothing.
    pub fn load(&mut self, named: &[NamedTensor]) -> Result<(), LoadError> {
        let sources = in_order(&self.tensors.declared, named)?;
        for (range, source) in self.ranges.iter().zip(sources) {
            self.values[range.clone()].copy_from_slice(&source.values);
        }
        Ok(())
    }

    /// Returns a number that identifies the structure of the model, but not its values. It is the first eight bytes,
    /// little-endian, of a SHA-256 over the configuration, the grid, and every tensor's name and shape.
    pub fn fingerprint(&self) -> u64 {
        // Not by `checksum`, which marks each field with its length: checkpoints and actors hold this number.
        let config = serde_json::to_vec(&self.config).expect("plain data is always JSON");
        let mut hasher = Sha256::new();
        hasher.update(config);
        hasher.update(format!("\n{} {}", self.grid.height, self.grid.width));
        for tensor in &self.tensors.declared {
            hasher.update(format!("\n{} {:?}", tensor.name, tensor.shape));
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize()[..8]);
        u64::from_le_bytes(first)
    }
}

/// Appends the values of each tensor, and returns their ranges.
fn append<T>(
    tensors: impl IntoIterator<Item = T>,
    values: &mut Vec<f32>,
    mut extend: impl FnMut(T, &mut Vec<f32>),
) -> Vec<Range<usize>> {
    let range = |tensor| {
        let start = values.len();
        extend(tensor, values);
        start..values.len()
    };
    tensors.into_iter().map(range).collect()
}

/// Returns `named` in the order of declaration.
///
/// # Errors
///
/// Fails when `named` are not exactly the declared tensors by name and shape.
fn in_order<'a>(
    declared: &[DeclaredTensor],
    named: &'a [NamedTensor],
) -> Result<Vec<&'a NamedTensor>, LoadError> {
    let mut sources = Vec::with_capacity(named.len());
    for tensor in declared {
        let mut found = named.iter().filter(|source| source.name == tensor.name);
        let source = found.next().ok_or_else(|| LoadError::Missing {
            name: tensor.name.clone(),
        })?;
        if found.next().is_some() {
            return Err(LoadError::Twice {
                name: tensor.name.clone(),
            });
        }
        if source.shape != tensor.shape || source.values.len() != tensor.elements() {
            return Err(LoadError::Shape {
                name: tensor.name.clone(),
                expected: tensor.shape.clone(),
                found: source.shape.clone(),
            });
        }
        sources.push(source);
    }
    let known = |name: &str| declared.iter().any(|known| known.name == name);
    match named.iter().find(|source| !known(&source.name)) {
        Some(unknown) => Err(LoadError::Unknown {
            name: unknown.name.clone(),
        }),
        None => Ok(sources),
    }
}
