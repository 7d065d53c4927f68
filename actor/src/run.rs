//! Runs an actor: one session after another, with a backoff between them.

use std::time::Duration;

use hrm_common::{
    backoff::Backoff,
    model::{Parameters, native::Lanes},
    policy::SharedNetwork,
    shutdown::Shutdown,
    telemetry::names,
};
use tokio::time::Instant;

use crate::{
    error::SessionError,
    options::ActorOptions,
    session::{Ending, session},
};

/// A session that lasts this long after it joined is healthy, and resets the backoff.
const HEALTHY: Duration = Duration::from_secs(10);

/// Acts for the learner until the run is complete or `shutdown` trips. Reconnects after every interruption.
///
/// # Errors
///
/// Fails where a retry cannot help: an invalid URL, another wire version or an invalid specification. An unusable
/// certificate, key or token is an error at the start only, because later the file may be about to be replaced.
pub async fn run(options: ActorOptions, shutdown: Shutdown) -> Result<Ending, SessionError> {
    let build = |parameters| Lanes::new(parameters, 0);
    run_with(options, build, shutdown).await
}

/// Acts as [`run`] does, with other networks than the kernels'. `build` makes one without environments from the
/// parameters of an untrained model.
///
/// # Errors
///
/// Fails as [`run`] does.
pub async fn run_with<N: SharedNetwork>(
    options: ActorOptions,
    build: impl Fn(Parameters) -> N,
    shutdown: Shutdown,
) -> Result<Ending, SessionError> {
    options.credentials.read()?;
    // Exports the gauges as 0 until the actor joins.
    names::ACTOR_CONNECTED.get().increment(0.0);
    names::ACTOR_ROLLOUT_THREADS.get().increment(0.0);
    let mut backoff = Backoff::new(options.backoff_min, options.backoff_max, options.actor_id);
    loop {
        let mut joined = None;
        let error = match session(&options, &build, &shutdown, &mut joined).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) if error.is_run_complete() => return Ok(Ending::RunComplete),
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
            () = shutdown.tripped() => return Ok(Ending::Stopped),
        }
    }
}
