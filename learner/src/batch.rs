//! Unrolls become one training batch: fenced and stale ones are dropped, the rest are stacked.

use std::{sync::Arc, time::Duration};

use crossbeam::channel::{Receiver, RecvTimeoutError, select};
use hrm_common::{
    env::{ACTIONS, EpisodeSummary, flag},
    stage::{LearnerStage, StageClock},
    telemetry::names::{self, DropReason},
    trajectory::{Unroll, floats},
};
use tch::{Device, Kind, Tensor};

use crate::{
    queue::{QueueReceiver, Queued},
    sessions::{Session, Sessions},
};

/// Unrolls of several actors side by side: T ticks of B environments.
#[derive(Debug)]
pub struct Batch {
    /// T.
    pub ticks: usize,
    /// B: environments of all unrolls.
    pub envs: usize,
    /// u8 `[T + 1, B, S]`.
    pub tokens: Tensor,
    /// i64 `[T, B]`.
    pub actions: Tensor,
    /// `[T, B]`.
    pub rewards: Vec<f32>,
    /// `[T, B]`, bits of [`flag`].
    pub flags: Vec<u8>,
    /// `[T, B]`: log mu(a|x) of the actions taken.
    pub behaviour_log_probs: Vec<f32>,
    /// The carry before the first tick, axis 1 is B; f32 or bf16 as it was sent.
    pub carry: Tensor,
    /// u8 `[K, S]`: final observations of the truncated episodes.
    pub final_tokens: Tensor,
    /// `[K]`: where in `[T, B]` each of them was truncated, as a flat index; ascending.
    pub final_indices: Vec<usize>,
    /// The episodes that ended within the batch.
    pub episodes: Vec<EpisodeSummary>,
    /// Policy lag of each unroll, in versions.
    pub lags: Vec<u64>,
}

impl Batch {
    /// Environment steps in the batch.
    pub fn frames(&self) -> usize {
        self.ticks * self.envs
    }

    /// Stacks unrolls of equal shape along the environments.
    ///
    /// # Panics
    ///
    /// When `unrolls` is empty or their shapes differ; admission lets one shape in only.
    pub fn stack(unrolls: &[Unroll], newest_version: u64, device: Device) -> Self {
        let shape = unrolls[0].shape.clone();
        assert!(
            unrolls.iter().all(|u| u.shape == shape),
            "unrolls of one run have one shape"
        );
        let (ticks, n, envs) = (shape.ticks, shape.envs, shape.envs * unrolls.len());
        let tokens = concatenate(unrolls, ticks + 1, n * shape.tokens, |u| &u.tokens);
        let actions = concatenate(unrolls, ticks, n, |u| &u.actions);
        let logits = concatenate(unrolls, ticks, n * ACTIONS * 4, |u| &u.behaviour_logits);
        let rewards = concatenate(unrolls, ticks, n * 4, |u| &u.rewards);
        let flags = concatenate(unrolls, ticks, n, |u| &u.flags);
        let logits: Vec<f32> = floats(&logits).collect();
        let behaviour_log_probs = logits
            .chunks_exact(ACTIONS)
            .zip(&actions)
            .map(|(logits, &action)| log_softmax(logits)[usize::from(action)])
            .collect();

        let carries: Vec<Tensor> = unrolls.iter().map(carry_tensor).collect();
        // An unroll lists its own by time; those of several must be merged, since whoever reads them goes
        // through the ticks once.
        let mut finals: Vec<(usize, &[u8])> = Vec::new();
        for (index, unroll) in unrolls.iter().enumerate() {
            let truncated = unroll
                .flags
                .iter()
                .enumerate()
                .filter(|(_, f)| **f == flag::TRUNCATED)
                .map(|(i, _)| i / n * envs + index * n + i % n);
            finals.extend(truncated.zip(unroll.final_tokens.chunks_exact(shape.tokens)));
        }
        finals.sort_unstable_by_key(|(index, _)| *index);
        let final_indices: Vec<usize> = finals.iter().map(|(index, _)| *index).collect();
        let final_tokens: Vec<u8> = finals.iter().flat_map(|(_, row)| *row).copied().collect();
        let size = shape.tokens as i64;
        Self {
            ticks,
            envs,
            tokens: Tensor::from_data_size(
                &tokens,
                &[ticks as i64 + 1, envs as i64, size],
                Kind::Uint8,
            )
            .to_device(device),
            actions: Tensor::from_data_size(&actions, &[ticks as i64, envs as i64], Kind::Uint8)
                .to_kind(Kind::Int64)
                .to_device(device),
            rewards: floats(&rewards).collect(),
            flags,
            behaviour_log_probs,
            carry: Tensor::cat(&carries, 1).to_device(device),
            final_tokens: Tensor::from_data_size(
                &final_tokens,
                &[final_indices.len() as i64, size],
                Kind::Uint8,
            )
            .to_device(device),
            final_indices,
            episodes: unrolls
                .iter()
                .flat_map(|u| u.episodes.iter().cloned())
                .collect(),
            lags: unrolls
                .iter()
                .map(|u| newest_version.saturating_sub(u.oldest_version()))
                .collect(),
        }
    }
}

