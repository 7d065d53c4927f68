//! The end of a run: owed and final evaluations, `replay.html`, `episodes.csv`, the learning curve and `summary.json`.
//!
//! ```text
//!   owed evaluations -> final evaluations -> replay.html -> episodes.csv -> metrics.jsonl
//!     -> learning curve -> summary.json
//! ```
//!
//! `summary.json` is written last, so its existence means that everything before it is done. A start that finds it for
//! the frames of its checkpoint evaluates nothing. After a crash before it, the next start makes the evaluations again.
//! They give the same figures, and a record that `metrics.jsonl` already has is not appended again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use hrm_common::{config::Config, model::Parameters, policy::Choice, telemetry::names::RunFile};
use tch::Device;

use crate::{
    evaluation::{
        episodes,
        evaluate::{HeldOut, WalkObserver},
        evaluator::{self, GreedyEvaluation, NewNetwork},
        figures,
        owed::OwedEvaluations,
    },
    run::{
        acting,
        progress::{Screen, Walk},
        tolerate::Tolerate as _,
        trainer::{End, Trainer},
    },
    storage::{
        files,
        ledger_file::LedgerFile,
        metrics_log::{self, MetricsLog},
        records::{EvalRecord, Evaluation, Record, WalkBy},
        run_copy::RunCopy,
        run_dir::RunDir,
        summary::{EPISODES, REPLAY, Summary},
        tensorboard,
    },
    view::{
        page::Feed,
        plot,
        replay::{
            player,
            recorder::{RecordSettings, RecordedModel, WALKED},
        },
        short_names,
    },
};

/// The parts of a trainer that remain once its streams are closed.
#[derive(Debug)]
pub(crate) struct FinishedTraining {
    parameters: Parameters,
    /// The device of the learner's tensors.
    device: Device,
    metrics: MetricsLog,
    /// The ledger, for the sessions that have no line in it yet.
    pub ledger: LedgerFile,
    frames: u64,
    updates_tried: u64,
    seconds: f64,
    run_dir: RunDir,
    /// The copy of that folder, if there is one.
    copy: Option<RunCopy>,
    /// The live page's content.
    feed: Option<Arc<Feed>>,
    screen: Screen,
}

impl FinishedTraining {
    pub(crate) fn new(mut trainer: Trainer, feed: Option<Arc<Feed>>) -> Self {
        // Not earlier: the end of the run must be published first. A rejected actor leaves, and would reconnect to
        // learn of it.
        trainer.batcher.close();
        Self {
            seconds: trainer.time.seconds(),
            frames: trainer.frames,
            updates_tried: trainer.updater.updates_tried,
            parameters: trainer.updater.model.to_parameters(),
            device: trainer.updater.model.device(),
            screen: trainer.reporter.screen().clone(),
            metrics: trainer.metrics,
            ledger: trainer.ledger,
            run_dir: trainer.run_dir,
            copy: trainer.copy,
            feed,
        }
    }

    /// Evaluates a complete run and writes its result, unless an earlier start has. `stop` ends the evaluations without
    /// a result; the run is already saved, and a resumed run evaluates again.
    pub(crate) fn conclude(
        mut self,
        end: End,
        config: &Config,
        stop: &AtomicBool,
    ) -> anyhow::Result<Summary> {
        let result = self.result(end, config, stop);
        if let (true, Ok(summary)) = (config.telemetry.tensorboard, &result) {
            tensorboard::conclude(&self.run_dir, summary).tolerate(RunFile::Tensorboard);
        }
        if let Some(copy) = &self.copy {
            copy.finish(self.run_dir.path()).with_context(|| {
                format!(
                    "the run is saved in {}, but its copy is not up to date",
                    self.run_dir.path().display()
                )
            })?;
        }
        result
    }

    fn result(&mut self, end: End, config: &Config, stop: &AtomicBool) -> anyhow::Result<Summary> {
        let mut evaluations = Vec::new();
        if end == End::Complete {
            if let Some(summary) = self.concluded(config) {
                tracing::info!(
                    frames = self.frames,
                    "the run is complete and evaluated; nothing is left to do"
                );
                return Ok(summary);
            }
            evaluations = self.evaluate(config, stop)?;
            if evaluations.is_empty()
                && let Some(earlier) = self.earlier()
            {
                // The earlier result has the same weights, but other evaluation settings.
                return Ok(earlier);
            }
        }
        plot::draw_runs(&[self.run_dir.path()], None)?;
        let summary = Summary {
            complete: !evaluations.is_empty(),
            frames: self.frames,
            seconds: self.seconds,
            updates_tried: self.updates_tried,
            seed: config.run.seed,
            evaluations,
        };
        summary.write(self.run_dir.path())?;
        Ok(summary)
    }

    /// Returns the result of an earlier start, if it has these weights and these evaluation settings. The trainer
    /// removes that result before it changes the weights.
    fn concluded(&self, config: &Config) -> Option<Summary> {
        let (episodes, seed) = (config.eval.final_episodes, config.eval.seed);
        let same = |e: &Evaluation| e.episodes == episodes && e.seed == Some(seed);
        self.earlier()
            .filter(|summary| summary.evaluations.iter().all(same))
    }

    /// Returns the result of an earlier start, if it has these weights.
    fn earlier(&self) -> Option<Summary> {
        let summary = Summary::read(self.run_dir.path())?;
        let holds = summary.complete
            && !summary.evaluations.is_empty()
            && (summary.frames, summary.updates_tried) == (self.frames, self.updates_tried)
            && self.run_dir.file(EPISODES).exists();
        holds.then_some(summary)
    }

