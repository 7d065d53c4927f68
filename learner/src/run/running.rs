//! A run during training, and its end.
//!
//! ```text
//!   training ends -> drain sessions and local actors -> ledger -> conclude -> farewell -> close the ports
//! ```

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::Context as _;
use hrm_common::{
    config::Config,
    health,
    reload::Poller,
    shutdown::Shutdown,
    telemetry::names::{self, RunFile},
};
use tokio::task::JoinHandle;

use crate::{
    admission::sessions::Sessions,
    run::{
        conclude::FinishedTraining,
        local_actors::LocalActors,
        serving::Serving,
        tolerate::Tolerate as _,
        trainer::{End, TrainError, Trainer},
    },
    storage::summary::Summary,
    view::page::{Feed, LivePage, Phase},
};

/// A learner that listens and trains. [`start`](crate::run::start) creates it and [`Running::finish`] ends it.
#[derive(Debug)]
pub struct Running {
    pub(super) config: Config,
    pub(super) trainer: JoinHandle<(Result<End, TrainError>, Trainer)>,
    pub(super) serving: Serving,
    pub(super) actors: LocalActors,
    pub(super) shutdown: Shutdown,
    pub(super) sessions: Arc<Sessions>,
    /// The content of the live page.
    pub(super) feed: Option<Arc<Feed>>,
    /// The time at which it began to listen.
    pub(super) began: Instant,
}

impl Running {
    /// Returns the address of the service, with the actual port.
    pub fn address(&self) -> SocketAddr {
        self.serving.address
    }

    /// Returns the address of the live page for a browser on this machine, if there is a page.
    pub fn page(&self) -> Option<String> {
        self.serving.page.as_ref().map(LivePage::url)
    }

    /// Returns the token and certificate files of the main port.
    pub fn credentials(&self) -> &Poller {
        &self.serving.credentials
    }

    /// Waits for the end of training, drains actors and service, and evaluates a complete run. If the configuration
    /// says so, it then waits for actors that do not know of the end, or until it is asked to stop.
    ///
    /// # Errors
    ///
    /// Returns an error when training failed; the last checkpoint remains.
    pub async fn finish(mut self) -> anyhow::Result<Summary> {
        let result = self.end().await;
        if result.is_err() {
            self.enter(Phase::Failed);
        }
        self.close_page().await;
        result
    }

    async fn end(&mut self) -> anyhow::Result<Summary> {
        let (result, trainer) = (&mut self.trainer)
            .await
            .context("the trainer thread panicked")?;
        // The learner accepts no new actors, but the process itself stays healthy until it ends.
        self.serving.health.set(health::LEARNER, false).await;
        let deadline = Instant::now() + self.config.learner.drain();
        let complete = matches!(result, Ok(End::Complete));
        self.enter(match result {
            Ok(End::Complete) => Phase::Evaluating,
            Ok(End::Stopped) => Phase::Stopped,
            Err(_) => Phase::Failed,
        });
        if complete {
            names::LEARNER_RUN_COMPLETE.get().set(1.0);
            trainer.publish_end();
        }
        // Closing the trainer's queue and dropping its weights ends all open streams.
        let mut finished = FinishedTraining::new(trainer, self.feed.clone());
        if !self.sessions_left(complete, deadline).await {
            tracing::warn!(
                sessions = self.sessions.len(),
                "some actors had not left at the drain deadline"
            );
        }
        self.actors.finish().await;
        if !complete {
            self.serving.close(deadline).await;
        }
        for session in self.sessions.take_all() {
            let written = finished.ledger.append(&session.entry());
            written.tolerate(RunFile::Ledger);
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
        self.enter(match (complete, summary.complete) {
            (true, true) => Phase::Complete,
            _ => Phase::Stopped,
        });
        if complete {
            self.farewell().await;
            self.serving.close(Instant::now()).await;
        }
        Ok(summary)
    }

    /// Shows the phase of the run on its live page.
    fn enter(&self, phase: Phase) {
        if let Some(feed) = &self.feed {
            feed.enter(phase);
        }
    }

    /// Ends the live page once its clients know how the run ended.
    async fn close_page(&mut self) {
        if let Some(page) = self.serving.page.take() {
            page.finish().await;
        }
    }

    /// Tells actors that reconnect that the run is complete, until no lost actor can return or the process must stop.
    async fn farewell(&self) {
        let learner = &self.config.learner;
        if learner.stay_when_complete {
            tracing::info!("the run is complete; staying until asked to stop");
            self.shutdown.tripped().await;
            return;
        }
        // Remote actors may have lost an earlier process of this learner.
        let remote = self.config.virtual_time.actors == 0
            && (learner.local_actors == 0 || !learner.listen.ip().is_loopback());
        let began = remote.then_some(self.began);
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

    /// Returns true once no session is open. In a complete run it also waits for an actor that has only joined, because
    /// that actor must be told.
    async fn sessions_left(&self, complete: bool, deadline: Instant) -> bool {
        let waited_for = || match complete {
            true => !self.sessions.is_empty(),
            false => self.sessions.rollouts_at_work() > 0,
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
