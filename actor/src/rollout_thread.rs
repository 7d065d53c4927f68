//! The rollout thread: loads new weights, plays an unroll, passes it to the upload.

use hrm_common::{
    env::{Curriculum, VecEnv},
    model::native::Lanes,
    policy::{Policy, RecurrentNetwork as _, action_rng},
    shutdown::Shutdown,
    stage::{ActorStage, StageClock},
    telemetry::names,
    trajectory::Unroll,
    weights::Weights,
};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{error::SessionError, join::Joined, rollout::Rollout};

/// The requests that end a rollout.
#[derive(Debug, Default)]
pub(crate) struct RolloutEnds {
    /// Abandons the unroll that is being played, and plays no other.
    pub(crate) stop: Shutdown,
    /// Abandons an unroll that waits for the upload, too.
    pub(crate) abandon: Shutdown,
}

/// Loads new weights, plays an unroll and passes it to the upload, again and again.
///
/// Returns without an error when it is asked to end, when the weights' sender is dropped, or when the upload has ended.
///
/// # Errors
///
/// Fails when the mazes of the specification are invalid or the weights do not fit the model.
pub(crate) fn rollout_thread(
    joined: Joined,
    mut newest: watch::Receiver<Option<Weights>>,
    unrolls: mpsc::Sender<Unroll>,
    credits: &Semaphore,
    runtime: &tokio::runtime::Handle,
    ends: &RolloutEnds,
) -> Result<(), SessionError> {
    let RolloutEnds { stop, abandon } = ends;
    let Joined {
        session,
        seed,
        spec,
        parameters,
    } = joined;
    let fingerprint = parameters.fingerprint();
    let envs = VecEnv::new(&spec.env, spec.rollout.envs, seed).map_err(SessionError::Env)?;
    let shape = spec.unroll_shape();
    let frames = shape.frames() as u64;
    let policy = Policy::new(Lanes::new(parameters, spec.rollout.envs));
    let mut rollout = Rollout::new(
        envs,
        policy,
        action_rng(seed),
        shape,
        spec.rollout.carry_dtype,
        session,
        fingerprint,
    );
    let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
    let mut version = None;
    while !stop.is_tripped() {
        clock.enter(ActorStage::Wait);
        match runtime.block_on(until(stop, credits.acquire())) {
            Some(Ok(credit)) => credit.forget(),
            Some(Err(_)) | None => return Ok(()),
        }
        // A synchronous actor waits for the weights that its last unroll went into. Any other actor waits
        // for the first weights only.
        let fresh_enough = |newest: &Option<Weights>| match (newest, version) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(weights), Some(version)) => {
                !spec.rollout.synchronous || weights.version > version
            }
        };
        let weights = match runtime.block_on(until(stop, newest.wait_for(fresh_enough))) {
            Some(Ok(weights)) => weights.clone(),
            Some(Err(_)) | None => return Ok(()),
        };
        let Some(weights) = weights else { continue };
        if version != Some(weights.version) {
            let network = rollout.network();
            network.load(&weights.body).map_err(SessionError::Weights)?;
            if version.is_none() {
                // The initial carry is part of the weights. Until now the environments held the carry of the
                // untrained model.
                (0..spec.rollout.envs).for_each(|env| network.reset(env));
            }
            rollout.envs().set_curriculum(Curriculum {
                max_distance: weights.curriculum_distance,
                uniform_share: spec.curriculum.uniform_share,
            });
            names::ACTOR_WEIGHTS_VERSION
                .get()
                .set(weights.version as f64);
            version = Some(weights.version);
        }
        let unroll = rollout.unroll(weights.version, &mut clock, || stop.is_tripped());
        let Some(unroll) = unroll else {
            names::ACTOR_UNROLLS_ABANDONED.get().increment(1);
            return Ok(());
        };
        names::ACTOR_FRAMES.get().increment(frames);
        names::ACTOR_UNROLLS_PRODUCED.get().increment(1);
        clock.enter(ActorStage::Wait);
        let Some(Ok(())) = runtime.block_on(until(abandon, unrolls.send(unroll))) else {
            names::ACTOR_UNROLLS_ABANDONED.get().increment(1);
            return Ok(());
        };
    }
    Ok(())
}

/// Returns the result of `wait`, or `None` if `end` trips before.
async fn until<T>(end: &Shutdown, wait: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        result = wait => Some(result),
        () = end.tripped() => None,
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::{
        config::{RolloutConfig, Spec},
        env::{CurriculumConfig, EnvConfig},
        model::{ModelConfig, Parameters, state},
    };

    use super::*;

    fn joined() -> Joined {
        let spec = Spec {
            env: EnvConfig::four_rooms(),
            curriculum: CurriculumConfig::default(),
            model: ModelConfig {
                hidden: 8,
                ..ModelConfig::small()
            },
            rollout: RolloutConfig {
                envs: 3,
                unroll_length: 2,
                ..RolloutConfig::default()
            },
        };
        let parameters = model(&spec, 0);
        Joined {
            session: 1,
            seed: 2,
            spec,
            parameters,
        }
    }

    fn model(spec: &Spec, seed: u64) -> Parameters {
        Parameters::new(&spec.model, spec.env.grid(), seed).expect("a valid model")
    }

    /// The initial carry is part of the weights, so the first episodes must start from the learner's.
    #[test]
    fn the_first_carry_starts_from_the_learners_vectors() {
        let joined = joined();
        let published = model(&joined.spec, 7);
        let weights = Weights::new(
            5,
            state::encode(&published).into(),
            published.fingerprint(),
            0,
            false,
        );
        let expected = Lanes::new(published, 3).carry_bytes(joined.spec.rollout.carry_dtype);

        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let handle = runtime.handle().clone();
        let (_newest, newest) = watch::channel(Some(weights));
        let (unrolls, mut made) = mpsc::channel(1);
        let ends = RolloutEnds::default();
        let stop = ends.stop.clone();
        let thread = std::thread::spawn({
            let credits = Semaphore::new(1);
            move || rollout_thread(joined, newest, unrolls, &credits, &handle, &ends)
        });
        let unroll = made.blocking_recv().expect("an unroll for the one credit");
        stop.trip();
        thread.join().expect("no panic").expect("an orderly end");
        assert_eq!(unroll.policy_versions, [5, 5]);
        assert_eq!(unroll.carry, expected);
    }
}
