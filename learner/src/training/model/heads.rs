//! The heads: `zH` to a policy and a value.

use hrm_common::{
    env::{ACTIONS, tile},
    model::{HaltTensors, Readout, TensorIndex, native::HeadOutputs},
};
use tch::{Kind, Tensor};

use super::rows::Rows;

/// The outputs of the heads for a batch of observations after one segment.
#[derive(Debug)]
pub struct Heads {
    /// Unnormalised log-probabilities of the moves, f32 `[B, 4]`.
    pub logits: Tensor,
    /// Expected discounted return, f32 `[B]`.
    pub value: Tensor,
    /// The halt head's numbers, f32 `[B, 2]`, if the model's rule reads them.
    pub halt: Option<Tensor>,
}

/// Policy and value head on one token's `zH`, without biases, and the halt head on the prefix token's.
#[derive(Debug, Clone)]
pub(super) struct ModelHeads {
    pub(super) readout: Readout,
    pub(super) policy: TensorIndex,
    pub(super) value: TensorIndex,
    /// If the model's rule reads the halt head.
    pub(super) halt: Option<HaltTensors>,
}

impl ModelHeads {
    /// Returns the rows to read for these observations (u8 `[B, S]`). They are the same in every segment of a decision.
    pub(super) fn aim(&self, tokens: &Tensor) -> Aim {
        match self.readout {
            Readout::Last => Aim::Last,
            Readout::Prefix => Aim::Prefix,
            Readout::Agent => {
                // max returns the first agent, and whether an agent exists.
                let (present, cells) = tokens.eq(i64::from(tile::AGENT)).max_dim(1, false);
                Aim::Cells { cells, present }
            }
        }
    }

    /// Computes the heads of `z_h`, rows `[B * P, d]`. `tensors` are all of the model's, in 32 bits, as are the heads.
    pub(super) fn forward(
        &self,
        tensors: &[&Tensor],
        rows: &Rows,
        aim: &Aim,
        z_h: &Tensor,
    ) -> Heads {
        let read = match aim {
            Aim::Last => rows.last(z_h),
            Aim::Prefix => rows.prefixes(z_h),
            Aim::Cells { cells, present } => rows.pick(z_h, cells, present),
        }
        .to_kind(Kind::Float);
        let of = |index: TensorIndex| *index.of(tensors);
        Heads {
            logits: read.linear(of(self.policy), None::<Tensor>),
            value: read.linear(of(self.value), None::<Tensor>).squeeze_dim(1),
            halt: self.halt.map(|HaltTensors { weight, bias }| {
                let prefixes = rows.prefixes(z_h).to_kind(Kind::Float);
                prefixes.linear(of(weight), Some(of(bias)))
            }),
        }
    }
}

/// The numbers of [`HeadOutputs`].
pub(crate) const OUTPUTS: usize = ACTIONS + 3;

/// Returns the outputs of one observation from a row of [`Heads::outputs`].
pub(crate) fn read_outputs(numbers: &[f32; OUTPUTS]) -> HeadOutputs {
    let [a, b, c, d, value, halts, continues] = *numbers;
    HeadOutputs {
        logits: [a, b, c, d],
        value,
        halt: [halts, continues],
    }
}

impl Heads {
    /// Returns all outputs in one tensor, f32 `[B, OUTPUTS]`; zeros for a halt head that the model's rule does not read.
    pub(crate) fn outputs(&self) -> Tensor {
        let zeros = || {
            Tensor::zeros(
                [self.value.size()[0], 2],
                (Kind::Float, self.value.device()),
            )
        };
        let halt = self.halt.as_ref().map_or_else(zeros, Tensor::shallow_clone);
        Tensor::cat(&[&self.logits, &self.value.unsqueeze(1), &halt], 1)
    }

    /// Returns the outputs with those of some observations, i64 `[n]`, replaced.
    pub(super) fn replace(&self, observations: &Tensor, by: &Self) -> Self {
        let replace = |all: &Tensor, by: &Tensor| all.index_copy(0, observations, by);
        Self {
            logits: replace(&self.logits, &by.logits),
            value: replace(&self.value, &by.value),
            halt: (self.halt.as_ref().zip(by.halt.as_ref())).map(|(all, by)| replace(all, by)),
        }
    }

    /// Returns the same outputs, without a copy.
    pub(super) fn share(&self) -> Self {
        Self {
            logits: self.logits.shallow_clone(),
            value: self.value.shallow_clone(),
            halt: self.halt.as_ref().map(Tensor::shallow_clone),
        }
    }
}

impl Aim {
    /// Returns the rows to read for some of the observations, i64 `[n]`.
    pub(super) fn select(&self, observations: &Tensor) -> Self {
        match self {
            Self::Last => Self::Last,
            Self::Prefix => Self::Prefix,
            Self::Cells { cells, present } => Self::Cells {
                cells: cells.index_select(0, observations),
                present: present.index_select(0, observations),
            },
        }
    }
}

/// The row of each sequence that the heads read.
#[derive(Debug)]
pub(super) enum Aim {
    Last,
    Prefix,
    Cells { cells: Tensor, present: Tensor },
}
