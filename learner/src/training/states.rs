//! States of the model that the recomputation keeps, from which the passes start.

use tch::Tensor;

use crate::training::model::{Hrm, carry_tensor};

/// States of the model, where they were computed.
#[derive(Debug)]
pub enum States {
    /// By the kernels.
    Host(HostStates),
    /// By libtorch.
    Tensors(TensorStates),
}

/// States outside libtorch, a vector for each: `zH`, then `zL`.
#[derive(Debug)]
pub struct HostStates {
    /// The carry before the first tick of each chunk of `loss.bptt_ticks`, `[T / bptt_ticks, B]`. With `loss.prefix` =
    /// "cached", only before the first tick of all, `[1, B]`.
    pub carries: Vec<Vec<f32>>,
    /// With `loss.prefix` = "cached", the states before the last call of L and of H, `[T, B]`. A vector has those of
    /// the decision's segments from the first that can be trained on.
    pub prefixes: Option<Vec<Vec<f32>>>,
}

/// The same states in tensors.
#[derive(Debug)]
pub struct TensorStates {
    /// `[2, T / bptt_ticks, B, ...]`, or `[2, 1, B, ...]`.
    pub carries: Tensor,
    /// `[T, B, segments, 2, P, d]`; without a meaning for segments that the decision did not run.
    pub prefixes: Option<Tensor>,
}

impl States {
    /// Returns the carries before the first tick.
    pub(crate) fn first_tick(&self, envs: usize) -> Self {
        match self {
            Self::Host(states) => Self::Host(HostStates {
                carries: states.carries[..envs].to_vec(),
                prefixes: None,
            }),
            Self::Tensors(states) => Self::Tensors(TensorStates {
                carries: states.carries.narrow(1, 0, 1),
                prefixes: None,
            }),
        }
    }

    /// Returns the states of all environments from those of groups of them, each with its number of environments.
    pub(crate) fn join(groups: impl IntoIterator<Item = (Self, usize)>) -> Self {
        let (mut hosts, mut tensors) = (Vec::new(), Vec::new());
        for (group, envs) in groups {
            match group {
                Self::Host(states) => hosts.push((states, envs)),
                Self::Tensors(states) => tensors.push(states),
            }
        }
        match tensors.is_empty() {
            true => Self::Host(HostStates::join(hosts)),
            false => Self::Tensors(TensorStates::join(tensors)),
        }
    }

    /// Returns the states of `envs` environments in tensors for this model, of whose segments so many can be trained.
    pub fn into_tensors(self, model: &Hrm, envs: usize, segments: usize) -> TensorStates {
        let HostStates { carries, prefixes } = match self {
            Self::Host(states) => states,
            Self::Tensors(states) => return states,
        };
        let (device, envs) = (model.device(), envs as i64);
        let kept_ticks = carries.len() as i64 / envs;
        let carry = carry_tensor(&carries, &model.carry_shape(carries.len()));
        TensorStates {
            carries: carry.unflatten(1, [kept_ticks, envs]).to_device(device),
            prefixes: prefixes.map(|prefixes| {
                let (positions, d) = (model.grid().len() as i64 + 1, model.config().hidden as i64);
                let ticks = prefixes.len() as i64 / envs;
                let elements = segments * (2 * positions * d) as usize;
                let mut all = Vec::with_capacity(prefixes.len() * elements);
                for (frame, prefix) in (1..).zip(prefixes) {
                    all.extend(prefix);
                    all.resize(frame * elements, 0.0);
                }
                Tensor::from_slice(&all)
                    .view([ticks, envs, segments as i64, 2, positions, d])
                    .to_device(device)
            }),
        }
    }
}

impl HostStates {
    fn join(groups: Vec<(Self, usize)>) -> Self {
        let (mut carries, mut prefixes) = (Vec::new(), Vec::new());
        for (group, envs) in groups {
            carries.push((group.carries, envs));
            prefixes.extend(group.prefixes.map(|prefixes| (prefixes, envs)));
        }
        Self {
            carries: interleaved(carries),
            prefixes: (!prefixes.is_empty()).then(|| interleaved(prefixes)),
        }
    }
}

impl TensorStates {
    fn join(groups: Vec<Self>) -> Self {
        let (mut carries, mut prefixes) = (Vec::new(), Vec::new());
        for group in groups {
            carries.push(group.carries);
            prefixes.extend(group.prefixes);
        }
        Self {
            carries: Tensor::cat(&carries, 2),
            prefixes: (!prefixes.is_empty()).then(|| Tensor::cat(&prefixes, 1)),
        }
    }
}

/// Returns the elements `[T, B]` from those of groups of environments, `[T, envs]` each.
pub(crate) fn interleaved<T>(groups: Vec<(Vec<T>, usize)>) -> Vec<T> {
    let total = groups.iter().map(|(group, _)| group.len()).sum();
    let mut all = Vec::with_capacity(total);
    let mut groups: Vec<_> = groups
        .into_iter()
        .map(|(group, envs)| (group.into_iter(), envs))
        .collect();
    while all.len() < total {
        for (group, envs) in &mut groups {
            all.extend(group.by_ref().take(*envs));
        }
    }
    all
}
