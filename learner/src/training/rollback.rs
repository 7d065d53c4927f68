//! Undoes updates that spoil the weights.

use hrm_common::wire::MAX_LOGIT;
use tch::{Tensor, no_grad};

use crate::{
    storage::checkpoint::Moments,
    training::{
        model::{Gradient, Hrm},
        optimizer::Adam,
    },
};

/// A copy of weights and optimiser state, for undoing updates.
pub(crate) struct WeightsBackup {
    parameters: Tensor,
    steps: u64,
    moments: Moments<Tensor>,
}

impl WeightsBackup {
    /// Copies the current state.
    pub(crate) fn new(model: &Hrm, optimizer: &Adam) -> Self {
        let (steps, Moments { mean, square }) = optimizer.state();
        Self {
            parameters: model.flat_parameters().copy(),
            steps,
            moments: Moments {
                mean: mean.copy(),
                square: square.copy(),
            },
        }
    }

    /// Undoes all updates since the copy.
    pub(crate) fn restore(&self, model: &Hrm, optimizer: &mut Adam) {
        no_grad(|| {
            model
                .flat_parameters()
                .shallow_clone()
                .copy_(&self.parameters);
        });
        let Moments { mean, square } = &self.moments;
        optimizer.restore(self.steps, Moments { mean, square });
    }
}

/// Returns true when all weights and all optimiser state are finite.
fn is_finite(model: &Hrm, optimizer: &Adam) -> bool {
    let (_, Moments { mean, square }) = optimizer.state();
    [model.flat_parameters(), mean, square]
        .iter()
        .all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1)
}

/// Returns true when weights and optimiser state are finite and actors can use the weights, tested on the tokens and
/// carries of one tick. Finite weights can still be useless, so their outputs are checked too.
pub(crate) fn is_usable(model: &Hrm, optimizer: &Adam, tokens: &Tensor, carry: &Tensor) -> bool {
    is_finite(model, optimizer) && acts(model, tokens, carry)
}

/// Returns true when the outputs are valid. Nothing has used the weights of the last update yet, and the learner would
/// reject all unrolls with invalid logits.
fn acts(model: &Hrm, tokens: &Tensor, carry: &Tensor) -> bool {
    let _no_grad = tch::no_grad_guard();
    let decision = model.forward(tokens, carry, Gradient::None);
    // The largest value is NaN if any element is NaN.
    let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
    decision.segments.iter().all(|heads| {
        largest(&heads.logits) <= f64::from(MAX_LOGIT) && largest(&heads.value).is_finite()
    })
}
