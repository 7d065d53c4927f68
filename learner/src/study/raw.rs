//! The raw data of finished runs, `RESULTS/raw/ARM/seed-N/`:
//!
//! ```text
//!   config.toml     the effective configuration; `hrm-learner train --config` repeats the run with it
//!   metrics.jsonl   the records of its training
//!   episodes.csv    one line per episode of the final evaluations
//!   machine.json    the machine that trained it
//!   evaluations.json  the study's further evaluations of its model, if there are any
//!   summary.json    the result; written last, so that a folder with it is complete
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use hrm_common::{
    checkpoint,
    config::{Config, Effective, Layers},
    model::Segments,
};
use serde::{Deserialize, Serialize};

use super::{
    file::FurtherEvaluation,
    plan::{self, PlannedRun},
};
use crate::{
    evaluation::control::Control,
    run::device,
    storage::{
        checkpoint_folder, files, metrics_log,
        records::{Evaluation, Record},
        run_dir::Identity,
        summary::{EPISODES, SUMMARY, Summary},
    },
};

/// Settings of places and access, which do not affect learning.
const PLACES: [&str; 20] = [
    "run.dir",
    "run.name",
    "checkpoint.copy_to",
    "learner.listen",
    "learner.metrics_listen",
    "learner.health_listen",
    "learner.web_listen",
    "learner.tls_certificate",
    "learner.tls_private_key",
    "learner.tls_client_ca",
    "learner.actor_tokens_file",
    "learner.viewer_tokens_file",
    "learner.insecure",
    "actor.learner",
    "actor.metrics_listen",
    "actor.health_listen",
    "actor.tls_ca",
    "actor.tls_certificate",
    "actor.tls_private_key",
    "actor.token_file",
];

/// The machine and program that made a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Threads that shared a minibatch.
    pub threads: usize,
    /// The device of the learner's tensors.
    pub device: String,
    /// The release of this program.
    pub version: String,
    /// Number of interruptions after which the run resumed. Its window of recent episodes began empty each time.
    pub restarts: u64,
}

/// The data of a finished run.
#[derive(Debug, Clone)]
pub(crate) struct RawRun {
    /// The run's configuration.
    pub effective: Effective,
    /// The run's log.
    pub records: Vec<Record>,
    /// The run's result.
    pub summary: Summary,
    /// The machine that made the run.
    pub machine: Machine,
    /// The further evaluations of its model.
    pub evaluations: Vec<FurtherResult>,
}

/// The result of one evaluation of one model, in the raw data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FurtherResult {
    /// The evaluation's name.
    pub name: String,
    /// The segments of its decisions.
    pub(crate) segments: Segments,
    /// The control that took the place of the model's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) control: Option<Control>,
    /// The figures of the walk.
    pub evaluation: Evaluation,
    /// The number of decisions with each number of segments, from 0 on.
    pub(crate) decisions: Vec<u64>,
}

impl FurtherResult {
    /// True if it was made as the study says.
    pub(crate) fn is_of(&self, wanted: &FurtherEvaluation) -> bool {
        (self.segments, self.control) == (wanted.segments, wanted.control)
    }
}

/// Returns the folder of a run's raw data.
pub(crate) fn folder(results: &Path, arm: &str, seed: u64) -> PathBuf {
    results.join("raw").join(plan::place(arm, seed))
}

/// Reads the raw data of a run. Returns `None` when the run is not finished.
///
/// # Errors
///
/// Returns an error when existing data cannot be read.
pub(crate) fn read(results: &Path, arm: &str, seed: u64) -> anyhow::Result<Option<RawRun>> {
    let folder = folder(results, arm, seed);
    if !folder.join(SUMMARY).exists() {
        return Ok(None);
    }
    let summary: Summary = json(&folder.join(SUMMARY))?;
    ensure!(
        is_finished(&summary),
        "{}: this run was not finished; remove the folder to train it again",
        folder.display()
    );
    Ok(Some(RawRun {
        effective: configuration(&folder.join("config.toml"))?,
        records: metrics_log::read(&folder.join("metrics.jsonl"))?,
        summary,
        machine: json(&folder.join("machine.json"))?,
        evaluations: match evaluations_file(results, arm, seed) {
            path if path.exists() => json(&path)?,
            _ => Vec::new(),
        },
    }))
}

/// Returns the file with the further evaluations of a run's model.
pub(super) fn evaluations_file(results: &Path, arm: &str, seed: u64) -> PathBuf {
    folder(results, arm, seed).join("evaluations.json")
}

