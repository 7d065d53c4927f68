//! One actor process: connect, join, run a session, and come back after whatever ended it.
//!
//! ```text
//!   run: loop { session } with jittered exponential backoff between, until the run is complete
//!
//!   session: Join --spec, seed--> build environments and model
//!              |-- task   weight_sync --newest weights (watch)--> |
//!              |-- thread rollout     <---------------------------|
//!              |                 `--unrolls (channel of 1)--> task upload
//!              `-- ends when the first of them ends, or on shutdown
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hrm_common::{
    backoff::Backoff,
    config::{Config, FileError, Spec, SpecError},
    env::{Curriculum, EnvConfigError, VecEnv},
    error::{Refusal, causes},
    model::{Hrm, ModelConfigError},
    shutdown::Shutdown,
    stage::{ActorStage, StageClock},
    telemetry::names,
    trajectory::{Unroll, UnrollShape},
    weights::{Weights, WeightsError},
    wire,
};
use hrm_proto::{
    WIRE_MAJOR, WIRE_MINOR,
    v1::{JoinRequest, JoinResponse},
};
use thiserror::Error;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::Instant,
};
use tonic::{Code, Status};

use crate::{
    act::{Policy, action_rng},
    connect::{Client, Credentials, connect},
    rollout::Rollout,
    upload::{Uploaded, upload},
    weight_sync::{SyncEnd, weight_sync},
};

/// Unrolls between the rollout thread and the upload. The credits bound what is in flight; this only
/// hands over.
const HAND_OVER: usize = 1;

/// A session that lived this long after it joined counts as healthy: the backoff starts over.
const HEALTHY: Duration = Duration::from_secs(10);

/// The longest that a learner may take to answer a call.
const ANSWER: Duration = Duration::from_secs(10);

/// How an actor process reaches its learner.
#[derive(Debug, Clone)]
pub struct ActorOptions {
    /// URL of the learner, such as `http://127.0.0.1:50051`.
    pub learner: String,
    /// What it shows the learner, and by what it knows it.
    pub credentials: Credentials,
    /// A name for the learner's logs.
    pub name: String,
    /// Random, one per process: an older session of the same actor is fenced off by it.
    pub actor_id: u64,
    /// Shortest wait before connecting again.
    pub backoff_min: Duration,
    /// Longest wait before connecting again.
    pub backoff_max: Duration,
    /// The longest that the learner may take to answer a call.
    pub answer: Duration,
    /// How long a shutdown may wait for the learner to take what was sent.
    pub drain: Duration,
    /// Told when the actor joins its learner and when it has lost it.
    pub joined: watch::Sender<bool>,
}

impl ActorOptions {
    /// The options of a configuration's `[actor]`, with an id of its own.
    pub fn of(config: &Config, name: String) -> Self {
        let actor = &config.actor;
        Self {
            learner: actor.learner.clone(),
            credentials: Credentials::of(actor),
            name,
            actor_id: rand::random(),
            backoff_min: actor.backoff_min(),
            backoff_max: actor.backoff_max(),
            answer: ANSWER,
            drain: actor.drain(),
            joined: watch::Sender::new(false),
        }
    }
}

/// Why an actor's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The learner finished the run.
    RunComplete,
    /// The process was asked to stop.
    Stopped,
}

