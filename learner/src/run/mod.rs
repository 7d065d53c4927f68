//! One run from start to summary. `train` adds local actors; `serve` does not.
//!
//! ```text
//!   device         finds the GPU; shared_library loads CUDA's libraries
//!   restored       opens the run's folder: a new run, or its newest checkpoint; settings checks what changed since,
//!                  evaluations opens the log and the owed evaluations,
//!                  target says whether one of them has completed the run
//!   serving        binds the ports; local_actors joins actors of this process, acting says on which device they act
//!   trainer        trains on its own thread; training_clock counts its time, frame_mark says when an evaluation or
//!                  a checkpoint is due, reporter reports on each batch to metrics, metrics.jsonl and progress,
//!                  tolerate counts files that cannot be written
//!   virtual_time   simulates actors and their time instead, for studies
//!   running        waits for the end of training, drains actors and ports
//!   conclude       final evaluations, summary.json, learning curve
//! ```

mod acting;
mod conclude;
pub mod device;
mod evaluations;
mod frame_mark;
mod local_actors;
pub mod progress;
mod reporter;
mod restored;
mod running;
mod serving;
mod settings;
mod shared_library;
mod target;
mod tolerate;
pub(crate) mod trainer;
pub(crate) mod training_clock;
mod virtual_time;

use std::{sync::Arc, time::Instant};

use hrm_common::{
    config::{Config, Effective},
    shutdown::Shutdown,
};
use hrm_kernels::Instructions;
use tokio::sync::watch;

pub use self::{running::Running, settings::SERVE};
use crate::{
    admission::{
        queue::queue,
        service::{LearnerService, RunCounters},
        sessions::Sessions,
        upload::Admission,
        window::Window,
    },
    run::{
        local_actors::LocalActors, progress::Progress, restored::Restored, serving::Serving,
        trainer::Trainer, virtual_time::VirtualFleet,
    },
    training::batcher::{BatchLimits, Batcher},
    transport::server::{self, Door},
    view::page::Feed,
};

/// Opens the run's folder, binds the service and starts training and the local actors.
///
/// # Errors
///
/// Returns the reason why the run cannot start, with a remedy.
pub async fn start(
    effective: &Effective,
    resume: bool,
    progress: Progress,
    shutdown: Shutdown,
) -> anyhow::Result<Running> {
    let config = &effective.config;
    let device = device::choose(effective)?;
    device.log();
    let feed = config.learner.has_page().then(|| Feed::new(config));
    let restored = Restored::open(effective, resume, &device, feed.as_ref())?;
    let weights = restored.weights();
    let (backend, fingerprint) = (
        restored.updater.backend(),
        restored.updater.model.fingerprint(),
    );
    let sessions = Arc::new(sessions(config, restored.sessions_joined));
    let counters = Arc::new(RunCounters::new(
        restored.frames,
        restored.updater.updates_tried,
    ));
    let (queue_tx, queue_rx) = queue(config.learner.queue_unrolls);
    let (newest_tx, newest) = watch::channel(weights.clone());
    let door = Door::new(&config.learner, server::max_connections(&config.learner)?)?;
    let service = LearnerService {
        run_id: restored.run_dir.identity.run_id.clone(),
        spec: config.spec().to_json()?,
        admission: Admission::new(
            config,
            fingerprint,
            door.access.clone(),
            sessions.clone(),
            queue_tx.clone(),
            newest,
        ),
        counters: counters.clone(),
        trains: config.learner.train,
    };
    // Before anybody else can join.
    let mut fleet = match config.virtual_time.actors {
        0 => None,
        _ => Some(VirtualFleet::new(
            config,
            sessions.clone(),
            queue_tx,
            weights,
        )?),
    };
    let (serving, local_door) =
        Serving::start(&config.learner, service, door, feed.clone()).await?;

    let (stop_tx, stop) = crossbeam::channel::bounded::<()>(0);
    let batcher = Batcher::new(
        queue_rx,
        stop,
        sessions.clone(),
        BatchLimits::new(config),
        device.device,
    );
    let mut trainer = Trainer::new(
        config.clone(),
        restored,
        batcher,
        newest_tx,
        sessions.clone(),
        counters,
        progress.on_page(feed.clone()),
    );
    let trainer = tokio::task::spawn_blocking(move || {
        let end = match &mut fleet {
            None => trainer.run(),
            Some(fleet) => trainer.run_with(|trainer| fleet.run(trainer)),
        };
        (end, trainer)
    });
    let actors = LocalActors::start(config, acting::device(config, device.device), local_door);
    tokio::spawn({
        let (shutdown, actors_stop) = (shutdown.clone(), actors.stop().clone());
        async move {
            shutdown.tripped().await;
            actors_stop.trip();
            drop(stop_tx);
        }
    });
    tracing::info!(
        address = %serving.address,
        device = device.label,
        threads = device.threads,
        kernels = %Instructions::chosen(),
        %backend,
        local_actors = config.learner.local_actors,
        run_dir = %config.run.dir.display(),
        "{}", if config.learner.train { "training" } else { "admitting without training" }
    );
    Ok(Running {
        config: config.clone(),
        trainer,
        serving,
        actors,
        shutdown,
        sessions,
        feed,
        began: Instant::now(),
    })
}

/// Returns the sessions of a run in which `joined` were opened earlier.
fn sessions(config: &Config, joined: u64) -> Sessions {
    // Real actors have no place beside simulated ones.
    let most = match config.virtual_time.actors as usize {
        0 => config.learner.max_sessions,
        simulated => simulated,
    };
    let sessions = Sessions::new(config.run.seed, joined, most);
    sessions.with_flow(config.rollout.unrolls_in_flight, Window::new(config))
}
