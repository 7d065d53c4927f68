//! Encodes weights as safetensors: f32, little-endian. Decodes bf16 too.

use std::{borrow::Cow, collections::HashMap};

use half::bf16;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use tch::{Kind, Tensor};

use super::hrm::Hrm;

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
pub fn encode(model: &Hrm) -> Vec<u8> {
    encode_named(&model.named_tensors(), None)
}

/// Encodes named tensors, converted to f32, and the caller's metadata. Without metadata the bytes do not depend on the
/// order of the tensors.
pub fn encode_named(
    named: &[(String, Tensor)],
    metadata: Option<HashMap<String, String>>,
) -> Vec<u8> {
    let views = named
        .iter()
        .map(|(name, tensor)| (name, Encoded::new(tensor)));
    safetensors::serialize(views, metadata).expect("every view is as long as its shape says")
}

/// Decodes safetensors into named tensors, f32 on the CPU, in no particular order.
///
/// # Errors
///
/// Fails when the bytes are not safetensors, or contain a tensor that is neither f32 nor bf16.
pub fn decode(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, StateError> {
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
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            Ok((name, Tensor::from_slice(&values).view(shape.as_slice())))
        })
        .collect()
}

/// The bytes of one tensor in a file.
struct Encoded {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Encoded {
    fn new(tensor: &Tensor) -> Self {
        let mut values = vec![0.0f32; tensor.numel()];
        let flat = tensor
            .detach()
            .to_device(tch::Device::Cpu)
            .to_kind(Kind::Float)
            .contiguous();
        flat.copy_data(&mut values, tensor.numel());
        Self {
            shape: tensor.size().iter().map(|&n| n as usize).collect(),
            bytes: values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }
}

impl View for Encoded {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