/// What ends a session.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The URL is no URL.
    #[error("actor.learner = {url:?} is not a URL such as http://127.0.0.1:50051: {reason}")]
    Url {
        /// What was configured.
        url: String,
        /// What the parser says.
        reason: String,
    },
    /// A certificate, key or token that cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The learner cannot be reached, or the connection broke.
    #[error("connection to the learner: {}", causes(.0))]
    Transport(tonic::transport::Error),
    /// The learner ended a call.
    #[error("the learner answered {}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// The learner took a call and said nothing.
    #[error("the learner did not answer {call} within {} s", .after.as_secs_f64())]
    NoAnswer {
        /// The call.
        call: &'static str,
        /// The time that it was waited for.
        after: Duration,
    },
    /// The learner closed a stream without a word, as it does when it stops.
    #[error("the learner closed the {0} stream")]
    Closed(&'static str),
    /// What the learner answered to the handshake is not what arrived.
    #[error("the learner's specification was damaged on its way")]
    Damaged,
    /// Damaged or foreign weights.
    #[error("weights: {0}")]
    Weights(WeightsError),
    /// The learner asks for a configuration that this actor cannot run.
    #[error("the learner's specification: {0}")]
    Spec(SpecError),
    /// The mazes of the specification cannot be played.
    #[error("the learner's mazes: {0}")]
    Env(EnvConfigError),
    /// The model of the specification cannot be built.
    #[error("the learner's model: {0}")]
    Model(ModelConfigError),
    /// The same specification gives another model here: the two programs are of different releases.
    #[error(
        "the learner's model has fingerprint {learner:016x}, this actor builds {actor:016x} from the \
         same specification; run the same release on both sides"
    )]
    Fingerprint {
        /// What the learner says.
        learner: u64,
        /// What was built here.
        actor: u64,
    },
    /// The rollout thread panicked.
    #[error("the rollout thread panicked")]
    Panicked,
    /// The operating system gave no thread.
    #[error("starting the rollout thread: {0}")]
    Thread(std::io::Error),
}

impl From<tonic::transport::Error> for SessionError {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Transport(error)
    }
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl SessionError {
    /// True when trying again cannot help.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Url { .. }
            | Self::Spec(_)
            | Self::Env(_)
            | Self::Model(_)
            | Self::Fingerprint { .. }
            | Self::Panicked => true,
            // The learner's own word, not that of a proxy before a learner that restarts.
            Self::Status(status) => {
                status.code() == Code::Unimplemented && status.details() == b"wire_version"
            }
            Self::NoAnswer { .. }
            | Self::Damaged
            | Self::File(_)
            | Self::Transport(_)
            | Self::Closed(_)
            | Self::Weights(_)
            | Self::Thread(_) => false,
        }
    }
}

impl SessionError {
    /// True when the learner says that there is nothing left to act for.
    fn is_run_complete(&self) -> bool {
        matches!(self, Self::Status(status) if Refusal::RunComplete.is(status))
    }

    /// True when the upload ended as it does when the learner stops.
    fn is_goodbye(&self) -> bool {
        match self {
            Self::Closed(stream) => *stream == "upload",
            Self::Status(status) => status.code() == Code::Unavailable,
            _ => false,
        }
    }
}

/// Acts for the learner until the run is complete or `shutdown` trips; reconnects by itself.
///
/// # Errors
///
/// Only what trying again cannot mend: a bad URL, another wire version, an impossible specification, and, at
/// the start, a certificate, key or token that cannot be used. Later, such a file may be about to be replaced.
pub async fn run(options: ActorOptions, shutdown: Shutdown) -> Result<Outcome, SessionError> {
    options.credentials.read()?;
    // So that it is scraped as 0 while there is no learner yet.
    names::ACTOR_CONNECTED.get().increment(0.0);
    let mut backoff = Backoff::new(options.backoff_min, options.backoff_max, options.actor_id);
    loop {
        let mut joined = None;
        let error = match session(&options, &shutdown, &mut joined).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) if error.is_run_complete() => return Ok(Outcome::RunComplete),
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => error,
        };
        if joined.is_some_and(|at: Instant| at.elapsed() > HEALTHY) {
            backoff.reset();
        }
        let wait = backoff.next_wait();
        names::ACTOR_RECONNECTS.get().increment(1);
        tracing::warn!(%error, retry_in_ms = wait.as_millis() as u64, "session ended; connecting again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.tripped() => return Ok(Outcome::Stopped),
        }
    }
}

/// Counts a joined actor for as long as it is held.
struct Connected<'a>(&'a watch::Sender<bool>);

impl<'a> Connected<'a> {
    fn new(joined: &'a watch::Sender<bool>) -> Self {
        names::ACTOR_CONNECTED.get().increment(1.0);
        joined.send_replace(true);
        Self(joined)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        names::ACTOR_CONNECTED.get().decrement(1.0);
        self.0.send_replace(false);
    }
}

