//! A run from boot to summary: `train` and `serve` are this, with and without local actors.
//!
//! ```text
//!   folder, model, optimiser (or all of them from the newest checkpoint)
//!     -> listener -> service -> trainer thread -> local actors over loopback gRPC
//!     -> drain -> final evaluation -> summary.json, learning-curve.svg
//! ```

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use hrm_actor::{
    connect::Credentials,
    session::{self, ActorOptions, unroll_shape},
};
use hrm_common::{
    config::{Change, Config, ConfigError, Effective, SavedUse},
    env::DistanceCurriculum,
    health::{self, Health, HealthEndpoint},
    model::{Hrm, state},
    shutdown::Shutdown,
    telemetry::names::{self, RunFile},
    token::Token,
    weights::Weights,
    wire::Expectation,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tonic::transport;

use crate::{
    access::Access,
    batch::{BatchLimits, Batcher},
    checkpoint::{self, Checkpoint},
    conclude::Finished,
    device,
    evaluate::Evaluation,
    evaluator::Evaluator,
    files, gauges,
    ledger::{self, Entry, LedgerFile},
    metrics_log::{self, MetricsLog},
    owed::OwedEvaluations,
    progress::Progress,
    queue::queue,
    reload::Poller,
    run_dir::RunDir,
    schedule,
    server::{self, Door},
    service::{LearnerService, Position},
    sessions::Sessions,
    trainer::{End, TrainError, Trainer, tolerate},
    training_clock::TrainingClock,
    update::Updater,
    upload::Admission,
};

/// What a finished or stopped run came to; `summary.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// True when the frames or minutes of the configuration were used up and the final evaluations made.
    pub complete: bool,
    /// Environment steps trained on.
    pub frames: u64,
    /// Seconds of training, over all starts, as [`TrainingClock`] counts them.
    pub seconds: f64,
    /// Optimiser steps.
    pub updates: u64,
    /// The run's seed.
    pub seed: u64,
    /// The final evaluations, all on the same episodes: greedy, sampled, and the replanning oracle for
    /// scale. Empty when the run, or an evaluation, was stopped; a resume makes them then.
    pub evaluations: Vec<Evaluation>,
}

/// What a valid unroll of this configuration looks like.
pub fn expectation(config: &Config, model: &Hrm) -> Expectation {
    Expectation {
        shape: unroll_shape(&config.spec(), model),
        carry_dtype: config.rollout.carry_dtype,
        model_fingerprint: model.fingerprint(),
        max_steps: config.env.max_steps,
    }
}

/// A learner that is bound and training. Made by [`start`], ended by [`Running::finish`].
#[derive(Debug)]
pub struct Running {
    /// Where the service listens, with the port that was given or found.
    pub address: SocketAddr,
    /// Token and certificate files of the main port.
    pub credentials: Poller,
    config: Config,
    trainer: tokio::task::JoinHandle<(Result<End, TrainError>, Trainer)>,
    servers: JoinSet<Result<(), transport::Error>>,
    server_stop: Shutdown,
    health: Health,
    _health_endpoint: Option<HealthEndpoint>,
    actors: JoinSet<Result<session::Outcome, session::SessionError>>,
    actors_stop: Shutdown,
    shutdown: Shutdown,
    sessions: Arc<Sessions>,
    /// The time at which it began to listen.
    began: Instant,
}

