//! Encodes weights as safetensors: f32, little-endian. Decodes bf16 too.

use std::{borrow::Cow, collections::HashMap};

use half::bf16;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};

use super::parameters::{NamedTensor, Parameters};

/// The error for bytes that are not weights.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The bytes are not in the safetensors format, or are truncated.
    #[error("not safetensors: {0}; the file or message is damaged or has another format")]
    Format(SafeTensorError),
    /// A tensor is neither f32 nor bf16.
    #[error("tensor {name} is {found:?}; convert it to F32 or BF16")]
    Dtype {
        /// The name of the tensor.
        name: String,
        /// The dtype of the tensor.
        found: Dtype,
    },
}

impl From<SafeTensorError> for StateError {
    fn from(error: SafeTensorError) -> Self {
        Self::Format(error)
    }
}

/// Encodes all tensors of a model, bit for bit.
pub fn encode(parameters: &Parameters) -> Vec<u8> {
    serialize(parameters.iter(), None)
}

/// Encodes named tensors and the caller's metadata. Without metadata the bytes do not depend on the order of the
/// tensors.
pub fn encode_named(named: &[NamedTensor], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let tensors = named.iter().map(|tensor| {
        (
            tensor.name.as_str(),
            tensor.shape.as_slice(),
            tensor.values.as_slice(),
        )
    });
    serialize(tensors, metadata)
}

fn serialize<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])>,
    metadata: Option<HashMap<String, String>>,
) -> Vec<u8> {
    let views = tensors.map(|(name, shape, values)| (name, Encoded { shape, values }));
    safetensors::serialize(views, metadata).expect("every view is as long as its shape says")
}

/// Decodes safetensors into named tensors, in no particular order.
///
/// # Errors
///
/// Fails when the bytes are not safetensors, or contain a tensor that is neither f32 nor bf16.
pub fn decode(bytes: &[u8]) -> Result<Vec<NamedTensor>, StateError> {
    let named = SafeTensors::deserialize(bytes)?.tensors();
    named
        .into_iter()
        .map(|(name, view)| {
            let values: Vec<f32> = match view.dtype() {
                Dtype::F32 => {
                    let (quads, _) = view.data().as_chunks();
                    quads.iter().map(|&quad| f32::from_le_bytes(quad)).collect()
                }
                Dtype::BF16 => {
                    let (pairs, _) = view.data().as_chunks();
                    pairs
                        .iter()
                        .map(|&pair| bf16::from_le_bytes(pair).to_f32())
                        .collect()
                }
                found => return Err(StateError::Dtype { name, found }),
            };
            Ok(NamedTensor {
                name,
                shape: view.shape().to_vec(),
                values,
            })
        })
        .collect()
}

/// One tensor in a file.
struct Encoded<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for Encoded<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.values.iter().flat_map(|value| value.to_le_bytes());
        Cow::Owned(bytes.collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}