/// Everything that the handshake settles.
struct Joined {
    session: u64,
    seed: u64,
    spec: Spec,
    model: Hrm,
}

/// Waits for the answer to a call, but not for ever.
pub(crate) async fn answered<T>(
    call: &'static str,
    after: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, SessionError> {
    match tokio::time::timeout(after, answer).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(SessionError::NoAnswer { call, after }),
    }
}

/// One session, from the connection to its end. `joined_at` is when it joined, if it came so far.
async fn session(
    options: &ActorOptions,
    shutdown: &Shutdown,
    joined_at: &mut Option<Instant>,
) -> Result<Outcome, SessionError> {
    let connecting = async {
        let mut client = connect(&options.learner, &options.credentials).await?;
        let joined = join(&mut client, options).await?;
        Ok::<_, SessionError>((client, joined))
    };
    let (client, joined) = tokio::select! {
        connected = connecting => connected?,
        () = shutdown.tripped() => return Ok(Outcome::Stopped),
    };
    *joined_at = Some(Instant::now());
    let (session, fingerprint) = (joined.session, joined.model.fingerprint());
    tracing::info!(
        session = format_args!("{session:016x}"),
        learner = options.learner,
        "joined"
    );
    let _connected = Connected::new(&options.joined);

    let (newest_tx, newest_rx) = watch::channel(None);
    let (unroll_tx, unroll_rx) = mpsc::channel(HAND_OVER);
    let in_flight = joined.spec.rollout.unrolls_in_flight;
    let credits = Arc::new(Semaphore::new(in_flight));
    let stop = Arc::new(AtomicBool::new(false));
    let (rollout_done_tx, mut rollout_done) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("rollout".into()).spawn({
        let (stop, runtime) = (stop.clone(), tokio::runtime::Handle::current());
        let credits = credits.clone();
        move || {
            let result = rollout_thread(joined, newest_rx, unroll_tx, &credits, &runtime, &stop);
            // The supervisor may have left already; then nobody waits for the result.
            let _ = rollout_done_tx.send(result);
        }
    });
    let thread = spawned.map_err(SessionError::Thread)?;
    let answer = options.answer;
    let mut sync = Box::pin(weight_sync(
        client.clone(),
        answer,
        session,
        fingerprint,
        newest_tx,
    ));
    let uploading = upload(client, answer, unroll_rx, credits.clone(), in_flight);
    let mut upload = tokio::spawn(uploading);

    // Whatever ends first decides; a rollout that ends by itself hit an error or a closed channel.
    let mut subscribed = true;
    let mut result = tokio::select! {
        end = &mut sync => {
            subscribed = false;
            match end {
                Ok(SyncEnd::RunComplete) => Ok(Outcome::RunComplete),
                Ok(SyncEnd::Closed) => Err(SessionError::Closed("weights")),
                Err(error) => Err(error),
            }
        }
        sent = &mut upload => match sent {
            Ok(Ok(_)) => Err(SessionError::Closed("upload")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SessionError::Panicked),
        },
        done = &mut rollout_done => match done {
            Ok(Ok(())) => Err(SessionError::Closed("upload")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SessionError::Panicked),
        },
        () = shutdown.tripped() => Ok(Outcome::Stopped),
    };

    // A learner that ends a run closes both streams; only the subscription says that it is complete. One that is gone
    // ends both at once, and what a live one still has to send may take its time on a busy link.
    if subscribed
        && result.as_ref().is_err_and(SessionError::is_goodbye)
        && let Ok(Ok(SyncEnd::RunComplete)) = tokio::time::timeout(options.drain, &mut sync).await
    {
        result = Ok(Outcome::RunComplete);
    }
    // The rollout may wait for weights: with their sender gone it waits no longer.
    drop(sync);

    // The rollout abandons its unroll within a tick; dropping its sender ends the upload in order.
    stop.store(true, Ordering::Relaxed);
    credits.close();
    if !upload.is_finished() && result.is_ok() {
        drain(&mut upload, session, options.drain).await;
    }
    upload.abort();
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    match joined {
        Ok(Ok(())) => result,
        Ok(Err(_)) | Err(_) => Err(SessionError::Panicked),
    }
}