/// Opens the run's folder, binds the service and starts training and the local actors.
///
/// # Errors
///
/// Whatever keeps the run from starting, with its remedy.
pub async fn start(
    effective: &Effective,
    resume: bool,
    progress: Progress,
    shutdown: Shutdown,
) -> anyhow::Result<Running> {
    let config = effective.config.clone();
    let choice = device::choose(effective)?;
    choice.log();
    let device = choice.device;
    let mut run_dir = RunDir::open(&config.run.dir, resume)?;

    let mut model = Hrm::new(&config.model, config.env.grid(), config.run.seed, device)?;
    let checkpoint = checkpoint::resume(&run_dir.checkpoints())?;
    if let Some(checkpoint) = &checkpoint {
        note_changes(effective, checkpoint)?;
        checkpoint
            .restore_model(&mut model)
            .context("resuming with another [model] or [env] than the run began with")?;
        run_dir.go_on_from(&checkpoint.state)?;
    } else {
        began_or_lost(&config, run_dir.path())?;
    }
    files::write(&run_dir.file("config.toml"), effective.to_toml())
        .with_context(|| format!("writing {}", run_dir.file("config.toml").display()))?;
    let threads = device::update_threads(&config, device);
    let mut updater = Updater::new(
        model,
        config.loss.clone(),
        config.optimizer.clone(),
        threads,
        config.run.seed,
    )?;
    let mut curriculum = DistanceCurriculum::new(&config.curriculum, &config.env)?;
    let (mut frames, mut seconds_before, mut joined) = (0, 0.0, 0);
    if let Some(checkpoint) = &checkpoint {
        checkpoint.restore_optimizer(&mut updater.optimizer)?;
        let state = &checkpoint.state;
        updater.rng = state.rng.clone();
        updater.updates = state.updates;
        curriculum.restore(&state.curriculum);
        (frames, seconds_before, joined) = (state.frames, state.seconds, state.sessions_joined);
        gauges::checkpointed(&checkpoint::find(run_dir.path())?, frames);
        tracing::info!(frames, updates = state.updates, "resumed");
        schedule::log_jump(&checkpoint.config, &config, state);
    }

    let starts = run_dir.identity.restarts + 1;
    let sessions = Arc::new(Sessions::new(
        config.run.seed,
        joined,
        config.learner.max_sessions,
    ));
    let (ledger, rolled_back) = LedgerFile::open(run_dir.path(), frames)
        .with_context(|| format!("opening the ledger in {}", run_dir.path().display()))?;
    names::LEARNER_FRAMES_ROLLED_BACK
        .get()
        .increment(rolled_back);
    if rolled_back > 0 {
        tracing::warn!(
            frames = rolled_back,
            "rolled back: trained on after the last checkpoint, and so anew"
        );
    }
    let (metrics, owed, evaluator) = open_evaluations(&config, &run_dir, frames)?;
    let position = Arc::new(Position::new(frames, updater.updates));
    let (queue_tx, queue_rx) = queue(config.learner.queue_unrolls);
    let (newest_tx, newest) = watch::channel(Weights::new(
        run_dir.identity.version_base() + updater.updates,
        state::encode(&updater.model).into(),
        updater.model.fingerprint(),
        curriculum.max_distance(),
        false,
    ));
    let max_connections = server::max_connections(&config.learner)?;
    let door = Door::of(&config.learner, max_connections)?;
    let credentials = Poller::start(door.files());
    let service = LearnerService {
        run_id: run_dir.identity.run_id.clone(),
        spec: config.spec().to_json()?,
        admission: Admission {
            access: door.access.clone(),
            expectation: Arc::new(expectation(&config, &updater.model)),
            sessions: sessions.clone(),
            queue: queue_tx,
            newest: newest.clone(),
            patience: config.learner.session_timeout(),
            synchronous: config.rollout.synchronous,
        },
        position: position.clone(),
    };
    let health = Health::default();
    health.set(health::LEARNER, true).await;
    let health_endpoint = match config.learner.health_listen {
        Some(address) => Some(health.listen(address, "learner.health_listen").await?),
        None => None,
    };
    let listener = TcpListener::bind(config.learner.listen)
        .await
        .with_context(|| {
            format!(
                "learner.listen = \"{}\": cannot listen there; choose a free address with --listen",
                config.learner.listen
            )
        })?;
    let address = listener.local_addr()?;
    let server_stop = Shutdown::new();
    let mut servers = JoinSet::new();
    let local = match config.learner.local_actors {
        0 => None,
        actors => {
            let (local, listener, door) = LocalDoor::open(actors).await?;
            let (mut service, health) = (service.clone(), health.clone());
            service.admission.access = door.access.clone();
            servers.spawn(server::serve(
                service,
                health,
                listener,
                door,
                server_stop.clone(),
            ));
            Some(local)
        }
    };
    servers.spawn(server::serve(
        service,
        health.clone(),
        listener,
        door,
        server_stop.clone(),
    ));

    let (stop_tx, stop) = crossbeam::channel::bounded::<()>(0);
    let mut trainer = Trainer {
        batcher: Batcher::new(
            queue_rx,
            stop,
            sessions.clone(),
            BatchLimits {
                unrolls: config.learner.batch_unrolls,
                max_policy_lag: config.learner.max_policy_lag,
                synchronous: config.rollout.synchronous,
            },
            device,
        ),
        newest: newest_tx,
        metrics,
        ledger,
        evaluator,
        owed,
        sessions: sessions.clone(),
        saved_config: saved_config(effective, checkpoint.as_ref()),
        config: config.clone(),
        updater,
        position,
        curriculum,
        progress,
        frames,
        time: TrainingClock::new(seconds_before),
        run_dir,
    };
    gauges::started(effective, device, starts, &newest.borrow());
    gauges::stands_at(trainer.frames, trainer.curriculum.max_distance());
    let trainer = tokio::task::spawn_blocking(move || (trainer.run(), trainer));
    let actors_stop = Shutdown::new();
    tokio::spawn({
        let (shutdown, actors_stop) = (shutdown.clone(), actors_stop.clone());
        async move {
            shutdown.tripped().await;
            actors_stop.trip();
            drop(stop_tx);
        }
    });

    let mut actors = JoinSet::new();
    if let Some(local) = local {
        for index in 0..config.learner.local_actors {
            actors.spawn(session::run(
                local.actor(&config, index),
                actors_stop.clone(),
            ));
        }
    }
    tracing::info!(
        %address,
        device = device::label(device),
        threads,
        local_actors = config.learner.local_actors,
        run_dir = %config.run.dir.display(),
        "training"
    );
    Ok(Running {
        address,
        credentials,
        config,
        trainer,
        servers,
        server_stop,
        health,
        _health_endpoint: health_endpoint,
        actors,
        actors_stop,
        shutdown,
        sessions,
        began: Instant::now(),
    })
}

