//! TensorBoard's event file of a run: its records as scalars, its hyperparameters and its configuration.
//!
//! ```text
//!   start     config.toml, metrics.jsonl --> a new file, which replaces those of earlier starts
//!   record    metrics_log --> scalars train/... and eval/...
//!   end       summary.json --> scalars final/POLICY/...
//! ```
//!
//! A start writes everything again, so a resumed run has each step once. The file lies in the run's folder itself:
//! `tensorboard --logdir runs` names a run after the folder of its files.
//!
//! `scalars` names the numbers of a record, `hyperparameters` makes the table of runs, and `protocol` is the format.

mod hyperparameters;
mod protocol;
mod scalars;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use self::protocol::{Event, TaggedValue};
use crate::storage::{
    files, metrics_log,
    records::{Record, Stamped, unix_seconds},
    run_dir::RunDir,
    summary::Summary,
};

/// The parts of a file's name before and after the number of the start. TensorBoard reads files with `tfevents` in
/// their names, in the order of the names; a file that is replaced under its name it would not read again.
const NAME: (&str, &str) = ("events.out.tfevents.", ".hrm-learner");

/// The event file of one start of the learner.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
    /// The newest frames of each kind of record.
    newest: BTreeMap<&'static str, u64>,
}

impl EventFile {
    /// Writes the file of this start from `config.toml` and `metrics.jsonl`, and removes those of earlier starts.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file.
    pub(crate) fn begin(run: &RunDir) -> io::Result<Self> {
        let config = run.file("config.toml");
        let config = fs::read_to_string(&config).map_err(files::naming(&config))?;
        let lines = metrics_log::read_lines(&run.file("metrics.jsonl"))?;
        let mut first = BTreeMap::new();
        for line in &lines {
            let at = (line.record.frames(), line.record.kind());
            first.entry(at).or_insert(line);
        }
        let mut bytes = head(&config)?;
        for line in first.values() {
            bytes.extend(event(line.as_ref())?.framed());
        }

        let path = path(run);
        let file = files::write(&path, bytes)
            .and_then(|()| OpenOptions::new().append(true).open(&path))
            .map_err(files::naming(&path))?;
        remove_others(run, &path)?;
        Ok(Self {
            file,
            path,
            newest: first.keys().map(|&(frames, kind)| (kind, frames)).collect(),
        })
    }

    /// Appends the scalars of a record that is newer than the others of its kind. TensorBoard forgets everything from
    /// the step of any other record on. The next start writes one at earlier frames in its place. Of two records at the
    /// same frames the first counts: an evaluation and the final one, which has scalars of its own.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file; the record is absent then.
    pub(crate) fn append(&mut self, line: &Stamped<&Record>) -> io::Result<()> {
        let (kind, frames) = (line.record.kind(), line.record.frames());
        if self
            .newest
            .get(kind)
            .is_some_and(|newest| frames <= *newest)
        {
            return Ok(());
        }
        files::append_whole(&mut self.file, &event(*line)?.framed())
            .map_err(files::naming(&self.path))?;
        self.newest.insert(kind, frames);
        Ok(())
    }
}

/// Appends the result of a run to the file of this start.
///
/// # Errors
///
/// Returns an error that names the file.
pub(crate) fn conclude(run: &RunDir, summary: &Summary) -> io::Result<()> {
    if !summary.complete {
        return Ok(());
    }
    let now = unix_seconds();
    let mut values = Vec::new();
    for evaluation in &summary.evaluations {
        let prefix = format!("final/{}", evaluation.policy);
        values.extend(scalars::of(&prefix, evaluation)?);
    }
    values.push(hyperparameters::end(now));
    let path = path(run);
    OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| {
            let event = Event::values(now, summary.frames, values);
            files::append_whole(&mut file, &event.framed())
        })
        .map_err(files::naming(&path))
}

/// Returns the path of this start's file.
fn path(run: &RunDir) -> PathBuf {
    let (before, after) = NAME;
    run.file(&format!("{before}{:010}{after}", run.identity.restarts))
}

/// True for the name of an event file of any start.
pub(crate) fn is_event_file(name: &str) -> bool {
    let (before, after) = NAME;
    name.starts_with(before) && name.ends_with(after)
}

/// Removes the files of other starts.
fn remove_others(run: &RunDir, path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(run.path()).map_err(files::naming(run.path()))? {
        let entry = entry.map_err(files::naming(run.path()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_event_file(&name) && entry.path() != path {
            fs::remove_file(entry.path()).map_err(files::naming(&entry.path()))?;
        }
    }
    Ok(())
}

/// Returns the part of a file before the first record.
fn head(config: &str) -> io::Result<Vec<u8>> {
    let now = unix_seconds();
    let table = config.parse().map_err(io::Error::other)?;
    let mut values = hyperparameters::begin(&table, now);
    let text = format!("```toml\n{config}```\n");
    values.push(TaggedValue::text("configuration", text));
    let events = [
        Event::version(now),
        Event::start(now),
        Event::values(now, 0, values),
    ];
    Ok(events.iter().flat_map(Event::framed).collect())
}

/// Returns the scalars of a record. Without a time they are dated by the training time, from 1970 on.
fn event(line: Stamped<&Record>) -> io::Result<Event> {
    let Stamped { record, time } = line;
    let time = time.unwrap_or_else(|| record.seconds());
    let values = scalars::of(record.kind(), record)?;
    Ok(Event::values(time, record.frames(), values))
}
