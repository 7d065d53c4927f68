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
    env::EpisodeSummary,
    model::{Hrm, ModelConfigError},
    weights::{self, Weights},
};
use tch::Device;

use crate::{
    evaluate::{EvaluateError, Evaluation, HeldOut, WalkBy},
    metrics_log::EvalRecord,
};

/// Published weights to evaluate, and where the run stood.
#[derive(Debug)]
pub struct Job {
    /// What to evaluate.
    pub weights: Weights,
    /// Frames of the run.
    pub frames: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Optimiser updates.
    pub updates: u64,
}

/// The evaluating thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Evaluator {
    jobs: Option<Sender<Job>>,
    done: Receiver<EvalRecord>,
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
            let held_out = HeldOut {
                env: &env,
                episodes: eval.episodes,
                seed: eval.seed,
            };
            let mut oracle = None;
            for job in jobs {
                if let Err(error) = weights::load(&mut model, &job.weights.body) {
                    tracing::error!(%error, "evaluation cannot load the weights");
                    continue;
                }
                match greedy(&held_out, &model, &mut oracle, &stopped) {
                    Ok(Some(evaluation)) => {
                        let record = EvalRecord {
                            frames: job.frames,
                            seconds: job.seconds,
                            updates: job.updates,
                            evaluation,
                        };
                        if done_tx.send(record).is_err() {
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
    pub fn request(&self, job: Job) {
        let Some(jobs) = &self.jobs else { return };
        if let Err(TrySendError::Full(job)) = jobs.try_send(job) {
            tracing::info!(
                frames = job.frames,
                "evaluation skipped: the one before is still running"
            );
        }
    }

    /// The next evaluation that finished.
    pub fn finished(&self) -> Option<EvalRecord> {
        self.done.try_recv().ok()
    }
}

/// Evaluates a model; `None` when it is stopped. The oracle's walk, always the same, is kept in `oracle`.
fn greedy(
    held_out: &HeldOut<'_>,
    model: &Hrm,
    oracle: &mut Option<Vec<EpisodeSummary>>,
    stop: &AtomicBool,
) -> Result<Option<Evaluation>, EvaluateError> {
    if oracle.is_none() {
        *oracle = held_out.oracle(stop)?;
    }
    let Some(oracle) = oracle else {
        return Ok(None);
    };
    let walked = held_out.walk(WalkBy::Greedy, || Some(model.share()), stop, None)?;
    Ok(walked.map(|walked| held_out.evaluation(WalkBy::Greedy, &walked, oracle)))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hrm_common::model::{ModelConfig, state};

    use super::*;

    /// Only ever reached by a test that fails.
    const PATIENCE: Duration = Duration::from_secs(120);

    fn config(episodes: usize) -> Config {
        let mut config = Config {
            model: ModelConfig {
                hidden: 8,
                inter_multiple: 8,
                ..ModelConfig::small()
            },
            ..Config::default()
        };
        config.eval.episodes = episodes;
        config
    }

    fn model(config: &Config, seed: u64) -> Hrm {
        Hrm::new(&config.model, config.env.grid(), seed, Device::Cpu).expect("a model")
    }

    fn weights(model: &Hrm) -> Weights {
        let body = state::encode(model).into();
        Weights::new(1, body, model.fingerprint(), 0, false)
    }

    fn job(weights: Weights, frames: u64) -> Job {
        Job {
            weights,
            frames,
            seconds: 1.5,
            updates: 2 * frames,
        }
    }

    #[test]
    fn it_evaluates_the_weights_it_was_given() {
        let config = config(10);
        let evaluator = Evaluator::start(&config).expect("a model");
        for seed in [1, 2] {
            let model = model(&config, seed);
            evaluator.request(job(weights(&model), 100 * seed));
            let done = evaluator.done.recv_timeout(PATIENCE).expect("a result");
            assert_eq!(
                (done.frames, done.seconds, done.updates),
                (100 * seed, 1.5, 200 * seed)
            );
            let held_out = HeldOut {
                env: &config.env,
                episodes: 10,
                seed: config.eval.seed,
            };
            let here = greedy(&held_out, &model, &mut None, &AtomicBool::new(false));
            assert_eq!(
                Some(&done.evaluation),
                here.expect("possible mazes").as_ref()
            );
            let versus = done.evaluation.versus_oracle.expect("both walked");
            assert!(versus.on_all.ratio >= 1.0, "{versus:?}");
        }
        assert!(evaluator.finished().is_none());
    }

    #[test]
    fn damaged_weights_do_not_end_it() {
        let config = config(4);
        let evaluator = Evaluator::start(&config).expect("a model");
        let good = weights(&model(&config, 1));
        let bad = Weights {
            body: good.body.slice(..good.body.len() / 2),
            ..good.clone()
        };
        let jobs = evaluator.jobs.as_ref().expect("it runs");
        for (weights, frames) in [(bad, 1), (good, 2)] {
            jobs.send(job(weights, frames)).expect("it runs");
        }
        let done = evaluator.done.recv_timeout(PATIENCE).expect("a result");
        assert_eq!(done.frames, 2);
    }

    #[test]
    fn it_skips_what_it_has_no_time_for_and_ends_in_the_middle() {
        let config = config(usize::MAX / 2);
        let evaluator = Evaluator::start(&config).expect("a model");
        let weights = weights(&model(&config, 1));
        let jobs = evaluator.jobs.as_ref().expect("it runs");
        // The second goes in once the first was taken, and waits for ever.
        for frames in [1, 2] {
            jobs.send(job(weights.clone(), frames)).expect("it runs");
        }
        evaluator.request(job(weights, 3));
        assert!(jobs.is_full());
        assert!(evaluator.finished().is_none());
        drop(evaluator);
    }
}