/// Opens `metrics.jsonl` of a run that stands at `frames` and starts the evaluator with what is owed.
fn open_evaluations(
    config: &Config,
    run_dir: &RunDir,
    frames: u64,
) -> anyhow::Result<(MetricsLog, OwedEvaluations, Evaluator)> {
    let path = run_dir.file("metrics.jsonl");
    let metrics = MetricsLog::open(&path, frames)?;
    let records = metrics_log::read(&path)?;
    gauges::recorded(&records);
    let (owed, jobs) = OwedEvaluations::open(run_dir.path(), frames, &records)?;
    if !jobs.is_empty() {
        tracing::info!(
            evaluations = jobs.len(),
            "making the evaluations that an earlier start did not finish"
        );
    }
    Ok((metrics, owed, Evaluator::start(config, jobs)?))
}

/// Logs each setting that is another than in the checkpoint, and refuses those that a run cannot change.
fn note_changes(effective: &Effective, checkpoint: &Checkpoint) -> Result<(), ConfigError> {
    let saved = checkpoint.saved(SavedUse::Resume)?;
    effective.refuse_changes(&saved)?;
    for change in effective.changes(&saved) {
        let Change {
            key,
            old,
            new,
            source,
        } = change;
        tracing::info!(
            key,
            old,
            new,
            source,
            "setting changed since the checkpoint"
        );
    }
    Ok(())
}

/// The source of values that `serve` brings along.
pub const SERVE: &str = "serve";

/// The configuration for the checkpoints of a run. One `serve` leaves the local actors of a run as they were.
fn saved_config(effective: &Effective, checkpoint: Option<&Checkpoint>) -> Config {
    let mut config = effective.config.clone();
    if effective.origin("learner.local_actors") == SERVE
        && let Some(checkpoint) = checkpoint
    {
        config.learner.local_actors = checkpoint.config.learner.local_actors;
    }
    config
}

/// Makes sure that a run without a checkpoint may begin: that there was none yet, and not that they are somewhere else.
fn began_or_lost(config: &Config, folder: &Path) -> anyhow::Result<()> {
    let trained = ledger::trained_frames(folder)
        .with_context(|| format!("reading how long {} was trained", folder.display()))?;
    let spec = &config.rollout;
    let batch = config.learner.batch_unrolls * spec.envs * spec.unroll_length;
    // A crash before the first one costs so much.
    if trained <= config.checkpoint.interval_frames + batch as u64 {
        return Ok(());
    }
    bail!(
        "{} was trained on {trained} frames, and holds no checkpoint\n  remedy: bring its checkpoints back (is \
         their disk mounted?), or name another folder with --run-dir, or remove this one to begin anew",
        folder.display()
    )
}

/// A door on the loopback interface for the actors of this process: they take the same path as others, whatever
/// those must show at the main door. Only who knows a token that never leaves this process comes through.
struct LocalDoor {
    address: SocketAddr,
    token: Token,
}