/// Waits until the learner has taken everything that was sent, or the deadline is over.
async fn drain(
    upload: &mut JoinHandle<Result<Uploaded, SessionError>>,
    session: u64,
    deadline: Duration,
) {
    match tokio::time::timeout(deadline, upload).await {
        Ok(Ok(Ok(uploaded))) => tracing::info!(
            session = format_args!("{session:016x}"),
            frames_sent = uploaded.frames_sent,
            frames_admitted = uploaded.ack.frames_admitted,
            "the learner took everything that was sent"
        ),
        Ok(Ok(Err(error))) => tracing::info!(%error, "upload ended"),
        Ok(Err(error)) => tracing::error!(%error, "upload task failed"),
        Err(_) => tracing::warn!(
            seconds = deadline.as_secs_f64(),
            "the learner did not take everything within the drain deadline"
        ),
    }
}

async fn join(client: &mut Client, options: &ActorOptions) -> Result<Joined, SessionError> {
    let request = JoinRequest {
        actor_id: options.actor_id,
        wire_major: WIRE_MAJOR,
        wire_minor: WIRE_MINOR,
        name: options.name.clone(),
    };
    let answer = answered("Join", options.answer, client.join(request)).await?;
    if !wire::is_whole(&answer) {
        return Err(SessionError::Damaged);
    }
    let JoinResponse {
        session,
        spec,
        model_fingerprint,
        seed,
        wire_major,
        ..
    } = answer;
    if wire_major != WIRE_MAJOR {
        let refusal = Refusal::WireVersion {
            found: WIRE_MAJOR,
            expected: wire_major,
        };
        return Err(Status::from(refusal).into());
    }
    let spec = Spec::from_json(&spec).map_err(SessionError::Spec)?;
    // The weights that count arrive on the subscription; the seed of these never shows.
    let model =
        Hrm::new(&spec.model, spec.env.grid(), 0, tch::Device::Cpu).map_err(SessionError::Model)?;
    if model.fingerprint() != model_fingerprint {
        return Err(SessionError::Fingerprint {
            learner: model_fingerprint,
            actor: model.fingerprint(),
        });
    }
    Ok(Joined {
        session,
        seed,
        spec,
        model,
    })
}

/// The body of the rollout thread: swap weights, play an unroll, hand it on. Ends without an error
/// when it is told to stop or nobody listens any more.
fn rollout_thread(
    joined: Joined,
    mut newest: watch::Receiver<Option<Weights>>,
    unrolls: mpsc::Sender<Unroll>,
    credits: &Semaphore,
    runtime: &tokio::runtime::Handle,
    stop: &AtomicBool,
) -> Result<(), SessionError> {
    let Joined {
        session,
        seed,
        spec,
        model,
    } = joined;
    let fingerprint = model.fingerprint();
    let envs = VecEnv::new(&spec.env, spec.rollout.envs, seed).map_err(SessionError::Env)?;
    let shape = unroll_shape(&spec, &model);
    let frames = shape.frames() as u64;
    let policy = Policy::new(model, spec.rollout.envs);
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
    while !stop.load(Ordering::Relaxed) {
        clock.enter(ActorStage::Wait);
        match runtime.block_on(credits.acquire()) {
            Ok(credit) => credit.forget(),
            Err(_) => return Ok(()),
        }
        // In synchronous mode the weights made from the last unroll are waited for; otherwise only
        // the first ones are.
        let fresh_enough = |newest: &Option<Weights>| match (newest, version) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(weights), Some(version)) => {
                !spec.rollout.synchronous || weights.version > version
            }
        };
        let weights = match runtime.block_on(newest.wait_for(fresh_enough)) {
            Ok(weights) => weights.clone(),
            Err(_) => return Ok(()),
        };
        let Some(weights) = weights else { continue };
        if version != Some(weights.version) {
            let loaded = rollout.policy().load(&weights.body);
            loaded.map_err(SessionError::Weights)?;
            if version.is_none() {
                // The vectors that a carry starts from are fixed tensors of the weights: until now the
                // environments held those of a model that nobody trains.
                rollout.policy().reset(&vec![true; spec.rollout.envs]);
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
        let unroll = rollout.unroll(weights.version, &mut clock, || stop.load(Ordering::Relaxed));
        let Some(unroll) = unroll else {
            names::ACTOR_UNROLLS_ABANDONED.get().increment(1);
            return Ok(());
        };
        names::ACTOR_FRAMES.get().increment(frames);
        names::ACTOR_UNROLLS_PRODUCED.get().increment(1);
        clock.enter(ActorStage::Wait);
        if unrolls.blocking_send(unroll).is_err() {
            names::ACTOR_UNROLLS_ABANDONED.get().increment(1);
            return Ok(());
        }
    }
    Ok(())
}

