//! The storage of parameters: one flat vector of everything trainable, and views into it.

use hrm_common::model::Parameters;
use tch::{Device, Tensor, no_grad};

use crate::training::host::host;

/// The tensors of one model. [`Hrm`](super::Hrm) describes the flat vector.
#[derive(Debug)]
pub(super) struct TensorStorage {
    flat: Tensor,
    leaves: Vec<Tensor>,
    /// In the order of declaration, after the leaves.
    fixed: Vec<Tensor>,
}

impl TensorStorage {
    pub(super) fn new(parameters: &Parameters, device: Device) -> Self {
        let flat = Tensor::from_slice(parameters.trained()).to_device(device);
        let trained = parameters.tensors().trained;
        let fixed = parameters.iter().skip(trained).map(|(_, shape, values)| {
            Tensor::from_slice(values)
                .view(dimensions(shape).as_slice())
                .to_device(device)
        });
        Self {
            leaves: leaves(parameters, &flat),
            fixed: fixed.collect(),
            flat,
        }
    }

    /// Returns the same storage with its own leaves, so that two threads never use the same autograd node.
    pub(super) fn share(&self, parameters: &Parameters) -> Self {
        let flat = self.flat.shallow_clone();
        Self {
            leaves: leaves(parameters, &flat),
            fixed: self.fixed.iter().map(Tensor::shallow_clone).collect(),
            flat,
        }
    }

    pub(super) fn flat(&self) -> &Tensor {
        &self.flat
    }

    pub(super) fn leaves(&self) -> &[Tensor] {
        &self.leaves
    }

    /// Returns all tensors in the order of declaration, trainable first. The trainable ones are the leaves.
    pub(super) fn all(&self) -> impl Iterator<Item = &Tensor> {
        self.leaves.iter().chain(&self.fixed)
    }

    /// Copies the values in place.
    pub(super) fn load(&mut self, parameters: &Parameters) {
        no_grad(|| {
            let tensors = self.leaves.iter_mut().chain(&mut self.fixed);
            for (tensor, (_, shape, values)) in tensors.zip(parameters.iter()) {
                let values = Tensor::from_slice(values).view(dimensions(shape).as_slice());
                tensor.copy_(&values);
            }
        });
    }

    /// Copies the values out, in the order of declaration.
    pub(super) fn values(&self) -> Vec<f32> {
        self.all().flat_map(host).collect()
    }
}

fn dimensions(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&n| n as i64).collect()
}

fn leaves(parameters: &Parameters, flat: &Tensor) -> Vec<Tensor> {
    let mut offset = 0;
    parameters.tensors().declared[..parameters.tensors().trained]
        .iter()
        .map(|tensor| {
            let elements = tensor.elements() as i64;
            let view = flat
                .narrow(0, offset, elements)
                .view(dimensions(&tensor.shape).as_slice());
            offset += elements;
            view.detach().set_requires_grad(true)
        })
        .collect()
}
