//! From `zH` to a policy and a value.

use tch::{Kind, Tensor};

use super::config::{ModelConfig, Readout};
use super::init::Init;
use super::parameters::{Declaration, Index};
use super::rows::Rows;
use crate::env::{ACTIONS, token};

/// The read-out is about one in every dimension, so that plain LeCun heads would start with a policy that
/// already prefers moves at random and values as large as the goal's reward. A tenth of it starts close to
/// uniform and close to zero, which on-policy learning is known to need (Andrychowicz et al. 2021, "What
/// matters in on-policy reinforcement learning", section 3.2).
const HEAD_SCALE: f64 = 0.1;

/// What a model says about a batch of observations after one segment.
#[derive(Debug)]
pub struct Heads {
    /// Unnormalised log-probabilities of the moves, f32 `[B, 4]`.
    pub logits: Tensor,
    /// Expected discounted return, f32 `[B]`.
    pub value: Tensor,
}

/// Policy and value head on one token's `zH`, without biases.
#[derive(Clone, Debug)]
pub(super) struct HeadPair {
    readout: Readout,
    policy: Index,
    value: Index,
}

impl HeadPair {
    pub(super) fn declare(config: &ModelConfig, declaration: &mut Declaration) -> Self {
        let d = config.hidden;
        let init = Init::TruncatedNormal(HEAD_SCALE / (d as f64).sqrt());
        Self {
            readout: config.readout,
            policy: declaration.trainable("policy", &[ACTIONS, d], init),
            value: declaration.trainable("value", &[1, d], init),
        }
    }

    /// Where to read for these observations (u8 `[B, S]`); the same for every segment of a decision.
    pub(super) fn aim(&self, tokens: &Tensor) -> Aim {
        match self.readout {
            Readout::Last => Aim::Last,
            Readout::Prefix => Aim::Prefix,
            Readout::Agent => {
                // max gives the first of several agents, deterministically, and whether there is any.
                let (present, cells) = tokens.eq(i64::from(token::AGENT)).max_dim(1, false);
                Aim::Cells { cells, present }
            }
        }
    }

    /// Heads of `z_h`, rows `[B * P, d]`. `parameters` are the uncast ones: heads are 32-bit.
    pub(super) fn forward(
        &self,
        parameters: &[Tensor],
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
        Heads {
            logits: read.linear(self.policy.of(parameters), None::<Tensor>),
            value: read
                .linear(self.value.of(parameters), None::<Tensor>)
                .squeeze_dim(1),
        }
    }
}

/// The row of each sequence that is read.
pub(super) enum Aim {
    Last,
    Prefix,
    Cells { cells: Tensor, present: Tensor },
}
