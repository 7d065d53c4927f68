//! Undoes updates that spoil the weights.

use hrm_common::{
    checkpoint::Moments, model::native::Lanes, policy::RecurrentNetwork as _, wire::MAX_LOGIT,
};
use tch::{Tensor, no_grad};

use crate::training::{
    host::{bytes, host},
    model::{Gradient, Hrm},
    optimizer::Adam,
    states::States,
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
/// states of one tick. Finite weights can still be useless, so their outputs are checked too: nothing has used the
/// weights of the last update yet, and the learner would reject all unrolls with invalid logits.
pub(crate) fn is_usable(model: &Hrm, optimizer: &Adam, tokens: &Tensor, states: &States) -> bool {
    is_finite(model, optimizer)
        && match states {
            States::Host(states) => acts_natively(model, tokens, &states.carries),
            States::Tensors(states) => acts(model, tokens, &states.carries.select(1, 0)),
        }
}

/// Returns true when the outputs of libtorch's model are valid.
fn acts(model: &Hrm, tokens: &Tensor, carry: &Tensor) -> bool {
    let _no_grad = tch::no_grad_guard();
    let decision = model.forward(tokens, carry, Gradient::None);
    let valid = |tensor: &Tensor, most: f32| host(tensor).iter().all(|x| x.abs() <= most);
    let mut segments = decision.segments.iter();
    segments.all(|heads| {
        let halt = heads.halt.as_ref();
        valid(&heads.logits, MAX_LOGIT)
            && valid(&heads.value, f32::MAX)
            && halt.is_none_or(|halt| valid(halt, MAX_LOGIT))
    })
}

/// Returns true when the outputs of the kernels that act are valid.
fn acts_natively(model: &Hrm, tokens: &Tensor, carries: &[Vec<f32>]) -> bool {
    let mut lanes = Lanes::new(model.to_parameters(), carries.len());
    lanes.set_carries(carries);
    let mut valid = true;
    let deepest = model.config().segments.deepest(carries.len());
    lanes.decide_all(&bytes(tokens), &deepest, |_, _, heads| {
        let mut logits = heads.logits.iter().chain(&heads.halt);
        valid &= logits.all(|logit| logit.abs() <= MAX_LOGIT) && heads.value.is_finite();
    });
    valid
}
