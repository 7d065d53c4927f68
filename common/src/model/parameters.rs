//! The storage of parameters: one flat vector of everything trainable, and named views into it.

use tch::{Device, Kind, Tensor, no_grad};

use super::error::LoadError;
use super::init::{Init, Initialiser};

/// Name, shape and initial values of one tensor.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) shape: Vec<i64>,
    init: Init,
}

impl Declared {
    fn numel(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// The index of a tensor in [`Parameters::leaves`] or [`Parameters::fixed`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Index(usize);

impl Index {
    /// Returns this tensor from `tensors`, which must be in the order of declaration.
    pub(super) fn of(self, tensors: &[Tensor]) -> &Tensor {
        &tensors[self.0]
    }
}

/// The tensors that the parts of a model declare, in the order of the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Declaration {
    trainable: Vec<Declared>,
    fixed: Vec<Declared>,
}

impl Declaration {
    pub(super) fn trainable(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        init: Init,
    ) -> Index {
        self.trainable.push(declared(name.into(), shape, init));
        Index(self.trainable.len() - 1)
    }

    pub(super) fn fixed(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> Index {
        self.fixed.push(declared(name.into(), shape, init));
        Index(self.fixed.len() - 1)
    }

    /// Returns all tensors, trainable first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Declared> {
        self.trainable.iter().chain(&self.fixed)
    }
}

fn declared(name: String, shape: &[usize], init: Init) -> Declared {
    Declared {
        name,
        shape: shape.iter().map(|&n| n as i64).collect(),
        init,
    }
}

/// The tensors of one model. [`Hrm`](super::Hrm) describes the flat vector.
#[derive(Debug)]
pub(super) struct Parameters {
    declaration: Declaration,
    flat: Tensor,
    leaves: Vec<Tensor>,
    fixed: Vec<Tensor>,
}

impl Parameters {
    pub(super) fn new(declaration: Declaration, seed: u64, device: Device) -> Self {
        let mut initialiser = Initialiser::new(seed);
        let mut values = Vec::new();
        for tensor in &declaration.trainable {
            initialiser.fill(tensor.init, tensor.numel() as usize, &mut values);
        }
        let flat = Tensor::from_slice(&values).to_device(device);
        let fixed = declaration
            .fixed
            .iter()
            .map(|tensor| {
                values.clear();
                initialiser.fill(tensor.init, tensor.numel() as usize, &mut values);
                Tensor::from_slice(&values)
                    .view(tensor.shape.as_slice())
                    .to_device(device)
            })
            .collect();
        let leaves = leaves(&declaration, &flat);
        Self {
            declaration,
            flat,
            leaves,
            fixed,
        }
    }

    /// Returns the same storage with its own leaves, so that two threads never use the same autograd node.
    pub(super) fn share(&self) -> Self {
        let flat = self.flat.shallow_clone();
        let leaves = leaves(&self.declaration, &flat);
        let fixed = self.fixed.iter().map(Tensor::shallow_clone).collect();
        Self {
            declaration: self.declaration.clone(),
            flat,
            leaves,
            fixed,
        }
    }

    pub(super) fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    pub(super) fn flat(&self) -> &Tensor {
        &self.flat
    }

    pub(super) fn leaves(&self) -> &[Tensor] {
        &self.leaves
    }

    pub(super) fn fixed(&self) -> &[Tensor] {
        &self.fixed
    }

    /// Returns all tensors by name, trainable first. The trainable ones are the leaves.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let tensors = self.leaves.iter().chain(&self.fixed);
        self.declaration
            .iter()
            .map(|declared| declared.name.as_str())
            .zip(tensors)
    }

    /// Copies `named` in place. Copies nothing on an error.
    pub(super) fn load(&mut self, named: &[(String, Tensor)]) -> Result<(), LoadError> {
        let mut sources = Vec::with_capacity(named.len());
        for declared in self.declaration.iter() {
            let mut found = named.iter().filter(|(name, _)| *name == declared.name);
            let (name, source) = found.next().ok_or_else(|| LoadError::Missing {
                name: declared.name.clone(),
            })?;
            if found.next().is_some() {
                return Err(LoadError::Twice { name: name.clone() });
            }
            if source.size() != declared.shape {
                return Err(LoadError::Shape {
                    name: name.clone(),
                    expected: declared.shape.clone(),
                    found: source.size(),
                });
            }
            if !matches!(
                source.kind(),
                Kind::Float | Kind::BFloat16 | Kind::Half | Kind::Double
            ) {
                return Err(LoadError::Kind {
                    name: name.clone(),
                    found: source.kind(),
                });
            }
            sources.push(source);
        }
        if let Some((name, _)) = named.iter().find(|(name, _)| {
            self.declaration
                .iter()
                .all(|declared| declared.name != *name)
        }) {
            return Err(LoadError::Unknown { name: name.clone() });
        }
        no_grad(|| {
            for (target, source) in self.leaves.iter_mut().chain(&mut self.fixed).zip(sources) {
                target.copy_(source);
            }
        });
        Ok(())
    }
}

fn leaves(declaration: &Declaration, flat: &Tensor) -> Vec<Tensor> {
    let mut offset = 0;
    declaration
        .trainable
        .iter()
        .map(|tensor| {
            let view = flat
                .narrow(0, offset, tensor.numel())
                .view(tensor.shape.as_slice());
            offset += tensor.numel();
            view.detach().set_requires_grad(true)
        })
        .collect()
}