    /// Makes and records the owed and the final evaluations. Returns none of them if `stop` was set meanwhile.
    fn evaluate(&mut self, config: &Config, stop: &AtomicBool) -> anyhow::Result<Vec<Evaluation>> {
        let path = self.run_dir.file("metrics.jsonl");
        let records = metrics_log::read(&path)?;
        let (owed, jobs) = OwedEvaluations::open(self.run_dir.path(), self.frames, &records)?;
        let network = || acting::network(config, self.device);
        let mut periodic = GreedyEvaluation::new(config, network())?;
        // The final evaluation replaces an owed one at the same frames.
        for job in jobs.iter().filter(|job| job.frames < self.frames) {
            match periodic.evaluate(job, stop) {
                Ok(Some(record)) => self.metrics.append(&Record::Eval(record))?,
                Ok(None) => return Ok(Vec::new()),
                Err(error) => {
                    tracing::error!(%error, frames = job.frames, "an owed evaluation cannot be made");
                }
            }
            owed.settle(job.frames)?;
        }
        tracing::info!(episodes = config.eval.final_episodes, "final evaluation");
        // The greedy and the sampled policy's; the oracle's takes a moment only.
        let walks = WatchedWalk {
            stop,
            progress: Walk::new(&self.screen, 2 * config.eval.final_episodes),
        };
        let Some(finals) = Finals::new(&self.parameters, config, &network(), walks)? else {
            return Ok(Vec::new());
        };
        match self.replay(config, stop) {
            Ok(Some(page)) => self.write(REPLAY, page)?,
            Ok(None) => return Ok(Vec::new()),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(%error, "no {REPLAY}: the walks of the final agent cannot be recorded");
            }
        }
        self.write(EPISODES, finals.episodes)?;
        // The sampled evaluation and the oracle's are not points of the learning curve.
        let [greedy, ..] = &finals.evaluations;
        let record = EvalRecord {
            frames: self.frames,
            seconds: self.seconds,
            updates_tried: self.updates_tried,
            evaluation: greedy.clone(),
        };
        if !records.iter().any(|earlier| is_same(earlier, &record)) {
            self.metrics.append(&Record::Eval(record.clone()))?;
        }
        owed.settle(self.frames)?;
        evaluator::set_gauges(&record);
        if let Some(feed) = &self.feed {
            let stopped = || stop.load(Ordering::Relaxed);
            feed.evaluated(self.frames, &self.parameters, &stopped);
        }
        Ok(finals.evaluations.into())
    }

    /// Returns `replay.html`: the final agent in held-out mazes. Returns `None` when `stop` was set meanwhile.
    fn replay(&self, config: &Config, stop: &AtomicBool) -> anyhow::Result<Option<String>> {
        let settings = RecordSettings {
            env: &config.env,
            seed: config.eval.seed,
            choice: Choice::Greedy,
        };
        let name = short_names(&[self.run_dir.path()]).concat();
        let model = RecordedModel::new(name, self.frames, self.parameters.clone());
        let episodes = WALKED.min(config.eval.final_episodes);
        let stopped = || stop.load(Ordering::Relaxed);
        let recording = settings.find(&[model], episodes, stopped, || {})?;
        let page = recording.map(|recording| player::page(&recording));
        Ok(page.transpose()?)
    }

    fn write(&self, name: &str, content: String) -> anyhow::Result<()> {
        let path = self.run_dir.file(name);
        files::write(&path, content).with_context(|| format!("writing {}", path.display()))
    }
}

/// Returns true when a record has the same weights and episodes as an evaluation.
fn is_same(earlier: &Record, record: &EvalRecord) -> bool {
    let of = |record: &EvalRecord| {
        let Evaluation {
            policy,
            seed,
            episodes,
            ..
        } = record.evaluation;
        (record.frames, record.updates_tried, policy, seed, episodes)
    };
    matches!(earlier, Record::Eval(earlier) if of(earlier) == of(record))
}

/// A walk whose progress is shown, and which a signal ends.
struct WatchedWalk<'a> {
    stop: &'a AtomicBool,
    progress: Walk,
}

impl WalkObserver for WatchedWalk<'_> {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn ended(&self) {
        self.progress.add(1);
    }
}

/// Results of the final evaluations.
struct Finals {
    /// The greedy policy's, the sampled policy's and the oracle's.
    evaluations: [Evaluation; 3],
    /// `episodes.csv`.
    episodes: String,
}

impl Finals {
    /// Evaluates the weights of a finished run. Returns `None` when `watched` ended a walk.
    fn new(
        parameters: &Parameters,
        config: &Config,
        network: &NewNetwork,
        watched: WatchedWalk<'_>,
    ) -> anyhow::Result<Option<Self>> {
        let held_out = HeldOut {
            env: &config.env,
            episodes: config.eval.final_episodes,
            seed: config.eval.seed,
        };
        let network = |envs| Some(network(parameters.clone(), envs));
        let walk = |by| held_out.walk(by, network, &watched, None);
        let (Some(greedy), Some(sampled), Some(oracle)) = (
            walk(WalkBy::Greedy)?,
            walk(WalkBy::Sampled)?,
            held_out.oracle(watched.stop)?,
        ) else {
            return Ok(None);
        };
        let walks = [
            (WalkBy::Greedy, &greedy),
            (WalkBy::Sampled, &sampled),
            (WalkBy::Oracle, &oracle),
        ];
        Ok(Some(Self {
            evaluations: walks
                .map(|(by, walked)| figures::evaluation(&held_out, by, walked, &oracle)),
            episodes: episodes::csv(&walks.map(|(by, walked)| (by, &walked.episodes[..]))),
        }))
    }
}
