//! Evaluates published weights on a separate thread, so that training never waits for an evaluation.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use hrm_common::{
    config::{Config, EvalConfig},
    env::EnvConfig,
    invalid_value::InvalidValue,
    model::Parameters,
    policy::RecurrentNetwork,
    telemetry::names,
    weights::{self, WeightsError},
};

use crate::{
    evaluation::{
        evaluate::{EvaluateError, HeldOut, Walked},
        figures,
    },
    storage::records::{EvalRecord, WalkBy},
};

/// Makes a network that acts in so many environments.
pub(crate) type NewNetwork =
    Box<dyn Fn(Parameters, usize) -> Box<dyn RecurrentNetwork + Send> + Send>;

/// Receives each evaluation with the weights that it evaluated, on the thread of the evaluator. It returns early once
/// the function returns true: another evaluation waits, or the thread must end. For the first evaluation of a start,
/// only the latter counts.
pub(crate) type AfterEvaluation = Box<dyn Fn(&EvalRecord, &Parameters, &dyn Fn() -> bool) + Send>;

/// Published weights to evaluate, with the run's progress at that time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    /// The model's tensors as safetensors.
    pub weights: Bytes,
    /// Frames of the run.
    pub frames: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Optimiser updates tried until then, also those that were skipped.
    pub updates_tried: u64,
}