/// Writes the further evaluations of a run's model.
///
/// # Errors
///
/// Returns an error of the file system.
pub(super) fn write_evaluations(
    results: &Path,
    arm: &str,
    seed: u64,
    made: &[FurtherResult],
) -> anyhow::Result<()> {
    write_json(&evaluations_file(results, arm, seed), &made)
}

/// Keeps the raw data of a run that has just finished, and only its newest checkpoint.
///
/// # Errors
///
/// Returns an error of the file system.
pub(crate) fn keep(run: &PlannedRun, summary: &Summary, results: &Path) -> anyhow::Result<()> {
    let config = &run.effective.config;
    let (from, to) = (&config.run.dir, folder(results, &run.arm, run.seed));
    fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
    for name in ["config.toml", "metrics.jsonl", EPISODES] {
        fs::read(from.join(name))
            .and_then(|bytes| files::write(&to.join(name), bytes))
            .with_context(|| format!("copying {name} to {}", to.display()))?;
    }
    let identity: Identity = json(&from.join("run.json"))?;
    let machine = machine(&run.effective, &identity)?;
    write_json(&to.join("machine.json"), &machine)?;
    write_json(&to.join(SUMMARY), summary)?;
    let checkpoints = from.join("checkpoints");
    let newest = checkpoint::find(&checkpoints)?;
    // The run is kept, even if old checkpoints cannot be removed.
    for error in checkpoint_folder::prune(&checkpoints, 1, &newest) {
        tracing::warn!(%error, "an old checkpoint cannot be removed");
    }
    Ok(())
}

/// Returns true when a run is complete, including its final evaluations.
pub(crate) fn is_finished(summary: &Summary) -> bool {
    summary.complete && !summary.evaluations.is_empty()
}

/// Rejects data that was made with other settings than the study has now.
///
/// # Errors
///
/// Returns an error that names the keys and the remedy, when the configuration in `folder` differs.
pub(crate) fn refuse_another_configuration(folder: &Path, run: &PlannedRun) -> anyhow::Result<()> {
    let path = folder.join("config.toml");
    if !path.exists() {
        return Ok(());
    }
    let differences: Vec<String> = differences(&configuration(&path)?, &run.effective)
        .into_iter()
        .map(|d| format!("  {}: {} there, {} now", d.key, d.first, d.second))
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "{} holds {}, made with other settings than the study has now:\n{}\n  remedy: remove that folder to \
         train the run again, or keep it and name other folders with --results and --dir",
        folder.display(),
        run.name(),
        differences.join("\n")
    )
}

/// A setting in which two configurations differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The key, as `section.key`.
    pub key: String,
    /// The value in the first configuration, as in a TOML file.
    pub first: String,
    /// The value in the second configuration.
    pub second: String,
}

/// Returns the differences of two configurations, without the settings of places.
pub(crate) fn differences(first: &Effective, second: &Effective) -> Vec<Difference> {
    // This program wrote both, so they have the same keys in the same order.
    first
        .settings()
        .into_iter()
        .zip(second.settings())
        .filter(|((key, first), (_, second))| first != second && !PLACES.contains(&key.as_str()))
        .map(|((key, first), (_, second))| Difference { key, first, second })
        .collect()
}

/// Reads the configuration of a finished run, without environment variables.
fn configuration(path: &Path) -> anyhow::Result<Effective> {
    Ok(Config::load(&Layers {
        file: Some(path.to_owned()),
        ..Layers::default()
    })?)
}

