//! The end of a run: final evaluations, `episodes.csv`, `summary.json`, the learning curve.

use std::{path::Path, sync::atomic::AtomicBool};

use anyhow::Context as _;
use hrm_common::{config::Config, env::EpisodeSummary, model::Hrm};

use crate::{
    episodes,
    evaluate::{Evaluation, HeldOut, WalkBy},
    files,
    ledger::LedgerFile,
    metrics_log::{EvalRecord, MetricsLog, Record},
    plot,
    run::Summary,
    run_dir::RunDir,
    trainer::{End, Trainer},
};

/// What is left of a trainer once its streams are closed.
#[derive(Debug)]
pub(crate) struct Finished {
    model: Hrm,
    metrics: MetricsLog,
    /// For the sessions that are still to be booked.
    pub ledger: LedgerFile,
    frames: u64,
    updates: u64,
    seconds: f64,
    _run_dir: RunDir,
}

impl Finished {
    pub fn of(mut trainer: Trainer) -> Self {
        // Only now that the last word is out: who is refused leaves, and would come back for it otherwise.
        trainer.batcher.close();
        Self {
            seconds: trainer.time.seconds(),
            frames: trainer.frames,
            updates: trainer.updater.updates,
            model: trainer.updater.model,
            metrics: trainer.metrics,
            ledger: trainer.ledger,
            _run_dir: trainer.run_dir,
        }
    }

    /// The final evaluations of a complete run, the summary and the learning curve. `stop` ends the
    /// evaluations without a result; the run is saved already.
    pub fn conclude(
        mut self,
        end: End,
        config: &Config,
        run_dir: &Path,
        stop: &AtomicBool,
    ) -> anyhow::Result<Summary> {
        let finals = match end {
            End::Stopped => None,
            End::Complete => {
                tracing::info!(episodes = config.eval.final_episodes, "final evaluation");
                Finals::of(&self.model, config, stop)?
            }
        };
        let evaluations = match finals {
            None => Vec::new(),
            Some(finals) => {
                let path = run_dir.join(episodes::NAME);
                files::write(&path, finals.episodes)
                    .with_context(|| format!("writing {}", path.display()))?;
                finals.evaluations
            }
        };
        // The greedy one; the others are no points of the learning curve.
        if let Some(evaluation) = evaluations.first() {
            self.metrics.append(&Record::Eval(EvalRecord {
                frames: self.frames,
                seconds: self.seconds,
                updates: self.updates,
                evaluation: evaluation.clone(),
            }))?;
        }
        let summary = Summary {
            complete: end == End::Complete,
            frames: self.frames,
            seconds: self.seconds,
            updates: self.updates,
            seed: config.run.seed,
            evaluations,
        };
        let path = run_dir.join("summary.json");
        files::write(&path, serde_json::to_vec_pretty(&summary)?)
            .with_context(|| format!("writing {}", path.display()))?;
        plot::draw_run(run_dir)?;
        Ok(summary)
    }
}

/// The final evaluations.
struct Finals {
    /// Greedy, sampled and the oracle's.
    evaluations: Vec<Evaluation>,
    /// `episodes.csv`.
    episodes: String,
}

impl Finals {
    /// Evaluates the weights of a finished run; `None` when `stop` was set meanwhile.
    fn of(model: &Hrm, config: &Config, stop: &AtomicBool) -> anyhow::Result<Option<Self>> {
        let held_out = HeldOut {
            env: &config.env,
            episodes: config.eval.final_episodes,
            seed: config.eval.seed,
        };
        let walk = |by| held_out.walk(by, || Some(model.share()), stop, None);
        let (Some(greedy), Some(sampled), Some(oracle)) = (
            walk(WalkBy::Greedy)?,
            walk(WalkBy::Sampled)?,
            walk(WalkBy::Oracle)?,
        ) else {
            return Ok(None);
        };
        let walks: [(WalkBy, &[EpisodeSummary]); 3] = [
            (WalkBy::Greedy, &greedy),
            (WalkBy::Sampled, &sampled),
            (WalkBy::Oracle, &oracle),
        ];
        Ok(Some(Self {
            evaluations: walks
                .map(|(by, walked)| held_out.evaluation(by, walked, &oracle))
                .into(),
            episodes: episodes::csv(&walks),
        }))
    }
}
