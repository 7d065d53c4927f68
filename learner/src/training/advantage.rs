//! The weight of each frame in the policy gradient: its advantage times its importance weight.

use tch::{Device, Kind, Tensor};

/// Keeps the normalised advantages finite where all advantages are equal.
const EPSILON: f64 = 1e-8;

/// Returns plain V-trace weights `rho * A`, f32 `[T * B]` on `device`.
pub(crate) fn weighted(advantages: &[f32], rhos: &[f32], device: Device) -> Tensor {
    on(device, advantages) * on(device, rhos)
}

/// Returns normalised weights `rho * (A - mean) / std`, f32 `[T * B]` on `device`.
///
/// Rho weights the mean and the standard deviation. A frame that the current policy would hardly play (rho near 0) then
/// changes neither of them. Nor does it change the policy through a subtracted mean.
pub(crate) fn normalized(advantages: &[f32], rhos: &[f32], device: Device) -> Tensor {
    let on_policy = rhos.iter().all(|&rho| rho == 1.0);
    let advantages = on(device, advantages);
    if on_policy {
        return (&advantages - advantages.mean(Kind::Float)) / (advantages.std(false) + EPSILON);
    }
    let rhos = on(device, rhos).to_kind(Kind::Double);
    let advantages = advantages.to_kind(Kind::Double);
    // The sum is zero when all weights underflow; all products are zero then too.
    let shares = &rhos / rhos.sum(Kind::Double).clamp_min(f64::MIN_POSITIVE);
    let centred = &advantages - (&shares * &advantages).sum(Kind::Double);
    let std = (shares * centred.square()).sum(Kind::Double).sqrt();
    (rhos * centred / (std + EPSILON)).to_kind(Kind::Float)
}

fn on(device: Device, values: &[f32]) -> Tensor {
    Tensor::from_slice(values).to_device(device)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::training::vtrace::{VTraceConfig, VTraceInput, importance_weights, vtrace};

    fn floats(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor).expect("floats")
    }

    /// Generates advantages, and importance weights from 0 to 1.5.
    fn frames() -> impl Strategy<Value = Vec<(f32, f32)>> {
        let rho = prop_oneof![Just(0.0_f32), Just(1.0), Just(2e-9), 0.0_f32..1.5];
        prop::collection::vec((-2.0_f32..2.0, rho), 2..300)
    }

    /// Computes the weighted moments term by term.
    fn literal(frames: &[(f32, f32)]) -> Vec<f64> {
        let wide = || {
            frames
                .iter()
                .map(|&(a, rho)| (f64::from(a), f64::from(rho)))
        };
        let total: f64 = wide().map(|(_, rho)| rho).sum();
        let mean = wide().map(|(a, rho)| rho * a).sum::<f64>() / total;
        let variance = wide()
            .map(|(a, rho)| rho * (a - mean) * (a - mean))
            .sum::<f64>()
            / total;
        wide()
            .map(|(a, rho)| match total > 0.0 {
                true => rho * (a - mean) / (variance.sqrt() + 1e-8),
                false => 0.0,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn moments_are_weighted_and_then_the_advantages(frames in frames()) {
            let (advantages, rhos): (Vec<f32>, Vec<f32>) = frames.iter().copied().unzip();
            let found = floats(&normalized(&advantages, &rhos, Device::Cpu));
            let expected = literal(&frames);
            let size = expected.iter().fold(1.0_f64, |size, e| size.max(e.abs()));
            for (found, expected) in found.iter().zip(expected) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-5 * size);
            }
            let found = floats(&weighted(&advantages, &rhos, Device::Cpu));
            for (found, (advantage, rho)) in found.iter().zip(frames) {
                prop_assert_eq!(*found, rho * advantage);
            }
        }

        /// On policy, the result has the same bits as an earlier form, in which the weight was part of the advantage.
        #[test]
        fn on_policy_weights_change_no_bit(
            ticks in prop::collection::vec((-1.0_f32..1.0, -2.0_f32..2.0, -2.0_f32..2.0, any::<bool>()), 1..300)
        ) {
            let pick = |field: fn(&(f32, f32, f32, bool)) -> f32| ticks.iter().map(field).collect::<Vec<f32>>();
            let (rewards, values, next_values) = (pick(|t| t.0), pick(|t| t.1), pick(|t| t.2));
            let ended: Vec<bool> = ticks.iter().map(|t| t.3).collect();
            let n = ticks.len();
            let config = VTraceConfig { gamma: 0.95, lambda: 0.95, rho_bar: 1.0, c_bar: 1.0 };
            let traced = vtrace(VTraceInput {
                batch: 1,
                log_rhos: &vec![0.0; n],
                rewards: &rewards,
                values: &values,
                next_values: &next_values,
                ended: &ended,
            }, config);
            let rho = 0.0_f32.exp().min(config.rho_bar);
            let weighted_before: Vec<f32> = (0..n)
                .map(|i| {
                    let last = ended[i] || i + 1 >= n;
                    let next = if last { next_values[i] } else { traced.targets[i + 1] };
                    rho * (rewards[i] + config.gamma * next - values[i])
                })
                .collect();
            let old = Tensor::from_slice(&weighted_before);
            let bits = |tensor: Tensor| floats(&tensor).iter().map(|f| f.to_bits()).collect::<Vec<_>>();
            let rhos = importance_weights(&vec![0.0; n], config.rho_bar);
            prop_assert_eq!(bits(weighted(&traced.advantages, &rhos, Device::Cpu)), bits(old.copy()));
            let old = (&old - old.mean(Kind::Float)) / (old.std(false) + 1e-8);
            prop_assert_eq!(bits(normalized(&traced.advantages, &rhos, Device::Cpu)), bits(old));
        }
    }

    #[test]
    fn weights_that_all_underflow_give_zero_advantages() {
        let found = normalized(&[0.5, -1.0, 2.0], &[0.0; 3], Device::Cpu);
        assert_eq!(floats(&found), [0.0; 3]);
    }
}
