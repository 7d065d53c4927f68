//! Log-probabilities from logits, on the host.

use hrm_common::env::ACTIONS;

/// Returns the log-probabilities of the actions.
pub(crate) fn log_softmax(logits: &[f32]) -> [f32; ACTIONS] {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = logits.iter().map(|l| (l - highest).exp()).sum();
    std::array::from_fn(|a| logits[a] - highest - total.ln())
}
