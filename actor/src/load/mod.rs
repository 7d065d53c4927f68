//! Replays recorded unrolls from many sessions to a learner that does not train: what can it admit?
//!
//! ```text
//!   options     the settings
//!   recording   joins as an actor does, and plays a few unrolls once
//!   replay      one session on its own connection: sends an unroll when one is due and permitted
//!     pace        the times at which a session's unrolls are due
//!   tally       counts what all sessions have sent and received
//!   report      the result, as text and as JSON
//! ```
//!
//! The unrolls are valid ones of the learner's own mazes and weights, so the learner makes all of its checks.

mod options;
mod pace;
mod recording;
mod replay;
mod report;
mod tally;

use std::sync::Arc;

use hrm_common::{descriptors::Descriptors, invalid_value::InvalidValue, shutdown::Shutdown};
use hrm_proto::v1::StatusRequest;
use thiserror::Error;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

pub use self::{
    options::LoadOptions,
    report::{LoadReport, Milliseconds},
};
use self::{pace::Pace, recording::RecordedUnrolls, replay::replay, tally::Tally};
use crate::{
    connect::{answered, connect},
    error::SessionError,
    options::ActorOptions,
};

/// Sessions that join at the same time. More would overflow the learner's backlog of new connections.
const JOINING: usize = 32;

/// The reason why a load test cannot start.
#[derive(Debug, Error)]
pub enum LoadTestError {
    /// The learner cannot be reached or sends something unusable.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The learner would train on the replayed unrolls.
    #[error(
        "this learner trains, and would train on the replayed unrolls\n  remedy: start a learner with learner.train = \
         false and use its address"
    )]
    Trains,
    /// More sessions than open files are allowed, or a rate too low for them.
    #[error(transparent)]
    Sessions(#[from] InvalidValue),
    /// The operating system does not list this process's descriptors.
    #[error("counting the open files of this process: {0}")]
    Descriptors(std::io::Error),
    /// A task of the test panicked.
    #[error("a session of the load test panicked")]
    Panicked,
}

/// Runs a load test, until its time is up or `shutdown` trips.
///
/// # Errors
///
/// Fails when the test cannot start. A session that fails later is counted in the report.
pub async fn load(options: LoadOptions, shutdown: Shutdown) -> Result<LoadReport, LoadTestError> {
    check_descriptors(options.sessions)?;
    let LoadOptions {
        actor, sessions, ..
    } = &options;
    refuse_trainer(actor).await?;
    let recording = Arc::new(RecordedUnrolls::make(actor).await?);
    check_rate(&options, recording.frames())?;
    tracing::info!(
        unrolls = recording.len(),
        frames_per_unroll = recording.frames(),
        bytes_per_unroll = recording.bytes(),
        "recorded"
    );

    let tally = Arc::new(Tally::default());
    let (start, started) = watch::channel(None);
    let joining = Arc::new(Semaphore::new(JOINING));
    let began = Instant::now();
    let stop = Shutdown::new();
    let mut tasks = JoinSet::new();
    for index in 0..*sessions {
        let pace = Pace::new(&options, index, recording.frames());
        let options = ActorOptions {
            actor_id: rand::random(),
            name: format!("{}/{index}", actor.name),
            threads: 1,
            ..actor.clone()
        };
        let (recording, tally) = (recording.clone(), tally.clone());
        let (joining, started, stop) = (joining.clone(), started.clone(), stop.clone());
        tasks.spawn(async move {
            let replayed = replay(&options, &recording, pace, &tally, &joining, started, &stop);
            if let Err(error) = replayed.await {
                tally.fail();
                tracing::warn!(session = options.name, %error, "session failed");
            }
        });
    }
    tokio::select! {
        () = tally.until_joined(*sessions) => {}
        () = shutdown.tripped() => {}
    }
    let join_time = began.elapsed();
    tracing::info!(
        sessions = tally.joined(),
        failed = tally.failed(),
        seconds = join_time.as_secs_f64(),
        "all sessions have joined"
    );
    tally.begin();
    let began = Instant::now();
    start.send_replace(Some(began));
    watch_progress(&options, &tally, began, &shutdown).await;
    stop.trip();
    let seconds = began.elapsed().as_secs_f64();
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|_| LoadTestError::Panicked)?;
    }
    Ok(tally.report(&options, &recording, join_time, seconds))
}

/// Checks that this process may open a connection for each session.
fn check_descriptors(sessions: usize) -> Result<(), LoadTestError> {
    let descriptors = Descriptors::from_process().map_err(LoadTestError::Descriptors)?;
    let possible = descriptors.for_connections(0).unwrap_or(0);
    if sessions <= possible {
        return Ok(());
    }
    let limit = descriptors.limit;
    Err(LoadTestError::Sessions(InvalidValue::new(
        "--sessions",
        sessions,
        format!("the limit for open files, {limit}, allows {possible}"),
        format!("set it to at most {possible}, or raise the limit with `ulimit -n`"),
    )))
}

/// Checks that no session waits so long for its turn that the learner takes it for silent.
fn check_rate(options: &LoadOptions, frames: u64) -> Result<(), LoadTestError> {
    /// Longest time between two unrolls of a session, in seconds.
    const LONGEST: f64 = 60.0;
    let least = options.sessions as f64 * frames as f64 / LONGEST;
    match options.frames_per_second {
        Some(rate) if rate < least => Err(LoadTestError::Sessions(InvalidValue::new(
            "--frames-per-second",
            rate,
            format!("each session would send less than one unroll of {frames} frames per minute"),
            format!("set it to {} or more, or lower --sessions", least.ceil()),
        ))),
        _ => Ok(()),
    }
}

/// Fails if the learner trains.
async fn refuse_trainer(options: &ActorOptions) -> Result<(), LoadTestError> {
    let mut client = connect(&options.learner, &options.credentials).await?;
    let status = answered("Status", options.answer, client.status(StatusRequest {})).await?;
    match status.trains {
        true => Err(LoadTestError::Trains),
        false => Ok(()),
    }
}

/// Logs the rates at intervals until the time is up, no session is left, or `shutdown` trips.
async fn watch_progress(options: &LoadOptions, tally: &Tally, began: Instant, shutdown: &Shutdown) {
    let mut looks = interval_at(began + options.log_interval, options.log_interval);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before = (began, 0);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(began + options.duration) => return,
            () = shutdown.tripped() => return,
            () = tally.until_failed(options.sessions) => return,
            now = looks.tick() => {
                let admitted = tally.frames_admitted();
                let seconds = (now - before.0).as_secs_f64();
                let left = options.duration.saturating_sub(began.elapsed());
                tracing::info!(
                    sessions = tally.joined() - tally.failed(),
                    frames_sent = tally.frames_sent(),
                    frames_admitted = admitted,
                    frames_per_second = ((admitted - before.1) as f64 / seconds).round(),
                    eta_seconds = left.as_secs(),
                    "progress"
                );
                before = (now, admitted);
            }
        }
    }
}
