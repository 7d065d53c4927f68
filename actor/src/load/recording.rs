//! A few real unrolls, played once and sent by every session.

use std::ops::ControlFlow;

use hrm_common::{
    env::VecEnv,
    model::native::Lanes,
    policy::{Policy, action_rng},
    stage::{ActorStage, StageClock},
    telemetry::names,
    trajectory::{RolloutId, Unroll},
    weights::{self, Weights},
    wire,
};
use hrm_proto::v1::UnrollBatch;

use crate::{
    connect::connect,
    error::{SessionError, Stream},
    join::{Joined, join},
    options::ActorOptions,
    rollout::Rollout,
    weight_sync::subscribe,
};

/// Unrolls of a recording: enough for episodes to end in some and not in others.
const UNROLLS: usize = 8;

/// Recorded unrolls of the learner's mazes and weights.
#[derive(Debug)]
pub(super) struct RecordedUnrolls {
    unrolls: Vec<Unroll>,
}

impl RecordedUnrolls {
    /// Joins as an actor, plays unrolls with the learner's weights, and leaves.
    pub(super) async fn make(options: &ActorOptions) -> Result<Self, SessionError> {
        let mut client = connect(&options.learner, &options.credentials).await?;
        let joined = join(&mut client, options).await?;
        let (session, fingerprint) = (joined.session, joined.parameters.fingerprint());
        let first = ControlFlow::Break;
        let newest = subscribe(client, options.answer, session, fingerprint, first).await?;
        let newest = newest.ok_or(SessionError::Closed(Stream::Weights))?;
        let played = tokio::task::spawn_blocking(move || play(joined, &newest)).await;
        played.map_err(|_| SessionError::Panicked)?
    }

    /// Number of unrolls.
    pub(super) fn len(&self) -> usize {
        self.unrolls.len()
    }

    /// Frames per unroll.
    pub(super) fn frames(&self) -> u64 {
        self.unrolls[0].shape.frames() as u64
    }

    /// Size of an encoded unroll.
    pub(super) fn bytes(&self) -> usize {
        prost::Message::encoded_len(&wire::encode(&self.unrolls[0]))
    }

    /// Returns the next unroll of a session that has sent `sequence`, as if played with the weights of `version`.
    pub(super) fn message(&self, session: u64, sequence: u64, version: u64) -> UnrollBatch {
        let recorded = &self.unrolls[(sequence % self.unrolls.len() as u64) as usize];
        wire::encode(&Unroll {
            session,
            sequence,
            policy_versions: vec![version; recorded.shape.ticks],
            // The arrays are shared, not copied.
            ..recorded.clone()
        })
    }
}

fn play(joined: Joined, newest: &Weights) -> Result<RecordedUnrolls, SessionError> {
    let Joined {
        session,
        seed,
        spec,
        mut parameters,
    } = joined;
    weights::load(&mut parameters, &newest.body).map_err(SessionError::Weights)?;
    let fingerprint = parameters.fingerprint();
    let envs = spec.rollout.envs;
    let mut rollout = Rollout::new(
        VecEnv::new(&spec.env, envs, seed).map_err(SessionError::Env)?,
        Policy::for_rollouts(Lanes::new(parameters, envs)),
        action_rng(seed),
        spec.unroll_shape(),
        spec.rollout.carry_dtype,
        RolloutId { session, thread: 0 },
        fingerprint,
    );
    let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
    let unrolls = (0..UNROLLS).filter_map(|_| rollout.unroll(newest.version, &mut clock, || false));
    Ok(RecordedUnrolls {
        unrolls: unrolls.collect(),
    })
}
