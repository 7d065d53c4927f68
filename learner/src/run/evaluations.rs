//! The evaluations of a run: its log, the owed ones, the thread that makes them, and their target.

use std::sync::Arc;

use hrm_common::{
    config::Config,
    telemetry::names::{self, RunFile},
};

use crate::{
    evaluation::{
        evaluator::{self, AfterEvaluation, Evaluator, NewNetwork},
        owed::OwedEvaluations,
    },
    run::{target::Target, tolerate::Tolerate as _},
    storage::{
        metrics_log::{self, Follower, MetricsLog},
        records::Record,
        run_dir::RunDir,
        tensorboard::EventFile,
    },
    view::page::Feed,
};

/// The evaluations of a run, open for more.
#[derive(Debug)]
pub(crate) struct Evaluations {
    /// `metrics.jsonl`, which also holds the records of the batches.
    pub(crate) metrics: MetricsLog,
    /// Weights of evaluations that are not recorded yet.
    pub(crate) owed: OwedEvaluations,
    /// Evaluates while training runs, owed evaluations first.
    pub(crate) evaluator: Evaluator,
    /// The success at which the run is complete.
    pub(crate) target: Target,
}

/// Opens `metrics.jsonl` of a run at `frames`, and starts the evaluator with the owed evaluations. Both report to
/// `feed`.
pub(super) fn open(
    config: &Config,
    run_dir: &RunDir,
    frames: u64,
    network: NewNetwork,
    feed: Option<&Arc<Feed>>,
) -> anyhow::Result<Evaluations> {
    let path = run_dir.file("metrics.jsonl");
    let mut metrics = MetricsLog::open(&path, frames)?;
    let records = metrics_log::read(&path)?;
    set_gauges(&records);
    if let Some(feed) = feed {
        feed.resume(&records);
        let feed = feed.clone();
        metrics.follow(Follower(Box::new(move |line| feed.record(line.record))));
    }
    let after = feed.cloned().map(|feed| -> AfterEvaluation {
        Box::new(move |record, parameters, stop| feed.evaluated(record.frames, parameters, stop))
    });
    if config.telemetry.tensorboard {
        write_events(run_dir, &mut metrics);
    }
    let (owed, jobs) = OwedEvaluations::open(run_dir.path(), frames, &records)?;
    if !jobs.is_empty() {
        tracing::info!(
            evaluations = jobs.len(),
            "making the evaluations that an earlier start did not finish"
        );
    }
    Ok(Evaluations {
        metrics,
        owed,
        evaluator: Evaluator::start(config, network, jobs, after)?,
        target: Target::new(config.learner.target_success, &records),
    })
}

/// Writes the records into an event file too, the further ones when they are appended to `metrics`.
fn write_events(run_dir: &RunDir, metrics: &mut MetricsLog) {
    let begun = EventFile::begin(run_dir).map(|mut events| {
        metrics.follow(Follower(Box::new(move |line| {
            events.append(line).tolerate(RunFile::Tensorboard);
        })));
    });
    begun.tolerate(RunFile::Tensorboard);
}

/// Sets the gauges to the last values in a run's log. It leaves out losses and episode figures: they describe a batch
/// and a window that ended with the process.
fn set_gauges(records: &[Record]) {
    let newest = |record: &&Record| record.frames();
    let (train, eval) = (
        records.iter().filter(|r| matches!(r, Record::Train(_))),
        records.iter().filter(|r| matches!(r, Record::Eval(_))),
    );
    if let Some(Record::Train(record)) = train.max_by_key(newest) {
        names::LEARNER_LEARNING_RATE.get().set(record.learning_rate);
    }
    if let Some(Record::Eval(record)) = eval.max_by_key(newest) {
        evaluator::set_gauges(record);
    }
}
