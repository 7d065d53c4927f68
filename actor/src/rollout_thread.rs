//! A rollout thread: takes over new weights, plays an unroll, passes it to the upload.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use hrm_common::{
    config::{RolloutConfig, Spec},
    env::{Curriculum, VecEnv},
    policy::{Policy, SharedNetwork, thread_action_rng},
    shutdown::Shutdown,
    stage::{ActorStage, StageClock},
    telemetry::names,
    trajectory::{RolloutId, Unroll},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until},
};

use crate::{error::SessionError, loaded_weights::LoadedWeights, rollout::Rollout};

/// The data that the rollout threads of a session share.
#[derive(Debug)]
pub(crate) struct Shared<N> {
    /// The mazes, the model and the length of an unroll.
    pub(crate) spec: Arc<Spec>,
    /// The session and the seed of its environments.
    pub(crate) session: u64,
    pub(crate) seed: u64,
    /// The shortest time of an unroll.
    pub(crate) least_time: Duration,
    /// The newest weights.
    pub(crate) weights: Arc<LoadedWeights<N>>,
    /// Permissions to play an unroll.
    pub(crate) credits: Arc<Semaphore>,
    /// The way to the upload.
    pub(crate) unrolls: mpsc::Sender<Unroll>,
    /// The end of the session.
    pub(crate) ends: RolloutEnds,
}

/// The requests that end a rollout.
#[derive(Debug, Clone, Default)]
pub(crate) struct RolloutEnds {
    /// Abandons the unroll that is being played, and plays no other.
    pub(crate) stop: Shutdown,
    /// Abandons an unroll that waits for the upload, too.
    pub(crate) abandon: Shutdown,
}

impl<N> Clone for Shared<N> {
    fn clone(&self) -> Self {
        Self {
            spec: self.spec.clone(),
            weights: self.weights.clone(),
            credits: self.credits.clone(),
            unrolls: self.unrolls.clone(),
            ends: self.ends.clone(),
            ..*self
        }
    }
}

/// The rollout threads of a session.
#[derive(Debug)]
pub(crate) struct Rollouts {
    threads: Vec<JoinHandle<()>>,
    /// The result of each thread that ended.
    results: mpsc::UnboundedReceiver<Result<(), SessionError>>,
}

impl Rollouts {
    /// Starts `threads` rollout threads.
    ///
    /// # Errors
    ///
    /// Fails when the operating system starts no thread.
    pub(crate) fn start<N: SharedNetwork>(
        threads: u32,
        shared: Shared<N>,
    ) -> Result<Self, SessionError> {
        let (sender, results) = mpsc::unbounded_channel();
        let start = |thread| {
            let (shared, sender) = (shared.clone(), sender.clone());
            let runtime = tokio::runtime::Handle::current();
            let play = move || {
                let play = AssertUnwindSafe(|| rollout_thread(thread, shared, &runtime));
                let (result, panic) = match panic::catch_unwind(play) {
                    Ok(result) => (result, None),
                    Err(panic) => (Err(SessionError::Panicked), Some(panic)),
                };
                // The session may have ended already, and then nothing receives the result.
                let _ = sender.send(result);
                if let Some(panic) = panic {
                    panic::resume_unwind(panic);
                }
            };
            let named = thread::Builder::new().name(format!("rollout-{thread}"));
            named.spawn(play).map_err(SessionError::Thread)
        };
        let started: Result<_, _> = (0..threads).map(start).collect();
        Ok(Self {
            // The threads that did start must not wait forever.
            threads: started.inspect_err(|_| shared.ends.stop.trip())?,
            results,
        })
    }

    /// Waits until the first thread ends. A thread ends by itself only after an error or a closed channel.
    ///
    /// # Errors
    ///
    /// The thread's error, or its panic.
    pub(crate) async fn ended(&mut self) -> Result<(), SessionError> {
        let first = self.results.recv().await;
        first.unwrap_or(Err(SessionError::Panicked))
    }

    /// Waits until all threads have ended. Returns false if one has panicked.
    pub(crate) async fn join(self) -> bool {
        let join = || {
            let ended = self.threads.into_iter().map(JoinHandle::join);
            let panicked = ended.filter(Result::is_err).count();
            panicked == 0
        };
        tokio::task::spawn_blocking(join).await.unwrap_or(false)
    }
}

