//! V-trace targets and advantages (Espeholt et al. 2018, "IMPALA", section 4.1, equation 1).
//!
//! Pure arithmetic over time-major slices. With `rho_t = min(rho_bar, pi/mu)` and
//! `c_t = lambda * min(c_bar, pi/mu)`:
//!
//! ```text
//!   delta_t = rho_t (r_t + gamma V'_t - V_t)
//!   v_t     = V_t + delta_t + gamma c_t (v_{t+1} - V_{t+1})      while the episode continues
//!   v_t     = V_t + delta_t                                      at its last tick
//!   A_t     = r_t + gamma v'_t - V_t
//! ```
//!
//! `V'_t` is the value of the observation that follows tick t *in the same episode*. It is `V_{t+1}` while the episode
//! continues, 0 where it terminated, and the value of the final observation where it was truncated. `v'_t` is `v_{t+1}`
//! while the episode continues, and `V'_t` at the episode's last tick and at the end of the unroll. The policy gradient
//! uses `rho_t A_t`; [`crate::training::advantage`] normalises `A_t` before it multiplies by `rho_t`.
//!
//! `pi` is the policy of a decision's last segment, which chose the action. Under deep supervision the policy gradient
//! of an earlier segment s has a weight of its own, `min(rho_bar, pi_s/mu)`.

/// Relative excess over a clip that counts as rounding.
///
/// At policy lag 0, weights differ from 1 by up to 2e-6 where actor and learner use the same kernels. In bf16, other
/// kernels, such as a GPU's, change them by about 6e-3. A clip of less than a hundredth hardly changes an update.
const ROUNDING: f32 = 1e-2;

/// The constants of V-trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct VTraceConfig {
    /// Discount, in (0, 1].
    pub gamma: f32,
    /// Mixes n-step targets as in TD(lambda); 1 is the published form (remark 2 of the paper).
    pub lambda: f32,
    /// Clip of the importance weight that sets the fixed point.
    pub rho_bar: f32,
    /// Clip of the importance weight that sets the speed of contraction.
    pub c_bar: f32,
}

/// T ticks of B environments; every slice is time-major `[T, B]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VTraceInput<'a> {
    /// B.
    pub batch: usize,
    /// log pi(a|x) - log mu(a|x).
    pub log_rhos: &'a [f32],
    /// Rewards.
    pub rewards: &'a [f32],
    /// V of the observation at each tick.
    pub values: &'a [f32],
    /// V' of the observation that follows each tick in the same episode; 0 if the episode terminated.
    pub next_values: &'a [f32],
    /// True at the last tick of an episode, terminated or truncated.
    pub ended: &'a [bool],
}

/// Output of V-trace, `[T, B]` each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VTrace {
    /// Regression targets of the value head.
    pub targets: Vec<f32>,
    /// Advantages of the policy gradient, without the importance weight.
    pub advantages: Vec<f32>,
    /// Share of ticks whose importance weight exceeds `rho_bar` by more than rounding.
    pub rho_clipped: f32,
    /// Share of ticks whose importance weight exceeds `c_bar` by more than rounding.
    pub c_clipped: f32,
}

/// Returns importance weights clipped at `rho_bar`.
pub(crate) fn importance_weights(log_rhos: &[f32], rho_bar: f32) -> Vec<f32> {
    let weight = |log_rho: &f32| log_rho.exp().min(rho_bar);
    log_rhos.iter().map(weight).collect()
}