/// The sizes of the unrolls that a specification asks for.
pub fn unroll_shape(spec: &Spec, model: &Hrm) -> UnrollShape {
    UnrollShape {
        ticks: spec.rollout.unroll_length,
        envs: spec.rollout.envs,
        tokens: spec.env.grid().len(),
        carry: model.carry_shape(1).iter().product::<i64>() as usize,
    }
}

#[cfg(test)]
mod tests {
    use hrm_common::{
        config::RolloutConfig,
        env::{CurriculumConfig, EnvConfig},
        model::{ModelConfig, state},
    };
    use tch::Device;

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
        let model = model(&spec, 0);
        Joined {
            session: 1,
            seed: 2,
            spec,
            model,
        }
    }

    fn model(spec: &Spec, seed: u64) -> Hrm {
        Hrm::new(&spec.model, spec.env.grid(), seed, Device::Cpu).expect("a valid model")
    }

    /// However they are printed: a cause stands in the text or behind it.
    #[tokio::test]
    async fn errors_say_their_cause_once() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", closed.local_addr().expect("an address"));
        drop(closed);
        let no_credentials = Credentials::default();
        let refused = connect(&url, &no_credentials)
            .await
            .expect_err("nobody listens");
        assert!(refused.to_string().contains("refused"), "{refused}");
        let no_url = connect("no url", &no_credentials)
            .await
            .expect_err("no URL");
        let env = EnvConfig {
            max_steps: 0,
            ..EnvConfig::four_rooms()
        };
        let weights = hrm_common::weights::load(&mut model(&joined().spec, 0), b"x");
        for error in [
            refused,
            no_url,
            SessionError::Weights(weights.expect_err("no weights")),
            SessionError::Spec(Spec::from_json("{").expect_err("half")),
            SessionError::Env(env.validate().expect_err("no steps")),
            SessionError::Thread(std::io::Error::other("no more threads")),
        ] {
            let text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                let said = error.to_string();
                assert!(!text.contains(&said), "{text:?} and its cause {said:?}");
                cause = error.source();
            }
        }
    }

    /// The vectors that a carry starts from are part of the weights, so the first episodes too must wait
    /// for the learner's.
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
        let expected = Policy::new(published, 3).carry_bytes(joined.spec.rollout.carry_dtype);

        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let handle = runtime.handle().clone();
        let (_newest, newest) = watch::channel(Some(weights));
        let (unrolls, mut made) = mpsc::channel(HAND_OVER);
        let credits = Arc::new(Semaphore::new(1));
        let thread = std::thread::spawn({
            let credits = credits.clone();
            let stop = AtomicBool::new(false);
            move || rollout_thread(joined, newest, unrolls, &credits, &handle, &stop)
        });
        let unroll = made.blocking_recv().expect("an unroll for the one credit");
        credits.close();
        thread.join().expect("no panic").expect("an orderly end");
        assert_eq!(unroll.policy_versions, [5, 5]);
        assert_eq!(unroll.carry, expected);
    }
}