/// `[rows, columns]` byte arrays of several unrolls side by side: `[rows, unrolls * columns]`.
fn concatenate(
    unrolls: &[Unroll],
    rows: usize,
    columns: usize,
    field: impl Fn(&Unroll) -> &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows * columns * unrolls.len());
    for row in 0..rows {
        for unroll in unrolls {
            out.extend_from_slice(&field(unroll)[row * columns..(row + 1) * columns]);
        }
    }
    out
}

/// `[2, N, carry / 2]`: the model's own shape has the same layout, see [`crate::update`].
fn carry_tensor(unroll: &Unroll) -> Tensor {
    let (envs, elements) = (unroll.shape.envs as i64, unroll.shape.carry as i64);
    Tensor::from_data_size(
        &unroll.carry,
        &[2, envs, elements / 2],
        unroll.carry_dtype.kind(),
    )
}

fn log_softmax(logits: &[f32]) -> [f32; ACTIONS] {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = logits.iter().map(|l| (l - highest).exp()).sum();
    std::array::from_fn(|a| logits[a] - highest - total.ln())
}

/// Takes admitted unrolls from the queue until a batch is full.
#[derive(Debug)]
pub struct Batcher {
    queue: QueueReceiver,
    /// Disconnects when the run is to stop.
    stop: Receiver<()>,
    sessions: Arc<Sessions>,
    limits: BatchLimits,
    device: Device,
    pending: Vec<(Unroll, Arc<Session>)>,
}

/// When a batch is full, and what may be in it.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Unrolls of a full batch.
    pub unrolls: usize,
    /// Versions that an unroll may be behind.
    pub max_policy_lag: u64,
    /// Every actor waits for the weights made from its last unroll: a batch then needs no more unrolls
    /// than there are actors, or those that are left after a death would wait for ever.
    pub synchronous: bool,
}

/// What waiting for a batch came to.
#[derive(Debug)]
pub enum Next {
    /// A full batch.
    Batch(Box<Batch>),
    /// Nothing yet; a good moment to look at other things.
    Idle,
    /// The run is to stop.
    Stop,
}

impl Batcher {
    /// Batches of what `queue` yields.
    pub fn new(
        queue: QueueReceiver,
        stop: Receiver<()>,
        sessions: Arc<Sessions>,
        limits: BatchLimits,
        device: Device,
    ) -> Self {
        Self {
            queue,
            stop,
            sessions,
            limits,
            device,
            pending: Vec::new(),
        }
    }

