//! Evaluates published weights on a thread of its own, so that training never waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use hrm_common::{
    config::Config,
    model::{Hrm, ModelConfigError},
    weights::{self, Weights},
};
use tch::Device;

use crate::evaluate::{Evaluation, WalkBy, evaluate};

/// Published weights to evaluate, and where the run stood.
#[derive(Debug)]
struct Job {
    weights: Weights,
    frames: u64,
    seconds: f64,
}

/// An evaluation that is done.
#[derive(Debug)]
pub struct Done {
    /// Frames of the run when its weights were published.
    pub frames: u64,
    /// Seconds of training then.
    pub seconds: f64,
    /// What was found.
    pub evaluation: Evaluation,
}

/// The evaluating thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Evaluator {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Evaluator {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the configuration's model cannot be built.
    pub fn start(config: &Config) -> Result<Self, ModelConfigError> {
        let mut model = Hrm::new(&config.model, config.env.grid(), 0, Device::Cpu)?;
        // One waits at most: when evaluation is slower than its interval, marks are skipped.
        let (jobs_tx, jobs) = bounded::<Job>(1);
        // Never more than the jobs that were taken.
        let (done_tx, done) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let (env, eval, stopped) = (config.env.clone(), config.eval.clone(), stop.clone());
        let work = move || {
            for job in jobs {
                if let Err(error) = weights::load(&mut model, &job.weights.body) {
                    tracing::error!(%error, "evaluation cannot load the weights");
                    continue;
                }
                let shared = &model;
                let network = || Some(shared.share());
                match evaluate(
                    &env,
                    WalkBy::Greedy,
                    eval.episodes,
                    eval.seed,
                    network,
                    &stopped,
                    None,
                ) {
                    Ok(Some(evaluation)) => {
                        let Job {
                            frames, seconds, ..
                        } = job;
                        if done_tx
                            .send(Done {
                                frames,
                                seconds,
                                evaluation,
                            })
                            .is_err()
                        {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(error) => tracing::error!(%error, "evaluation failed"),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("evaluator".into())
            .spawn(work)
            .inspect_err(|error| tracing::error!(%error, "no evaluation while training"))
            .ok();
        Ok(Self {
            jobs: Some(jobs_tx),
            done,
            stop,
            thread,
        })
    }

    /// Asks for an evaluation; skipped, with a word, while an older one still waits.
    pub fn request(&self, weights: Weights, frames: u64, seconds: f64) {
        let Some(jobs) = &self.jobs else { return };
        if let Err(TrySendError::Full(_)) = jobs.try_send(Job {
            weights,
            frames,
            seconds,
        }) {
            tracing::info!(
                frames,
                "evaluation skipped: the one before is still running"
            );
        }
    }

    /// The next evaluation that finished.
    pub fn finished(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the evaluating thread panicked");
        }
    }
}
