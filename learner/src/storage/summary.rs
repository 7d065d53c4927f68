//! `summary.json`, `episodes.csv` and `replay.html`: the result of a run. The summary is written last.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::storage::{files, records::Evaluation};

/// The result's file in a run's folder.
pub(crate) const SUMMARY: &str = "summary.json";

/// The file with a line per episode of the final evaluations.
pub(crate) const EPISODES: &str = "episodes.csv";

/// The page with the walks of the final agent.
pub(crate) const REPLAY: &str = "replay.html";

/// The result of a finished or stopped run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// True when the configured frames or minutes were reached and the final evaluations were made.
    pub complete: bool,
    /// Environment steps trained on.
    pub frames: u64,
    /// Seconds of training, over all starts, as `TrainingClock` counts
    /// them.
    pub seconds: f64,
    /// Optimiser updates tried, also those that were skipped.
    #[serde(rename = "updates")]
    pub updates_tried: u64,
    /// The run's seed.
    pub seed: u64,
    /// The final evaluations, all on the same episodes: greedy, sampled, and the oracle as the baseline. Empty when the
    /// run or an evaluation was stopped; a resumed run then makes them.
    pub evaluations: Vec<Evaluation>,
}

impl Summary {
    /// Reads the result of an earlier end of the run in this folder. Returns `None` if it is missing or unreadable.
    pub fn read(run_dir: &Path) -> Option<Self> {
        let text = fs::read(run_dir.join(SUMMARY)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes the result into a run's folder.
    ///
    /// # Errors
    ///
    /// Returns an error of the file system.
    pub fn write(&self, run_dir: &Path) -> anyhow::Result<()> {
        let path = run_dir.join(SUMMARY);
        files::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// Removes the result of an earlier end, because the run trains further.
///
/// # Errors
///
/// Returns an error of the file system.
pub(crate) fn withdraw(run_dir: &Path) -> io::Result<()> {
    for name in [SUMMARY, EPISODES, REPLAY] {
        match fs::remove_file(run_dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