fn machine(effective: &Effective, identity: &Identity) -> anyhow::Result<Machine> {
    let device = device::choose(effective)?;
    Ok(Machine {
        cpu: cpu().unwrap_or_else(|_| "unknown".to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: device.threads,
        device: device.label,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        restarts: identity.restarts,
    })
}

fn cpu() -> io::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, name)| name.to_owned())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    fs::read(path)
        .map_err(anyhow::Error::from)
        .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
        .with_context(|| format!("reading {}", path.display()))
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    files::write(path, &text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        storage::metrics_log::MetricsLog,
        study::{fixture, plan},
    };

    /// Creates a folder with a run that has just finished. Returns it with the run's plan and data.
    fn finished(settings: &[(&str, &str)]) -> (tempfile::TempDir, PlannedRun, RawRun) {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("runs").join(plan::place("full", 1));
        let dir_text = dir.display().to_string();
        let settings = [&[("run.dir", dir_text.as_str())], settings].concat();
        let raw = fixture::raw(1, 0.0, 1.0, &settings);
        let checkpoints = dir.join("checkpoints");
        fs::create_dir_all(&checkpoints).expect("a folder");
        for frames in [500, 900, 1000] {
            fs::write(checkpoints.join(format!("{frames:012}.safetensors")), "").expect("a file");
        }
        fs::write(dir.join("config.toml"), raw.effective.to_toml()).expect("a file");
        fs::write(dir.join("run.json"), r#"{"run_id":"a","restarts":2}"#).expect("a file");
        fs::write(dir.join(EPISODES), "episode\n0\n").expect("a file");
        let mut log = MetricsLog::open(&dir.join("metrics.jsonl"), 0).expect("a log");
        for record in &raw.records {
            log.append(record).expect("appended");
        }
        let run = PlannedRun {
            arm: "full".to_owned(),
            seed: 1,
            effective: raw.effective.clone(),
        };
        (folder, run, raw)
    }

    #[test]
    fn a_kept_run_is_read_back() {
        let (folder, run, made) = finished(&[]);
        let results = folder.path().join("results");
        assert!(read(&results, "full", 1).expect("readable").is_none());
        keep(&run, &made.summary, &results).expect("kept");
        let raw = read(&results, "full", 1).expect("readable").expect("kept");
        assert_eq!(raw.records, made.records);
        assert_eq!(raw.effective.config, made.effective.config);
        assert_eq!(raw.summary.evaluations, made.summary.evaluations);
        assert_eq!(raw.machine.restarts, 2);
        let kept = super::folder(&results, "full", 1).join(EPISODES);
        assert_eq!(fs::read_to_string(kept).expect("a file"), "episode\n0\n");
        assert!(raw.machine.cores > 0 && !raw.machine.cpu.is_empty());
        let checkpoints = run.effective.config.run.dir.join("checkpoints");
        let left = checkpoint::list(&checkpoints).expect("a folder");
        assert_eq!(left, [checkpoints.join("000000001000.safetensors")]);

        // A folder cannot be removed as a file; the run is kept nevertheless.
        let stuck = checkpoints.join("000000000001.safetensors");
        fs::create_dir(&stuck).expect("a folder");
        keep(&run, &made.summary, &results).expect("kept");
        let left = checkpoint::list(&checkpoints).expect("a folder");
        assert_eq!(left, [stuck, checkpoints.join("000000001000.safetensors")]);
    }

    #[test]
    fn a_folder_without_its_summary_is_not_a_finished_run() {
        let (folder, run, made) = finished(&[]);
        let results = folder.path();
        keep(&run, &made.summary, results).expect("kept");
        let path = super::folder(results, "full", 1).join(SUMMARY);
        fs::remove_file(&path).expect("a file");
        assert!(read(results, "full", 1).expect("readable").is_none());
        let stopped = Summary {
            evaluations: Vec::new(),
            ..made.summary
        };
        write_json(&path, &stopped).expect("written");
        let error = read(results, "full", 1).expect_err("not finished");
        assert!(error.to_string().contains("remove the folder"), "{error}");
    }

    #[test]
    fn a_run_of_another_configuration_is_refused_with_its_keys() {
        let (folder, run, made) = finished(&[]);
        let results = folder.path();
        keep(&run, &made.summary, results).expect("kept");
        let kept = super::folder(results, "full", 1);
        refuse_another_configuration(&kept, &run).expect("the same");
        let elsewhere = [("run.dir", "elsewhere"), ("learner.listen", "127.0.0.1:7")];
        let moved = PlannedRun {
            effective: fixture::raw(1, 0.0, 1.0, &elsewhere).effective,
            ..run.clone()
        };
        refuse_another_configuration(&kept, &moved).expect("the same in other places");
        let tuned = [("loss.gamma", "0.9"), ("model.carry", "reset")];
        let tuned = PlannedRun {
            effective: fixture::raw(1, 0.0, 1.0, &tuned).effective,
            ..run
        };
        let error = refuse_another_configuration(&kept, &tuned).expect_err("another");
        let message = error.to_string();
        for part in [
            "full seed 1",
            "loss.gamma: 0.95 there, 0.9 now",
            "model.carry: \"full\" there, \"reset\" now",
            "--results",
            "remove that folder",
        ] {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }
}
