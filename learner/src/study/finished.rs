//! The finished runs of a study, the input of a report.

use std::path::Path;

use anyhow::bail;

use crate::study::{
    file::{Arm, Comparison, StudyFile},
    measures::Run,
    raw,
};

/// An arm with its finished runs.
#[derive(Debug)]
pub(crate) struct ArmRuns<'s> {
    /// The arm.
    pub arm: &'s Arm,
    /// The arm's finished runs, in the order of its seeds.
    pub runs: Vec<Run>,
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

    /// Returns the arms of a comparison, in its order.
    pub(crate) fn arms_of(&self, comparison: &Comparison) -> Vec<&ArmRuns<'s>> {
        let named = |name: &String| self.arms.iter().find(|arm| &arm.arm.name == name);
        comparison.arms.iter().filter_map(named).collect()
    }
}