/// The evaluation thread, which ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Evaluator {
    jobs: Option<Sender<Job>>,
    /// The result of each job; `None` for one that failed.
    done: Receiver<Option<EvalRecord>>,
    /// Results that arrived, but were not returned yet.
    arrived: VecDeque<EvalRecord>,
    /// Jobs whose result has not arrived.
    pending: usize,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Evaluator {
    /// Starts the thread. It first makes the evaluations that an earlier start owes. It calls `after` once the result
    /// of an evaluation is available, before it begins the next one.
    ///
    /// # Errors
    ///
    /// Returns an error when the configuration's model cannot be built.
    pub(crate) fn start(
        config: &Config,
        network: NewNetwork,
        owed: Vec<Job>,
        after: Option<AfterEvaluation>,
    ) -> Result<Self, InvalidValue> {
        let mut evaluation = GreedyEvaluation::new(config, network)?;
        // At most one job waits: when an evaluation takes longer than its interval, later ones are skipped.
        let (jobs_tx, jobs) = bounded::<Job>(1);
        // Unbounded, but it never holds more results than jobs taken.
        let (done_tx, done) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let pending = owed.len();
        let work = move || {
            let mut owed = VecDeque::from(owed);
            let mut first = true;
            while let Some(job) = owed.pop_front().or_else(|| jobs.recv().ok()) {
                let record = match evaluation.evaluate(&job, &stopped) {
                    Ok(Some(record)) => Some(record),
                    Ok(None) => return,
                    Err(error) => {
                        tracing::error!(%error, "evaluation failed");
                        None
                    }
                };
                if done_tx.send(record.clone()).is_err() {
                    return;
                }
                if let Some((record, after)) = record.zip(after.as_ref()) {
                    // Where one evaluation always waits, nothing would ever follow another.
                    let waits = || !first && (!owed.is_empty() || !jobs.is_empty());
                    let urgent = || stopped.load(Ordering::Relaxed) || waits();
                    after(&record, &evaluation.parameters, &urgent);
                    first = false;
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
            arrived: VecDeque::new(),
            pending,
            stop,
            thread,
        })
    }

    /// Requests an evaluation. Returns false, and logs the reason, when it is skipped: an older one still waits, or the
    /// thread does not exist.
    pub(crate) fn request(&mut self, job: Job) -> bool {
        let Some(jobs) = &self.jobs else {
            return false;
        };
        match jobs.try_send(job) {
            Ok(()) => {
                self.pending += 1;
                true
            }
            Err(TrySendError::Full(job)) => {
                tracing::info!(
                    frames = job.frames,
                    "evaluation skipped: the previous one is still running"
                );
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    /// Returns the next finished evaluation.
    pub(crate) fn finished(&mut self) -> Option<EvalRecord> {
        while let Ok(result) = self.done.try_recv() {
            self.keep(result);
        }
        self.arrived.pop_front()
    }

    /// Waits until no job is pending.
    pub(crate) fn wait(&mut self) {
        while self.pending > 0
            && let Ok(result) = self.done.recv()
        {
            self.keep(result);
        }
    }

    fn keep(&mut self, result: Option<EvalRecord>) {
        self.pending = self.pending.saturating_sub(1);
        self.arrived.extend(result);
    }
}

/// Sets the gauges of an evaluation.
pub(crate) fn set_gauges(record: &EvalRecord) {
    let evaluation = &record.evaluation;
    names::LEARNER_EVAL_SUCCESS.get().set(evaluation.success);
    names::LEARNER_EVAL_LENGTH.get().set(evaluation.mean_length);
    names::LEARNER_EVAL_FRAMES.get().set(record.frames as f64);
    if let Some(ratio) = evaluation.path_ratio {
        names::LEARNER_EVAL_PATH_RATIO.get().set(ratio);
    }
}

/// The periodic evaluation of a run: the greedy policy on `eval.episodes` held-out episodes.
pub(crate) struct GreedyEvaluation {
    env: EnvConfig,
    eval: EvalConfig,
    parameters: Parameters,
    network: NewNetwork,
    /// The oracle's walk, made once because it is the same for all weights.
    oracle: Option<Walked>,
}

/// Errors of a periodic evaluation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeriodicError {
    /// The weights do not fit the run's model.
    #[error("the weights to evaluate cannot be loaded: {0}")]
    Weights(#[from] WeightsError),
    /// The episodes cannot be walked.
    #[error(transparent)]
    Walk(#[from] EvaluateError),
}

impl GreedyEvaluation {
    /// Builds the model into which weights are loaded. It acts as a `network`.
    pub(crate) fn new(config: &Config, network: NewNetwork) -> Result<Self, InvalidValue> {
        Ok(Self {
            env: config.env.clone(),
            eval: config.eval.clone(),
            parameters: Parameters::new(&config.model, config.env.grid(), 0)?,
            network,
            oracle: None,
        })
    }

    /// Evaluates the weights of a job. Returns `None` when `stop` is set before the end.
    pub(crate) fn evaluate(
        &mut self,
        job: &Job,
        stop: &AtomicBool,
    ) -> Result<Option<EvalRecord>, PeriodicError> {
        weights::load(&mut self.parameters, &job.weights)?;
        let held_out = HeldOut {
            env: &self.env,
            episodes: self.eval.episodes,
            seed: self.eval.seed,
        };
        if self.oracle.is_none() {
            self.oracle = held_out.oracle(stop)?;
        }
        let network = |envs| Some((self.network)(self.parameters.clone(), envs));
        let walked = held_out.walk(WalkBy::Greedy, network, stop, None)?;
        let Some((walked, oracle)) = walked.zip(self.oracle.as_ref()) else {
            return Ok(None);
        };
        Ok(Some(EvalRecord {
            frames: job.frames,
            seconds: job.seconds,
            updates_tried: job.updates_tried,
            evaluation: figures::evaluation(&held_out, WalkBy::Greedy, &walked, oracle),
        }))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hrm_common::model::{ModelConfig, native::Lanes, state};

    use super::*;

    /// Only a failing test reaches this limit.
    const PATIENCE: Duration = Duration::from_secs(120);

    fn native() -> NewNetwork {
        Box::new(|parameters, envs| Box::new(Lanes::new(parameters, envs)))
    }

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

    fn model(config: &Config, seed: u64) -> Parameters {
        Parameters::new(&config.model, config.env.grid(), seed).expect("a model")
    }

    fn weights(model: &Parameters) -> Bytes {
        state::encode(model).into()
    }

    fn job(weights: Bytes, frames: u64) -> Job {
        Job {
            weights,
            frames,
            seconds: 1.5,
            updates_tried: 2 * frames,
        }
    }

    /// Returns the next result of the thread; `None` for a job that failed.
    fn result(evaluator: &Evaluator) -> Option<EvalRecord> {
        evaluator.done.recv_timeout(PATIENCE).expect("a result")
    }

    #[test]
    fn after_a_wait_nothing_is_pending() {
        let config = config(4);
        let good = weights(&model(&config, 1));
        let bad = good.slice(..good.len() / 2);
        let owed = vec![job(bad, 1), job(good.clone(), 2)];
        let mut evaluator = Evaluator::start(&config, native(), owed, None).expect("a model");
        evaluator.wait();
        assert!(evaluator.request(job(good, 3)));
        evaluator.wait();
        let done: Vec<u64> = std::iter::from_fn(|| Some(evaluator.finished()?.frames)).collect();
        assert_eq!(done, [2, 3]);
    }

    #[test]
    fn the_evaluator_uses_the_weights_of_each_request() {
        let config = config(10);
        let mut evaluator = Evaluator::start(&config, native(), Vec::new(), None).expect("a model");
        for seed in [1, 2] {
            let model = model(&config, seed);
            assert!(evaluator.request(job(weights(&model), 100 * seed)));
            let done = result(&evaluator).expect("it succeeds");
            assert_eq!(
                (done.frames, done.seconds, done.updates_tried),
                (100 * seed, 1.5, 200 * seed)
            );
            let held_out = HeldOut {
                env: &config.env,
                episodes: 10,
                seed: config.eval.seed,
            };
            let stop = AtomicBool::new(false);
            let walk = |by| {
                let walked = held_out.walk(
                    by,
                    |envs| Some(Lanes::new(model.clone(), envs)),
                    &stop,
                    None,
                );
                walked.expect("possible mazes").expect("nobody stops it")
            };
            let (walked, oracle) = (walk(WalkBy::Greedy), walk(WalkBy::Oracle));
            let here = figures::evaluation(&held_out, WalkBy::Greedy, &walked, &oracle);
            assert_eq!(done.evaluation, here);
            let versus = done.evaluation.versus_oracle.expect("both walked");
            assert!(versus.on_all.ratio >= 1.0, "{versus:?}");
        }
        assert!(evaluator.finished().is_none());
    }

    #[test]
    fn the_follow_up_gets_the_evaluated_weights_and_delays_no_result() {
        let config = config(4);
        let model = model(&config, 1);
        let (sender, calls) = unbounded();
        let (release, gate) = bounded::<()>(0);
        let after =
            move |record: &EvalRecord, parameters: &Parameters, urgent: &dyn Fn() -> bool| {
                gate.recv().expect("the test releases it");
                let call = (record.clone(), state::encode(parameters), urgent());
                sender.send(call).expect("the test listens");
            };
        let owed = [7, 8].map(|frames| job(weights(&model), frames));
        let evaluator = Evaluator::start(&config, native(), owed.into(), Some(Box::new(after)));
        let mut evaluator = evaluator.expect("a model");
        let done = result(&evaluator);
        release.send(()).expect("it waits");
        let (record, parameters, urgent) = calls.recv_timeout(PATIENCE).expect("a call");
        assert_eq!(done, Some(record));
        assert_eq!(parameters, state::encode(&model));
        assert!(!urgent, "it is the first, so the next one waits");

        // What becomes due meanwhile is not skipped, and ends what follows the one before.
        assert_eq!(result(&evaluator).map(|done| done.frames), Some(8));
        assert!(evaluator.request(job(weights(&model), 9)));
        release.send(()).expect("it waits");
        let (_, _, urgent) = calls.recv_timeout(PATIENCE).expect("a call");
        assert!(urgent, "an evaluation waits");
        release.send(()).expect("it waits");
        assert_eq!(result(&evaluator).map(|done| done.frames), Some(9));
    }

    #[test]
    fn all_owed_evaluations_are_made_before_new_ones() {
        let config = config(4);
        let weights = weights(&model(&config, 1));
        let owed = [1, 2, 3].map(|frames| job(weights.clone(), frames));
        let evaluator = Evaluator::start(&config, native(), owed.into(), None).expect("a model");
        let jobs = evaluator.jobs.as_ref().expect("it runs");
        jobs.send(job(weights, 4)).expect("it runs");
        let done = [(); 4].map(|()| result(&evaluator).expect("it succeeds").frames);
        assert_eq!(done, [1, 2, 3, 4]);
    }

    #[test]
    fn damaged_weights_do_not_end_the_evaluator() {
        let config = config(4);
        let evaluator = Evaluator::start(&config, native(), Vec::new(), None).expect("a model");
        let good = weights(&model(&config, 1));
        let bad = good.slice(..good.len() / 2);
        let jobs = evaluator.jobs.as_ref().expect("it runs");
        for (weights, frames) in [(bad, 1), (good, 2)] {
            jobs.send(job(weights, frames)).expect("it runs");
        }
        assert_eq!(result(&evaluator), None);
        assert_eq!(result(&evaluator).map(|done| done.frames), Some(2));
    }

    #[test]
    fn a_busy_evaluator_skips_requests_and_can_end_mid_evaluation() {
        let config = config(usize::MAX / 2);
        let mut evaluator = Evaluator::start(&config, native(), Vec::new(), None).expect("a model");
        let weights = weights(&model(&config, 1));
        let jobs = evaluator.jobs.clone().expect("it runs");
        // The second job enters the channel after the first was taken, and then waits forever.
        for frames in [1, 2] {
            jobs.send(job(weights.clone(), frames)).expect("it runs");
        }
        assert!(!evaluator.request(job(weights, 3)), "it is skipped");
        assert!(jobs.is_full());
        assert!(evaluator.finished().is_none());
        drop(evaluator);
    }
}