/// Takes over new weights, plays an unroll and passes it to the upload, again and again.
///
/// Returns without an error when it is asked to end, when the weights' sender is dropped, or when the upload has ended.
///
/// # Errors
///
/// Fails when the mazes of the specification are invalid or the weights do not fit the model.
pub(crate) fn rollout_thread<N: SharedNetwork>(
    thread: u32,
    shared: Shared<N>,
    runtime: &tokio::runtime::Handle,
) -> Result<(), SessionError> {
    let Shared {
        spec,
        session,
        seed,
        least_time,
        weights,
        credits,
        unrolls,
        ends: RolloutEnds { stop, abandon },
    } = shared;
    let RolloutConfig {
        envs,
        carry_dtype,
        synchronous,
        ..
    } = spec.rollout;
    let mazes = VecEnv::from_thread(&spec.env, envs, seed, thread).map_err(SessionError::Env)?;
    let shape = spec.unroll_shape();
    let frames = shape.frames() as u64;
    let mut rollout = Rollout::new(
        mazes,
        Policy::for_rollouts(weights.network(envs)),
        thread_action_rng(seed, thread),
        shape,
        carry_dtype,
        RolloutId { session, thread },
        weights.fingerprint(),
    );
    let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
    let mut version = None;
    while !stop.is_tripped() {
        clock.enter(ActorStage::Wait);
        match runtime.block_on(until(&stop, credits.acquire())) {
            Some(Ok(credit)) => credit.forget(),
            Some(Err(_)) | None => return Ok(()),
        }
        // In a synchronous run, a thread waits for weights newer than those of its last unroll. Otherwise it waits for
        // the first weights only.
        let known = if synchronous { version } else { None };
        match runtime.block_on(until(&stop, weights.newer_than(known))) {
            Some(true) => {}
            Some(false) | None => return Ok(()),
        }
        let Some(newest) = weights.load(rollout.network(), version)? else {
            continue;
        };
        if version != Some(newest.version) {
            if version.is_none() {
                // The initial carry is part of the weights. Until now the environments held the carry of the
                // untrained model.
                (0..envs).for_each(|env| rollout.network().reset(env));
            }
            rollout.envs().set_curriculum(Curriculum {
                max_distance: newest.curriculum_distance,
                uniform_share: spec.curriculum.uniform_share,
            });
            names::ACTOR_WEIGHTS_VERSION
                .get()
                .set(newest.version as f64);
            version = Some(newest.version);
        }
        let began = Instant::now();
        let unroll = rollout.unroll(newest.version, &mut clock, || stop.is_tripped());
        let Some(unroll) = unroll else {
            names::ACTOR_UNROLLS_ABANDONED.get().increment(1);
            return Ok(());
        };
        names::ACTOR_FRAMES.get().increment(frames);
        names::ACTOR_UNROLLS_PRODUCED.get().increment(1);
        // A rest imitates a slower machine, so it counts as acting. An actor that stops does not finish it.
        clock.enter(ActorStage::Infer);
        let rest = async { sleep_until(began + least_time).await };
        runtime.block_on(until(&stop, rest));
        clock.enter(ActorStage::Wait);
        let Some(Ok(())) = runtime.block_on(until(&abandon, unrolls.send(unroll))) else {
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
    use std::collections::HashSet;

    use hrm_common::{
        env::{CurriculumConfig, EnvConfig},
        model::{Depth, ModelConfig, Parameters, native::Lanes, state},
        policy::RecurrentNetwork as _,
        weights::Weights,
    };
    use tokio::sync::watch;

    use super::*;

    fn spec() -> Spec {
        Spec {
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
        }
    }

    fn model(seed: u64) -> Parameters {
        let spec = spec();
        Parameters::new(&spec.model, spec.env.grid(), seed).expect("a valid model")
    }

    fn weights(version: u64, model: &Parameters) -> Weights {
        let (body, fingerprint) = (state::encode(model).into(), model.fingerprint());
        Weights::new(version, body, fingerprint, 0, false)
    }

    fn loaded(newest: watch::Receiver<Option<Weights>>) -> LoadedWeights<Lanes> {
        let model = model(0);
        let fingerprint = model.fingerprint();
        LoadedWeights::new(Lanes::new(model, 0), fingerprint, newest)
    }

    /// The parts of a session that plays `spec` on `published` with so many credits. Returns the receiver of its
    /// unrolls.
    fn shared(
        spec: Spec,
        published: &Parameters,
        credits: usize,
    ) -> (Shared<Lanes>, mpsc::Receiver<Unroll>) {
        let (_, newest) = watch::channel(Some(weights(5, published)));
        let (unrolls, made) = mpsc::channel(1);
        let shared = Shared {
            spec: Arc::new(spec),
            session: 1,
            seed: 2,
            least_time: Duration::ZERO,
            weights: Arc::new(loaded(newest)),
            credits: Arc::new(Semaphore::new(credits)),
            unrolls,
            ends: RolloutEnds::default(),
        };
        (shared, made)
    }

    /// Plays one unroll per credit with `threads` threads on `published`, and returns them.
    fn play(threads: u32, credits: usize, published: &Parameters) -> Vec<Unroll> {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (shared, mut made) = shared(spec(), published, credits);
        let ends = shared.ends.clone();
        runtime.block_on(async {
            let rollouts = Rollouts::start(threads, shared).expect("threads");
            let mut played = Vec::new();
            while played.len() < credits {
                played.push(made.recv().await.expect("an unroll per credit"));
            }
            ends.stop.trip();
            assert!(rollouts.join().await, "no panic");
            played
        })
    }

    /// The initial carry is part of the weights, so the first episodes must start from the learner's.
    #[test]
    fn the_first_carry_starts_from_the_learners_vectors() {
        let published = model(7);
        let dtype = spec().rollout.carry_dtype;
        let expected = Lanes::new(published.clone(), 3).carry_bytes(dtype);
        let unrolls = play(1, 1, &published);
        assert_eq!(unrolls[0].policy_versions, [5, 5]);
        assert_eq!(unrolls[0].carry, expected);
    }

    /// Each thread plays the environments that follow those of the thread before it, with its own choice of actions.
    #[test]
    fn threads_share_a_session_and_play_different_mazes() {
        let (threads, published) = (4, model(7));
        let unrolls = play(threads, 64, &published);
        let many = VecEnv::new(&spec().env, 12, 2).expect("mazes");
        let size = spec().env.grid().len();
        let mut seen = HashSet::new();
        for (thread, mazes) in (0..threads).zip(many.observations().chunks_exact(3 * size)) {
            let of_thread: Vec<_> = unrolls.iter().filter(|u| u.thread == thread).collect();
            assert!(of_thread.iter().all(|unroll| unroll.session == 1));
            let sequences = of_thread.iter().map(|unroll| unroll.sequence);
            assert!(sequences.eq(0..of_thread.len() as u64));
            if let [first, ..] = of_thread[..] {
                assert_eq!(first.tokens[..mazes.len()], *mazes);
                assert!(seen.insert((first.actions.clone(), first.tokens.clone())));
            }
        }
        assert!(seen.len() > 1, "more than one thread has played");
    }

    /// A version is loaded once, and no thread goes back to an older one.
    #[test]
    fn threads_share_one_copy_of_the_weights() {
        let (published, later) = (model(7), model(8));
        let (newest, receiver) = watch::channel(None);
        let loaded = loaded(receiver);
        let mut lanes = [loaded.network(1), loaded.network(1)];
        assert!(
            loaded
                .load(&mut lanes[0], None)
                .expect("none yet")
                .is_none()
        );
        newest.send_replace(Some(weights(5, &published)));
        for lanes in &mut lanes {
            let found = loaded.load(lanes, None).expect("fit").expect("some");
            assert_eq!(found.version, 5);
        }
        assert!(std::ptr::eq(lanes[0].parameters(), lanes[1].parameters()));
        newest.send_replace(Some(weights(6, &later)));
        loaded.load(&mut lanes[0], Some(5)).expect("fit");
        assert!(!std::ptr::eq(lanes[0].parameters(), lanes[1].parameters()));
        let mut expected = Lanes::new(published, 1);
        let tokens = vec![1; spec().env.grid().len()];
        let (mut found, mut wanted) = ([0.0; 4], [0.0; 4]);
        lanes[1].reset(0);
        lanes[1].decide(&tokens, &mut [Depth::at_least(1)], &mut found);
        expected.decide(&tokens, &mut [Depth::at_least(1)], &mut wanted);
        assert_eq!(found, wanted, "the other thread keeps what it has");
    }

    /// The end of one thread ends the session, also if that thread panics.
    #[test]
    fn a_panic_of_one_thread_is_reported() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut mazes = spec();
        // The model's grid no longer fits the mazes.
        mazes.env = EnvConfig::random_maze();
        let (shared, _made) = shared(mazes, &model(7), 1);
        let ends = shared.ends.clone();
        runtime.block_on(async {
            let mut rollouts = Rollouts::start(2, shared).expect("threads");
            let ended = rollouts.ended().await;
            assert!(matches!(ended, Err(SessionError::Panicked)), "{ended:?}");
            ends.stop.trip();
            assert!(!rollouts.join().await);
        });
    }
}
