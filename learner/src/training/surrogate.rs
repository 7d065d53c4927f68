//! The clipped surrogate of a policy gradient (Schulman et al. 2017, equation 7).

use tch::Tensor;

/// Returns `min(r A, clip(r, 1 - clip, 1 + clip) A)` of ratios `r` and advantages `A` of the same shape.
pub(crate) fn clipped(ratios: &Tensor, advantages: &Tensor, clip: f64) -> Tensor {
    let within = ratios.clamp(1.0 - clip, 1.0 + clip);
    (ratios * advantages).minimum(&(within * advantages))
}

/// Returns [`clipped`] of one ratio, and its derivative by the logarithm of the ratio.
pub(crate) fn clipped_with_slope(ratio: f64, advantage: f64, clip: f64) -> (f64, f64) {
    let within = ratio.clamp(1.0 - clip, 1.0 + clip);
    let surrogate = (ratio * advantage).min(within * advantage);
    // Where the clip binds, the surrogate does not depend on the policy.
    let bound = within != ratio && within * advantage < ratio * advantage;
    (surrogate, if bound { 0.0 } else { ratio * advantage })
}
