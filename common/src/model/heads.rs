//! The heads: `zH` to a policy and a value.

use tch::{Kind, Tensor};

use super::config::{ModelConfig, Readout};
use super::init::Init;
use super::parameters::{Declaration, Index};
use super::rows::Rows;
use crate::env::{ACTIONS, token};

/// The factor on the initial weights of the heads.
///
/// The elements of the read-out are about 1. Heads with LeCun's weights would therefore start with a policy that
/// prefers random moves, and with values as large as the goal's reward. A tenth of these weights gives a nearly uniform
/// policy and values near 0. On-policy learning needs both (Andrychowicz et al. 2021, "What matters in on-policy
/// reinforcement learning", section 3.2).
const HEAD_SCALE: f64 = 0.1;

/// The outputs of the heads for a batch of observations after one segment.
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

    /// Returns the rows to read for these observations (u8 `[B, S]`). They are the same in every segment of a decision.
    pub(super) fn aim(&self, tokens: &Tensor) -> Aim {
        match self.readout {
            Readout::Last => Aim::Last,
            Readout::Prefix => Aim::Prefix,
            Readout::Agent => {
                // max returns the first agent, and whether an agent exists.
                let (present, cells) = tokens.eq(i64::from(token::AGENT)).max_dim(1, false);
                Aim::Cells { cells, present }
            }
        }
    }

    /// Computes the heads of `z_h`, rows `[B * P, d]`. `parameters` must be in 32 bits, as are the heads.
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

/// The row of each sequence that the heads read.
pub(super) enum Aim {
    Last,
    Prefix,
    Cells { cells: Tensor, present: Tensor },
}
