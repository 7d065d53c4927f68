//! `zH` to a policy and a value.

use hrm_kernels::{Kernel, Rows};

use crate::{
    env::{ACTIONS, tile},
    model::{config::Readout, parameters::Parameters, tensors::HaltTensors},
};

/// The outputs of the heads for one environment after one segment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HeadOutputs {
    /// Unnormalised log-probabilities of the moves.
    pub logits: [f32; ACTIONS],
    /// Expected discounted return.
    pub value: f32,
    /// The halt head's numbers; 0 unless the model's rule reads it. See [`Halt`](crate::model::Halt).
    pub halt: [f32; 2],
}

/// The gradient of a loss by the outputs of the heads.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HeadGradients {
    /// By the logits.
    pub logits: [f32; ACTIONS],
    /// By the value.
    pub value: f32,
    /// By the halt head's numbers.
    pub halt: [f32; 2],
}

/// Policy and value head on one token's `zH`, without biases, and the halt head on the prefix token's, all in f32.
#[derive(Debug, Clone)]
pub(super) struct Heads {
    readout: Readout,
    /// `[4, d]`.
    policy: Vec<f32>,
    /// `[d]`.
    value: Vec<f32>,
    /// `[2, d]` and `[2]`, if the model's rule reads the head.
    halt: Option<(Vec<f32>, Vec<f32>)>,
}

impl Heads {
    pub(super) fn new(parameters: &Parameters) -> Self {
        let tensors = parameters.tensors();
        let read = parameters.config().segments.reads_halt_head();
        Self {
            readout: parameters.config().readout,
            policy: parameters.get(tensors.policy).to_vec(),
            value: parameters.get(tensors.value).to_vec(),
            halt: (tensors.halt.filter(|_| read)).map(|HaltTensors { weight, bias }| {
                [weight, bias]
                    .map(|tensor| parameters.get(tensor).to_vec())
                    .into()
            }),
        }
    }

    /// Returns the position that the heads read: 0 for the prefix token, and cell `i` at `i + 1`.
    pub(super) fn position(&self, tokens: &[u8]) -> usize {
        match self.readout {
            Readout::Last => tokens.len(),
            Readout::Prefix => 0,
            Readout::Agent => tokens
                .iter()
                .position(|&code| code == tile::AGENT)
                .map_or(0, |cell| cell + 1),
        }
    }

    /// Adds to `vector` the gradient by the vector that the heads read.
    pub(super) fn backward(&self, gradients: &HeadGradients, vector: &mut [f32]) {
        let rows = self.policy.chunks_exact(vector.len());
        let policy = rows.zip(gradients.logits);
        for (weights, gradient) in policy.chain([(&self.value[..], gradients.value)]) {
            for (sum, weight) in vector.iter_mut().zip(weights) {
                *sum += gradient * weight;
            }
        }
    }

    /// Adds to `vector` the gradient by the vector that the halt head reads, the prefix token's.
    pub(super) fn halt_backward(&self, gradients: [f32; 2], vector: &mut [f32]) {
        let Some((weights, _)) = &self.halt else {
            return;
        };
        for (weights, gradient) in weights.chunks_exact(vector.len()).zip(gradients) {
            for (sum, weight) in vector.iter_mut().zip(weights) {
                *sum += gradient * weight;
            }
        }
    }

    /// Computes the heads for an observation. `vector` is memory for `d` numbers.
    pub(super) fn forward<K: Kernel>(
        &self,
        tokens: &[u8],
        z_h: &Rows<K>,
        vector: &mut [f32],
    ) -> HeadOutputs {
        let read = |position, vector: &mut [f32]| {
            let index = z_h.layout().position(position);
            for (number, element) in vector.iter_mut().zip(z_h.vector(index)) {
                *number = element;
            }
        };
        let mut halt = [0.0; 2];
        if let Some((weights, bias)) = &self.halt {
            read(0, vector);
            let rows = weights.chunks_exact(weights.len() / 2).zip(bias);
            for (number, (weights, bias)) in halt.iter_mut().zip(rows) {
                *number = dot(weights, vector) + bias;
            }
        }
        read(self.position(tokens), vector);
        let mut logits = [0.0; ACTIONS];
        for (logit, weights) in logits
            .iter_mut()
            .zip(self.policy.chunks_exact(vector.len()))
        {
            *logit = dot(weights, vector);
        }
        HeadOutputs {
            logits,
            value: dot(&self.value, vector),
            halt,
        }
    }
}

fn dot(weights: &[f32], vector: &[f32]) -> f32 {
    weights.iter().zip(vector).map(|(w, x)| w * x).sum()
}
