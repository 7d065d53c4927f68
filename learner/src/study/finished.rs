//! The finished runs of a study, the input of a report.

use std::path::Path;

use anyhow::{bail, ensure};

use crate::{
    storage::records::{Evaluation, WalkBy},
    study::{
        file::{Arm, Comparison, StudyFile},
        measures::Run,
        raw,
    },
};

/// An arm with its finished runs.
#[derive(Debug)]
pub(crate) struct ArmRuns<'s> {
    /// The arm.
    pub arm: &'s Arm,
    /// The arm's finished runs, in the order of its seeds.
    pub runs: Vec<Run>,
}

/// The models of an arm, evaluated with one setting of their segments per decision.
#[derive(Debug)]
pub(crate) struct EvaluatedArm<'r> {
    /// The arm.
    pub arm: &'r str,
    /// The further evaluation; `None` for the final evaluation of the runs.
    pub evaluation: Option<&'r str>,
    /// The line to which it belongs as a point.
    pub series: String,
    /// The seed and the greedy figures of each run that has them.
    pub runs: Vec<(u64, &'r Evaluation)>,
}

impl EvaluatedArm<'_> {
    /// Returns its name: that of the arm, and that of the further evaluation.
    pub(crate) fn name(&self) -> String {
        match self.evaluation {
            Some(evaluation) => format!("{}/{evaluation}", self.arm),
            None => self.arm.to_owned(),
        }
    }
}

impl ArmRuns<'_> {
    /// Returns the final evaluation of the arm's runs, and every further evaluation that the study names.
    pub(crate) fn evaluated<'r>(&'r self, study: &'r StudyFile) -> Vec<EvaluatedArm<'r>> {
        let arm = self.arm.name.as_str();
        let whole = EvaluatedArm {
            arm,
            evaluation: None,
            series: self.arm.series.clone().unwrap_or_else(|| arm.to_owned()),
            runs: (self.runs.iter())
                .filter_map(|run| Some((run.seed, run.at_the_end(WalkBy::Greedy)?)))
                .collect(),
        };
        let further = study.evaluations_of(arm).map(|evaluation| {
            let of_run = |run: &'r Run| {
                let found = run.evaluations.iter().find(|e| e.name == evaluation.name)?;
                Some((run.seed, &found.evaluation))
            };
            EvaluatedArm {
                arm,
                evaluation: Some(&evaluation.name),
                series: match &evaluation.series {
                    Some(series) if evaluation.arms.len() > 1 => format!("{arm}, {series}"),
                    Some(series) => series.clone(),
                    None => format!("{arm}, {}", evaluation.name),
                },
                runs: self.runs.iter().filter_map(of_run).collect(),
            }
        });
        std::iter::once(whole).chain(further).collect()
    }
}

/// The finished runs of a study, by arm.
#[derive(Debug)]
pub(crate) struct StudyRuns<'s> {
    /// The study.
    pub study: &'s StudyFile,
    /// The study's arms, in the order of the file.
    pub arms: Vec<ArmRuns<'s>>,
}

impl<'s> StudyRuns<'s> {
    /// Reads the raw data of all finished runs.
    ///
    /// # Errors
    ///
    /// Returns an error when data cannot be read, or the runs of an arm differ in more than their seed.
    pub(crate) fn read(study: &'s StudyFile, results: &Path) -> anyhow::Result<Self> {
        let mut arms = Vec::new();
        for arm in &study.arms {
            let mut runs = Vec::new();
            for &seed in study.seeds_of(arm) {
                if let Some(raw) = raw::read(results, &arm.name, seed)? {
                    runs.push(Run::new(seed, raw));
                }
            }
            arms.push(ArmRuns { arm, runs });
        }
        Self::new(study, arms)
    }

    /// Takes the finished runs of these arms.
    ///
    /// # Errors
    ///
    /// Returns an error when the runs of an arm differ in more than their seed.
    pub(crate) fn new(study: &'s StudyFile, arms: Vec<ArmRuns<'s>>) -> anyhow::Result<Self> {
        for ArmRuns { arm, runs } in &arms {
            for run in runs {
                for wanted in study.evaluations_of(&arm.name) {
                    let found = run.evaluations.iter().find(|e| e.name == wanted.name);
                    ensure!(
                        found.is_none_or(|found| found.is_of(wanted)),
                        "the raw data of arm {:?}, seed {}, has the evaluation {:?}, made with other settings than \
                         the study has now\n  remedy: remove evaluations.json from that folder to make it again, or \
                         give the evaluation another name",
                        arm.name,
                        run.seed,
                        wanted.name
                    );
                }
            }
            for pair in runs.windows(2) {
                let differences = raw::differences(&pair[0].effective, &pair[1].effective);
                if let Some(d) = differences.iter().find(|d| d.key != "run.seed") {
                    bail!(
                        "the raw data of arm {:?} have two configurations: {} is {} for seed {} and {} for \
                         seed {}; remove the folder of one of them",
                        arm.name,
                        d.key,
                        d.first,
                        pair[0].seed,
                        d.second,
                        pair[1].seed
                    );
                }
            }
        }
        Ok(Self { study, arms })
    }

    /// Returns the number of finished runs.
    pub(crate) fn runs(&self) -> usize {
        self.arms.iter().map(|arm| arm.runs.len()).sum()
    }

    /// Returns the comparisons with a finished run.
    pub(crate) fn comparisons(&self) -> impl Iterator<Item = &'s Comparison> {
        let shown = |c: &&Comparison| self.arms_of(c).iter().any(|arm| !arm.runs.is_empty());
        self.study.comparisons.iter().filter(shown)
    }

    /// Returns the evaluations of these arms, if one of them is evaluated further.
    pub(crate) fn evaluated<'r>(&'r self, arms: &[&'r ArmRuns<'s>]) -> Vec<EvaluatedArm<'r>> {
        let further = |arm: &&&ArmRuns<'_>| {
            let mut evaluations = self.study.evaluations_of(&arm.arm.name);
            evaluations.next().is_some()
        };
        if arms.iter().any(|arm| further(&arm)) {
            arms.iter()
                .flat_map(|arm| arm.evaluated(self.study))
                .filter(|evaluated| !evaluated.runs.is_empty())
                .collect()
        } else {
            Vec::new()
        }
    }

    /// Returns the arms of a comparison, in its order.
    pub(crate) fn arms_of(&self, comparison: &Comparison) -> Vec<&ArmRuns<'s>> {
        let named = |name: &String| self.arms.iter().find(|arm| &arm.arm.name == name);
        comparison.arms.iter().filter_map(named).collect()
    }
}