/// Computes V-trace by one backward sweep.
///
/// # Panics
///
/// Panics when the slices differ in length, or when their length is not a multiple of `batch`.
pub(crate) fn vtrace(input: VTraceInput<'_>, config: VTraceConfig) -> VTrace {
    let VTraceInput {
        batch,
        log_rhos,
        rewards,
        values,
        next_values,
        ended,
    } = input;
    let n = values.len();
    assert!(
        batch > 0 && n.is_multiple_of(batch),
        "{n} values are not rows of {batch}"
    );
    for length in [
        log_rhos.len(),
        rewards.len(),
        next_values.len(),
        ended.len(),
    ] {
        assert_eq!(length, n, "every input is [T, B]");
    }
    let mut targets = vec![0.0; n];
    let mut advantages = vec![0.0; n];
    let (mut rho_clipped, mut c_clipped) = (0_u32, 0_u32);
    for i in (0..n).rev() {
        let ratio = log_rhos[i].exp();
        rho_clipped += u32::from(ratio > config.rho_bar * (1.0 + ROUNDING));
        c_clipped += u32::from(ratio > config.c_bar * (1.0 + ROUNDING));
        let rho = ratio.min(config.rho_bar);
        let c = config.lambda * ratio.min(config.c_bar);

        let delta = rho * (rewards[i] + config.gamma * next_values[i] - values[i]);
        let last = ended[i] || i + batch >= n;
        let (carried, next_target) = if last {
            (0.0, next_values[i])
        } else {
            let next = i + batch;
            (
                config.gamma * c * (targets[next] - values[next]),
                targets[next],
            )
        };
        targets[i] = values[i] + delta + carried;
        advantages[i] = rewards[i] + config.gamma * next_target - values[i];
    }
    let share = |count: u32| count as f32 / n.max(1) as f32;
    VTrace {
        targets,
        advantages,
        rho_clipped: share(rho_clipped),
        c_clipped: share(c_clipped),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A literal transcription of equation 1, term by term, for one or more episodes of one environment.
    struct Literal<'a> {
        ratios: &'a [f64],
        rewards: &'a [f64],
        values: &'a [f64],
        /// After each tick: None while the episode continues, Some(bootstrap) at its end. The bootstrap is 0 if the
        /// episode terminated, and the value of the final observation if it was truncated.
        ends: &'a [Option<f64>],
        /// Value of the observation after the last tick.
        bootstrap: f64,
    }

    impl Literal<'_> {
        /// Returns one plus the index of the last tick of the episode that holds tick s.
        fn end_of_episode(&self, s: usize) -> usize {
            (s..self.values.len())
                .find(|&t| self.ends[t].is_some())
                .map_or(self.values.len(), |t| t + 1)
        }

        fn following(&self, t: usize) -> f64 {
            match self.ends[t] {
                Some(value) => value,
                None if t + 1 < self.values.len() => self.values[t + 1],
                None => self.bootstrap,
            }
        }

        /// v_s = V_s + sum_{t=s}^{end-1} gamma^{t-s} (prod_{i=s}^{t-1} c_i) delta_t
        fn target(&self, s: usize, k: VTraceConfig) -> f64 {
            let (gamma, lambda) = (f64::from(k.gamma), f64::from(k.lambda));
            let mut v = self.values[s];
            for t in s..self.end_of_episode(s) {
                let discount = gamma.powi((t - s) as i32);
                let trace: f64 = (s..t)
                    .map(|i| lambda * self.ratios[i].min(f64::from(k.c_bar)))
                    .product();
                let delta =
                    self.rho(t, k) * (self.rewards[t] + gamma * self.following(t) - self.values[t]);
                v += discount * trace * delta;
            }
            v
        }

        fn rho(&self, s: usize, k: VTraceConfig) -> f64 {
            self.ratios[s].min(f64::from(k.rho_bar))
        }

        /// r_s + gamma v_{s+1} - V_s
        fn advantage(&self, s: usize, k: VTraceConfig) -> f64 {
            let next = if self.ends[s].is_some() || s + 1 == self.values.len() {
                self.following(s)
            } else {
                self.target(s + 1, k)
            };
            self.rewards[s] + f64::from(k.gamma) * next - self.values[s]
        }
    }

    #[derive(Debug, Clone)]
    struct Tick {
        log_rho: f32,
        reward: f32,
        value: f32,
        end: Option<f32>,
    }

    fn tick() -> impl Strategy<Value = Tick> {
        // Ratios from e^-2.5 to e^2.5 reach both sides of both clips. Every third tick ends an episode; half of these
        // ends are truncations with their own value.
        let end = prop_oneof![
            4 => Just(None),
            1 => Just(Some(0.0_f32)),
            1 => (-2.0_f32..2.0).prop_map(Some),
        ];
        (-2.5_f32..2.5, -1.0_f32..1.0, -2.0_f32..2.0, end).prop_map(
            |(log_rho, reward, value, end)| Tick {
                log_rho,
                reward,
                value,
                end,
            },
        )
    }

    fn config() -> impl Strategy<Value = VTraceConfig> {
        (0.5_f32..=1.0, 0.5_f32..=1.0, 0.5_f32..3.0, 0.5_f32..3.0).prop_map(
            |(gamma, lambda, rho_bar, c_bar)| VTraceConfig {
                gamma,
                lambda,
                rho_bar,
                c_bar,
            },
        )
    }

    fn columns() -> impl Strategy<Value = (Vec<Vec<Tick>>, Vec<f32>)> {
        (1_usize..4, 1_usize..14).prop_flat_map(|(batch, ticks)| {
            (
                prop::collection::vec(prop::collection::vec(tick(), ticks), batch),
                prop::collection::vec(-2.0_f32..2.0, batch),
            )
        })
    }

    fn wide(values: impl Iterator<Item = f32>) -> Vec<f64> {
        values.map(f64::from).collect()
    }

    proptest! {
        #[test]
        fn v_trace_agrees_with_the_equations((columns, bootstraps) in columns(), config in config()) {
            let (batch, ticks) = (columns.len(), columns[0].len());
            let at = |i: usize| &columns[i % batch][i / batch];
            let indices = 0..batch * ticks;
            let next_values: Vec<f32> = indices.clone().map(|i| match at(i).end {
                Some(value) => value,
                None if i / batch + 1 < ticks => at(i + batch).value,
                None => bootstraps[i % batch],
            }).collect();
            let result = vtrace(VTraceInput {
                batch,
                log_rhos: &indices.clone().map(|i| at(i).log_rho).collect::<Vec<_>>(),
                rewards: &indices.clone().map(|i| at(i).reward).collect::<Vec<_>>(),
                values: &indices.clone().map(|i| at(i).value).collect::<Vec<_>>(),
                next_values: &next_values,
                ended: &indices.map(|i| at(i).end.is_some()).collect::<Vec<_>>(),
            }, config);

            for (b, column) in columns.iter().enumerate() {
                let literal = Literal {
                    ratios: &wide(column.iter().map(|t| t.log_rho)).iter().map(|r| r.exp()).collect::<Vec<_>>(),
                    rewards: &wide(column.iter().map(|t| t.reward)),
                    values: &wide(column.iter().map(|t| t.value)),
                    ends: &column.iter().map(|t| t.end.map(f64::from)).collect::<Vec<_>>(),
                    bootstrap: f64::from(bootstraps[b]),
                };
                for (s, tick) in column.iter().enumerate() {
                    let (target, advantage) = (literal.target(s, config), literal.advantage(s, config));
                    let scale = 1e-4 * (1.0 + target.abs() + advantage.abs());
                    prop_assert!((f64::from(result.targets[s * batch + b]) - target).abs() < scale);
                    prop_assert!((f64::from(result.advantages[s * batch + b]) - advantage).abs() < scale);
                    let rho = literal.rho(s, config);
                    let found = importance_weights(&[tick.log_rho], config.rho_bar)[0];
                    prop_assert!((f64::from(found) - rho).abs() < 1e-6 * (1.0 + rho));
                }
            }
        }
    }

    /// On policy with lambda 1, the target is the n-step return (remark 1 of the paper).
    #[test]
    fn on_policy_targets_are_returns() {
        let result = vtrace(
            VTraceInput {
                batch: 1,
                log_rhos: &[0.0; 4],
                rewards: &[0.0, 1.0, 0.0, -0.01],
                values: &[0.3, 0.7, -0.2, 0.1],
                next_values: &[0.7, 0.0, 0.1, 0.5],
                ended: &[false, true, false, false],
            },
            VTraceConfig {
                gamma: 0.9,
                lambda: 1.0,
                rho_bar: 1.0,
                c_bar: 1.0,
            },
        );
        let expected = [0.9, 1.0, 0.9 * (-0.01 + 0.9 * 0.5), -0.01 + 0.9 * 0.5];
        for (found, expected) in result.targets.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-6,
                "{:?} against {expected:?}",
                result.targets
            );
        }
        assert_eq!((result.rho_clipped, result.c_clipped), (0.0, 0.0));
    }

    #[test]
    fn rounding_above_a_bar_does_not_count_as_clipped() {
        let clipped = |log_rho: f32, bar: f32| {
            let result = vtrace(
                VTraceInput {
                    batch: 1,
                    log_rhos: &[log_rho],
                    rewards: &[0.0],
                    values: &[0.0],
                    next_values: &[0.0],
                    ended: &[false],
                },
                VTraceConfig {
                    gamma: 0.9,
                    lambda: 1.0,
                    rho_bar: bar,
                    c_bar: bar,
                },
            );
            (result.rho_clipped, result.c_clipped)
        };
        for bar in [1.0_f32, 1.2] {
            assert_eq!(clipped(bar.ln() + 1e-5, bar), (0.0, 0.0));
            assert_eq!(clipped(bar.ln() + 0.1, bar), (1.0, 1.0));
        }
    }

    #[test]
    fn clipped_weights_are_counted() {
        let one = [0.0_f32; 4];
        let result = vtrace(
            VTraceInput {
                batch: 2,
                log_rhos: &[0.1, 1.0, -3.0, 0.0],
                rewards: &one,
                values: &one,
                next_values: &one,
                ended: &[false; 4],
            },
            VTraceConfig {
                gamma: 0.9,
                lambda: 1.0,
                rho_bar: 2.0,
                c_bar: 1.0,
            },
        );
        assert_eq!((result.rho_clipped, result.c_clipped), (0.25, 0.5));
    }
}
