//! One session: connects, joins, and acts until one of its parts ends.
//!
//! ```text
//!   Join --spec, seed--> build environments and model
//!     |-- task   weight_sync --newest weights (watch)--> |
//!     |-- thread rollout     <---------------------------|
//!     |                 `--unrolls (channel of 1)--> task upload
//!     `-- ends when one of them ends, or on shutdown
//! ```

use std::{sync::Arc, time::Duration};

use hrm_common::{shutdown::Shutdown, telemetry::names};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    connect::connect,
    error::{SessionError, Stream},
    join::join,
    options::ActorOptions,
    rollout_thread::{RolloutEnds, rollout_thread},
    upload::{FIRST, Uploaded, upload},
    weight_sync::{SyncEnd, weight_sync},
};

/// Capacity of the channel from the rollout thread to the upload. It only hands unrolls over: the credits limit the
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

/// Runs one session, from the connection to its end. Sets `joined_at` when the actor joins.
pub(crate) async fn session(
    options: &ActorOptions,
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
        "joined"
    );
    let _connected = Connected::new(&options.joined);

    let (newest_tx, newest_rx) = watch::channel(None);
    let (unroll_tx, unroll_rx) = mpsc::channel(HAND_OVER);
    let in_flight = joined.spec.rollout.unrolls_in_flight;
    let credits = Arc::new(Semaphore::new(FIRST as usize));
    let (stop, abandon) = (Shutdown::new(), Shutdown::new());
    let (rollout_done_tx, mut rollout_done) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("rollout".into()).spawn({
        let ends = RolloutEnds {
            stop: stop.clone(),
            abandon: abandon.clone(),
        };
        let (credits, runtime) = (credits.clone(), tokio::runtime::Handle::current());
        move || {
            let result = rollout_thread(joined, newest_rx, unroll_tx, &credits, &runtime, &ends);
            // The session may have ended already, and then nothing receives the result.
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
        done = &mut rollout_done => match done {
            Ok(Ok(())) => Err(SessionError::Closed(Stream::Upload)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SessionError::Panicked),
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

    // The rollout abandons its unroll within a tick. It then drops its sender, which ends the upload in order.
    stop.trip();
    if uploading && result.is_ok() {
        drain(&mut upload, session, options.drain).await;
    }
    upload.abort();
    abandon.trip();
    // The subscription of an actor that stops ends last: until the first unroll arrives, the learner knows the session by
    // its subscription alone.
    drop(sync);
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    match joined {
        Ok(Ok(())) => result,
        Ok(Err(_)) | Err(_) => Err(SessionError::Panicked),
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
