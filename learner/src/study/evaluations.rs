//! Evaluates the trained models of a study again, with other segments per decision.

use std::path::Path;

use anyhow::{Context as _, ensure};
use hrm_common::{
    checkpoint,
    model::{ModelConfig, Parameters, Segments, native::Lanes},
    shutdown::Shutdown,
};

use super::{
    file::{FurtherEvaluation, StudyFile, StudyFileError},
    plan::PlannedRun,
    raw::{self, FurtherResult, RawRun},
};
use crate::{
    evaluation::{
        control::{Control, Numbers},
        evaluate::{HeldOut, WalkObserver, Walked},
        figures,
    },
    run::progress::{Screen, Walk},
    storage::records::WalkBy,
};

/// Checks that the models of a run can be evaluated as the study says.
///
/// # Errors
///
/// Returns an error that names the evaluation, such as one whose rule needs a halt head that the model does not have.
pub(super) fn check(study: &StudyFile, run: &PlannedRun) -> anyhow::Result<()> {
    for evaluation in study.evaluations_of(&run.arm) {
        let model = ModelConfig {
            segments: evaluation.segments,
            ..run.effective.config.model.clone()
        };
        let key = || format!("evaluation {:?} of arm {:?}", evaluation.name, run.arm);
        let valid = model.validate().map_err(StudyFileError::from);
        valid.with_context(key)?;
    }
    Ok(())
}

/// Returns the evaluations of an arm's models that `raw` does not have.
///
/// # Errors
///
/// Returns an error that names the remedy, when one was made with other settings than the study has now.
pub(super) fn missing<'s>(
    study: &'s StudyFile,
    run: &PlannedRun,
    raw: &RawRun,
    results: &Path,
) -> anyhow::Result<Vec<&'s FurtherEvaluation>> {
    let mut missing = Vec::new();
    for wanted in study.evaluations_of(&run.arm) {
        let Some(found) = raw.evaluations.iter().find(|e| e.name == wanted.name) else {
            missing.push(wanted);
            continue;
        };
        ensure!(
            found.is_of(wanted),
            "{} holds the evaluation {:?} of {}, made with other settings than the study has now\n  remedy: remove \
             that file to make its evaluations again, or give the evaluation another name",
            raw::evaluations_file(results, &run.arm, run.seed).display(),
            wanted.name,
            run.name(),
        );
    }
    Ok(missing)
}

/// Makes the missing evaluations of a finished run from its newest checkpoint, and adds them to its raw data. Returns
/// false when `shutdown` stopped them.
///
/// # Errors
///
/// Returns an error when the checkpoint is gone or is not the run's last, or a result cannot be written.
pub(super) fn make(
    study: &StudyFile,
    run: &PlannedRun,
    results: &Path,
    screen: &Screen,
    shutdown: &Shutdown,
) -> anyhow::Result<bool> {
    let Some(raw) = raw::read(results, &run.arm, run.seed)? else {
        return Ok(true);
    };
    let missing = missing(study, run, &raw, results)?;
    if missing.is_empty() {
        return Ok(true);
    }
    let parameters = trained(run, &raw)?;
    let config = &run.effective.config;
    let held_out = HeldOut {
        env: &config.env,
        episodes: config.eval.final_episodes,
        seed: config.eval.seed,
    };
    let mut made = raw.evaluations.clone();
    let watched = |walks| WatchedWalk {
        shutdown,
        progress: Walk::new(screen, walks * held_out.episodes),
    };
    let Some(oracle) = held_out.oracle(&watched(1))? else {
        return Ok(false);
    };
    for evaluation in missing {
        tracing::info!("{}: evaluating {}", run.name(), evaluation.name);
        let walks = if evaluation.control == Some(Control::Shuffled) {
            2
        } else {
            1
        };
        let Some(walked) = walk(evaluation, &parameters, &held_out, &watched(walks))? else {
            return Ok(false);
        };
        made.push(FurtherResult {
            name: evaluation.name.clone(),
            segments: evaluation.segments,
            control: evaluation.control,
            evaluation: figures::evaluation(&held_out, WalkBy::Greedy, &walked, &oracle),
            decisions: walked.decisions,
        });
        raw::write_evaluations(results, &run.arm, run.seed, &made)?;
    }
    Ok(true)
}

/// Reads the model with which a run ended.
fn trained(run: &PlannedRun, raw: &RawRun) -> anyhow::Result<Parameters> {
    let dir = &run.effective.config.run.dir;
    let (checkpoint, _) = checkpoint::newest(dir).with_context(|| {
        format!(
            "{} is to be evaluated again, but its model is gone\n  remedy: remove its raw data to train it again",
            run.name()
        )
    })?;
    ensure!(
        checkpoint.state.frames == raw.summary.frames,
        "{}: the newest checkpoint in {} has {} frames, but the run ended with {}\n  remedy: remove the run and its \
         raw data to train it again",
        run.name(),
        dir.display(),
        checkpoint.state.frames,
        raw.summary.frames
    );
    Ok(checkpoint.parameters()?)
}

/// Walks the held-out episodes as an evaluation says. Returns `None` when `watched` ended the walk.
fn walk(
    evaluation: &FurtherEvaluation,
    parameters: &Parameters,
    held_out: &HeldOut<'_>,
    watched: &WatchedWalk<'_>,
) -> anyhow::Result<Option<Walked>> {
    let model = |segments| {
        let key = || format!("evaluation {:?}", evaluation.name);
        parameters.clone().with_segments(segments).with_context(key)
    };
    let by_rule = |model: Parameters| {
        let network = |envs| Some(Lanes::new(model.clone(), envs));
        held_out.walk(WalkBy::Greedy, network, watched, None)
    };
    let Some(control) = evaluation.control else {
        return Ok(by_rule(model(evaluation.segments)?)?);
    };
    let decisions = match control {
        Control::Shuffled => match by_rule(model(evaluation.segments)?)? {
            Some(walked) => walked.decisions,
            None => return Ok(None),
        },
        Control::AtTheStart | Control::AtChanges => Vec::new(),
    };
    let free = model(Segments::range(
        evaluation.segments.least,
        evaluation.segments.most,
    ))?;
    let numbers = Numbers::new(control, evaluation.segments, &decisions);
    let network = |envs| Lanes::new(free.clone(), envs);
    Ok(held_out.walk_controlled(&numbers, network, watched)?)
}

/// A walk whose progress is shown, and which a signal ends.
struct WatchedWalk<'a> {
    shutdown: &'a Shutdown,
    progress: Walk,
}

impl WalkObserver for WatchedWalk<'_> {
    fn stops(&self) -> bool {
        self.shutdown.is_tripped()
    }

    fn ended(&self) {
        self.progress.add(1);
    }
}