impl LocalDoor {
    async fn open(actors: usize) -> anyhow::Result<(Self, TcpListener, Door)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("opening a port of the loopback interface for local actors")?;
        let token = Token::random();
        let door = Door {
            tls: None,
            access: Arc::new(Access::Only(token.clone())),
            // One for each, and one that is being closed while its actor comes back.
            max_connections: 2 * actors,
        };
        let address = listener.local_addr()?;
        Ok((Self { address, token }, listener, door))
    }

    fn actor(&self, config: &Config, index: usize) -> ActorOptions {
        ActorOptions {
            learner: format!("http://{}", self.address),
            credentials: Credentials::of_token(self.token.clone()),
            ..ActorOptions::of(config, format!("local-{index}"))
        }
    }
}

impl Running {
    /// Waits for the end of training, drains actors and service, and evaluates a complete run; then waits for the actors
    /// that do not know of its end, or to be asked to stop, if the configuration says so.
    ///
    /// # Errors
    ///
    /// When training failed; the last checkpoint stands then.
    pub async fn finish(mut self) -> anyhow::Result<Summary> {
        let (result, trainer) = (&mut self.trainer)
            .await
            .context("the trainer thread panicked")?;
        // No new actors; the process itself is well until it ends.
        self.health.set(health::LEARNER, false).await;
        let deadline = Instant::now() + self.config.learner.drain();
        let complete = matches!(result, Ok(End::Complete));
        if complete {
            names::LEARNER_RUN_COMPLETE.get().set(1.0);
            trainer.publish_end();
        }
        // Closing the trainer's queue and dropping its weights ends every stream that is still open.
        let mut finished = Finished::of(trainer);
        if !self.sessions_left(complete, deadline).await {
            tracing::warn!(
                sessions = self.sessions.len(),
                "some actors had not left at the drain deadline"
            );
        }
        self.actors_stop.trip();
        while let Some(actor) = self.actors.join_next().await {
            match actor {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!(%error, "local actor failed"),
                Err(error) => tracing::error!(%error, "local actor panicked"),
            }
        }
        if !complete {
            self.close_service(deadline).await;
        }
        for session in self.sessions.take_all() {
            tolerate(
                RunFile::Ledger,
                finished.ledger.append(&Entry::of(&session)),
            );
        }
        let end = result?;
        let config = self.config.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let mut conclusion = tokio::task::spawn_blocking({
            let stop = stop.clone();
            move || finished.conclude(end, &config, &stop)
        });
        let concluded = tokio::select! {
            concluded = &mut conclusion => concluded,
            () = self.shutdown.tripped() => {
                stop.store(true, Ordering::Relaxed);
                conclusion.await
            }
        };
        let summary = concluded.context("the final evaluation panicked")??;
        if complete {
            self.farewell().await;
            self.close_service(Instant::now()).await;
        }
        Ok(summary)
    }

    /// Tells the actors that come back that the run is complete: for as long as one may that was lost, or until asked
    /// to stop.
    async fn farewell(&self) {
        let learner = &self.config.learner;
        if learner.stay_when_complete {
            tracing::info!("the run is complete; staying until asked to stop");
            self.shutdown.tripped().await;
            return;
        }
        // Actors elsewhere may have lost the learner that was here before.
        let began = (learner.local_actors == 0).then_some(self.began);
        let mut told = false;
        while let Some(loss) = self.sessions.last_loss().max(began) {
            let until = loss + learner.farewell();
            if until <= Instant::now() {
                return;
            }
            if !told {
                told = true;
                tracing::info!(
                    seconds = until.duration_since(Instant::now()).as_secs_f64().ceil(),
                    "the run is complete; waiting for actors that may come back, to tell them"
                );
            }
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = self.sessions.changed() => {}
                () = self.shutdown.tripped() => return,
            }
        }
    }

    /// Stops serving; connections that are open a second after the deadline are cut.
    async fn close_service(&mut self, deadline: Instant) {
        self.server_stop.trip();
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(1);
        let served = async {
            while let Some(served) = self.servers.join_next().await {
                match served {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "service failed"),
                    Err(error) => tracing::error!(%error, "service panicked"),
                }
            }
        };
        if tokio::time::timeout(left, served).await.is_err() {
            tracing::warn!("connections were still open at the drain deadline; closing them");
            self.servers.abort_all();
        }
    }

    /// True once no session is open. Whoever has only joined is waited for when there is something to
    /// tell: that the run is complete.
    async fn sessions_left(&self, complete: bool, deadline: Instant) -> bool {
        let waited_for = || match complete {
            true => !self.sessions.is_empty(),
            false => self.sessions.at_work() > 0,
        };
        let empty = async {
            while waited_for() {
                self.sessions.changed().await;
            }
        };
        tokio::time::timeout_at(deadline.into(), empty)
            .await
            .is_ok()
    }
}