    /// Waits for the next batch, at most `patience` without any unroll.
    pub fn next(
        &mut self,
        newest_version: u64,
        patience: Duration,
        clock: &mut StageClock<LearnerStage>,
    ) -> Next {
        // What waited here while the weights moved on may have become stale.
        let waited = std::mem::take(&mut self.pending);
        self.pending = waited
            .into_iter()
            .filter(|(unroll, session)| self.is_wanted(unroll, session, newest_version))
            .collect();
        while !self.is_full() {
            clock.enter(LearnerStage::Wait);
            let received = select! {
                recv(self.queue.channel()) -> queued => queued.map_err(|_| RecvTimeoutError::Disconnected),
                recv(self.stop) -> _ => Err(RecvTimeoutError::Disconnected),
                default(patience) => Err(RecvTimeoutError::Timeout),
            };
            let Queued {
                unroll, session, ..
            } = match received {
                Ok(queued) => queued,
                Err(RecvTimeoutError::Timeout) => return Next::Idle,
                Err(RecvTimeoutError::Disconnected) => return Next::Stop,
            };
            names::LEARNER_QUEUE_UNROLLS
                .get()
                .set(self.queue.channel().len() as f64);
            session.take();
            if self.is_wanted(&unroll, &session, newest_version) {
                self.pending.push((unroll, session));
            }
        }
        clock.enter(LearnerStage::Batch);
        let unrolls: Vec<Unroll> = self.pending.drain(..).map(|(unroll, _)| unroll).collect();
        names::LEARNER_UNROLLS_BATCHED
            .get()
            .increment(unrolls.len() as u64);
        let frames: usize = unrolls.iter().map(|u| u.shape.frames()).sum();
        names::LEARNER_FRAMES_BATCHED.get().increment(frames as u64);
        Next::Batch(Box::new(Batch::stack(
            &unrolls,
            newest_version,
            self.device,
        )))
    }

    fn is_full(&self) -> bool {
        let waiting = self.pending.len();
        waiting >= self.limits.unrolls
            || (self.limits.synchronous && waiting > 0 && waiting >= self.sessions.len())
    }

    /// False, and counted, for an unroll of a fenced session or of weights that are too old.
    fn is_wanted(&self, unroll: &Unroll, session: &Session, newest_version: u64) -> bool {
        let lag = newest_version.saturating_sub(unroll.oldest_version());
        let reason = if session.is_fenced() {
            DropReason::Fenced
        } else if lag > self.limits.max_policy_lag {
            DropReason::Stale
        } else {
            return true;
        };
        count_dropped(reason, unroll);
        false
    }
}

fn count_dropped(reason: DropReason, unroll: &Unroll) {
    names::LEARNER_UNROLLS_DROPPED.with(reason).increment(1);
    names::LEARNER_FRAMES_DROPPED
        .with(reason)
        .increment(unroll.shape.frames() as u64);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hrm_common::{
        model::Dtype,
        trajectory::{UnrollShape, float_bytes},
    };

    use super::*;

    /// Three ticks of two environments of one token. `truncated` says at which index of `[T, N]` episodes
    /// were cut off, and what their final observations hold.
    fn unroll(truncated: &[(usize, u8)]) -> Unroll {
        let shape = UnrollShape {
            ticks: 3,
            envs: 2,
            tokens: 1,
            carry: 2,
        };
        let mut flags = vec![0; shape.frames()];
        for &(index, _) in truncated {
            flags[index] = flag::TRUNCATED;
        }
        Unroll {
            session: 1,
            model_fingerprint: 1,
            sequence: 0,
            tokens: vec![0; 8].into(),
            actions: vec![0; 6].into(),
            rewards: float_bytes([0.0; 6]),
            flags: flags.into(),
            behaviour_logits: float_bytes([0.0; 24]),
            carry_dtype: Dtype::F32,
            carry: float_bytes([0.0; 4]),
            policy_versions: vec![0; 3],
            final_tokens: truncated.iter().map(|(_, token)| *token).collect::<Bytes>(),
            episodes: vec![],
            shape,
        }
    }

    #[test]
    fn final_observations_of_several_unrolls_are_in_the_order_of_time() {
        // Ticks 0 and 2 of the first, 0 and 1 of the second.
        let unrolls = [unroll(&[(1, 3), (4, 4)]), unroll(&[(0, 1), (3, 2)])];
        let batch = Batch::stack(&unrolls, 0, Device::Cpu);
        assert_eq!(batch.final_indices, [1, 2, 4 + 3, 8]);
        let tokens = Vec::<u8>::try_from(batch.final_tokens.view(-1)).expect("one axis");
        assert_eq!(tokens, [3, 1, 2, 4]);
        for (index, flags) in batch.flags.iter().enumerate() {
            assert_eq!(
                *flags == flag::TRUNCATED,
                batch.final_indices.contains(&index)
            );
        }
    }
}
