//! One session: connects, joins, and acts until one of its parts ends.
//!
//! ```text
//!   Join --spec, seed--> build environments and model
//!     |-- task   weight_sync --newest weights (watch)--> |
//!     |-- threads rollout    <---------------------------|
//!     |                 `--unrolls (channel of 1)--> task upload
//!     `-- ends when one of them ends, or on shutdown
//! ```

use std::{sync::Arc, time::Duration};

use hrm_common::{model::Parameters, policy::SharedNetwork, shutdown::Shutdown, telemetry::names};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    connect::connect,
    error::{SessionError, Stream},
    join::join,
    loaded_weights::LoadedWeights,
    options::ActorOptions,
    rollout_thread::{RolloutEnds, Rollouts, Shared},
    upload::{FIRST, Uploaded, upload},
    weight_sync::{SyncEnd, weight_sync},
};

/// Capacity of the channel from the rollout threads to the upload. It only hands unrolls over: the credits limit the
/// unrolls in flight.
const HAND_OVER: usize = 1;

/// The reason why an actor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The learner finished the run.
    RunComplete,
    /// The process was asked to stop.
    Stopped,
}

/// Counts an actor as joined until it is dropped.
struct Connected<'a>(&'a ActorOptions);

impl<'a> Connected<'a> {
    fn new(options: &'a ActorOptions) -> Self {
        names::ACTOR_CONNECTED.get().increment(1.0);
        names::ACTOR_ROLLOUT_THREADS
            .get()
            .increment(options.threads);
        options.joined.send_replace(true);
        Self(options)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        names::ACTOR_CONNECTED.get().decrement(1.0);
        names::ACTOR_ROLLOUT_THREADS.get().decrement(self.0.threads);
        self.0.joined.send_replace(false);
    }
}

/// Runs one session, from the connection to its end. `build` makes a network without environments. Sets `joined_at`
/// when the actor joins.
pub(crate) async fn session<N: SharedNetwork>(
    options: &ActorOptions,
    build: impl Fn(Parameters) -> N,
    shutdown: &Shutdown,
    joined_at: &mut Option<Instant>,
) -> Result<Ending, SessionError> {
    let connecting = async {
        let mut client = connect(&options.learner, &options.credentials).await?;
        let joined = join(&mut client, options).await?;
        Ok::<_, SessionError>((client, joined))
    };
    let (client, joined) = tokio::select! {
        connected = connecting => connected?,
        () = shutdown.tripped() => return Ok(Ending::Stopped),
    };
    *joined_at = Some(Instant::now());
    let (session, fingerprint) = (joined.session, joined.parameters.fingerprint());
    tracing::info!(
        session = format_args!("{session:016x}"),
        learner = options.learner,
        threads = options.threads,
        "joined"
    );
    let _connected = Connected::new(options);

    let (newest_tx, newest_rx) = watch::channel(None);
    let (unroll_tx, unroll_rx) = mpsc::channel(HAND_OVER);
    let in_flight = joined.spec.rollout.unrolls_in_flight * options.threads as usize;
    let credits = Arc::new(Semaphore::new(FIRST as usize));
    let ends = RolloutEnds::default();
    let least_time = options.least_unroll_time(joined.spec.rollout.frames());
    let mut rollouts = Rollouts::start(
        options.threads,
        Shared {
            spec: Arc::new(joined.spec),
            session,
            seed: joined.seed,
            least_time,
            weights: Arc::new(LoadedWeights::new(
                build(joined.parameters),
                fingerprint,
                newest_rx,
            )),
            credits: credits.clone(),
            unrolls: unroll_tx,
            ends: ends.clone(),
        },
    )?;
    let answer = options.answer;
    let mut sync = Box::pin(weight_sync(
        client.clone(),
        answer,
        session,
        fingerprint,
        newest_tx,
    ));
    let mut upload = tokio::spawn(upload(
        client,
        answer,
        unroll_rx,
        credits.clone(),
        in_flight,
    ));

    // The part that ends first decides the result. A rollout ends by itself only after an error or a closed channel.
    let (mut subscribed, mut uploading) = (true, true);
    let mut result = tokio::select! {
        end = &mut sync => {
            subscribed = false;
            match end {
                Ok(SyncEnd::RunComplete) => Ok(Ending::RunComplete),
                Ok(SyncEnd::Closed) => Err(SessionError::Closed(Stream::Weights)),
                Err(error) => Err(error),
            }
        }
        sent = &mut upload => {
            uploading = false;
            match sent {
                Ok(Ok(_)) => Err(SessionError::Closed(Stream::Upload)),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(SessionError::Panicked),
            }
        }
        ended = rollouts.ended() => match ended {
            Ok(()) => Err(SessionError::Closed(Stream::Upload)),
            Err(error) => Err(error),
        },
        () = shutdown.tripped() => Ok(Ending::Stopped),
    };

    // A learner that completes a run closes both streams, but only the subscription says so, and it may arrive late.
    // A learner that is gone ends both streams at once, so the wait is short.
    if subscribed
        && result.as_ref().is_err_and(SessionError::is_goodbye)
        && let Ok(Ok(SyncEnd::RunComplete)) = tokio::time::timeout(options.drain, &mut sync).await
    {
        result = Ok(Ending::RunComplete);
    }

    // Each rollout abandons its unroll within a tick, and drops its sender. The last one ends the upload in order.
    ends.stop.trip();
    if uploading && result.is_ok() {
        drain(&mut upload, session, options.drain).await;
    }
    upload.abort();
    ends.abandon.trip();
    // The subscription of an actor that stops ends last: until the first unroll arrives, the learner knows the session
    // by its subscription alone.
    drop(sync);
    match rollouts.join().await {
        true => result,
        false => Err(SessionError::Panicked),
    }
}

/// Waits until the learner has received everything that was sent, for `deadline` at most.
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
