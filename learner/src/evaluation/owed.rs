//! `owed-evaluations/`: weights of requested evaluations that `metrics.jsonl` does not have yet.
//!
//! ```text
//!   trainer at a mark --owe--> FRAMES.weights --evaluator--> metrics.jsonl --settle--> (removed)
//!                                   `-- after a stop or a crash: open() gives it to the next start
//! ```
//!
//! A file is written before the checkpoint that follows its mark. So a run that resumes from this checkpoint finds the
//! exact weights of all earlier marks. The first line is a JSON header. The published weights follow; the header holds
//! their checksum (SHA-256).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use hrm_common::{
    checkpoint::CheckpointError,
    checksum::{digest, hex},
};
use serde::{Deserialize, Serialize};

use crate::{
    evaluation::evaluator::Job,
    storage::{files, records::Record, run_dir},
};

/// Name of the folder, within a run's folder.
pub const FOLDER: &str = run_dir::OWED;

/// Extension of a file's name, which begins with the frame count.
const ENDING: &str = "weights";

/// The folder of owed evaluations.
#[derive(Debug, Clone)]
pub(crate) struct OwedEvaluations {
    folder: PathBuf,
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    frames: u64,
    seconds: f64,
    #[serde(rename = "updates")]
    updates_tried: u64,
    /// SHA-256 of the weights, in hexadecimal.
    checksum: String,
}

impl OwedEvaluations {
    /// Opens the folder of a run at `frames` whose log holds `records`. Returns it with the evaluations that are still
    /// owed, oldest first. Removes those that the log already holds, and those beyond `frames`, because the run passes
    /// those marks again.
    ///
    /// # Errors
    ///
    /// Returns an error of the file system.
    pub(crate) fn open(
        run_dir: &Path,
        frames: u64,
        records: &[Record],
    ) -> Result<(Self, Vec<Job>), CheckpointError> {
        let this = Self {
            folder: run_dir.join(FOLDER),
        };
        let mut jobs = Vec::new();
        for path in this.files()? {
            let bytes = fs::read(&path).map_err(|reason| io_error(&path, reason))?;
            match parse(bytes) {
                Some(job) if job.frames <= frames && !is_recorded(records, job.frames) => {
                    jobs.push(job);
                    continue;
                }
                Some(_) => {}
                None => tracing::warn!(
                    path = %path.display(),
                    "the weights of an owed evaluation are damaged, so it is skipped"
                ),
            }
            fs::remove_file(&path).map_err(|reason| io_error(&path, reason))?;
        }
        jobs.sort_by_key(|job| job.frames);
        Ok((this, jobs))
    }

    /// Keeps the weights of an evaluation until [`OwedEvaluations::settle`].
    ///
    /// # Errors
    ///
    /// Returns an error of the file system; nothing is kept then.
    pub(crate) fn owe(&self, job: &Job) -> Result<(), CheckpointError> {
        let path = self.path(job.frames);
        fs::create_dir_all(&self.folder).map_err(|reason| io_error(&self.folder, reason))?;
        let header = Header {
            frames: job.frames,
            seconds: job.seconds,
            updates_tried: job.updates_tried,
            checksum: hex(&digest(&job.weights)),
        };
        let mut bytes =
            serde_json::to_vec(&header).map_err(|error| io_error(&path, error.into()))?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&job.weights);
        files::write(&path, &bytes).map_err(|reason| io_error(&path, reason))
    }

    /// Removes the weights of this mark, once the evaluation is recorded.
    ///
    /// # Errors
    ///
    /// Returns an error of the file system.
    pub(crate) fn settle(&self, frames: u64) -> Result<(), CheckpointError> {
        let path = self.path(frames);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path, error)),
            _ => Ok(()),
        }
    }

    fn path(&self, frames: u64) -> PathBuf {
        self.folder.join(format!("{frames:012}.{ENDING}"))
    }

    fn files(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|reason| io_error(&self.folder, reason))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|reason| io_error(&self.folder, reason))?
                .path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                files.push(path);
            }
        }
        Ok(files)
    }
}

fn io_error(path: &Path, reason: io::Error) -> CheckpointError {
    CheckpointError::Io {
        path: path.to_owned(),
        reason,
    }
}

fn is_recorded(records: &[Record], frames: u64) -> bool {
    records
        .iter()
        .any(|record| matches!(record, Record::Eval(record) if record.frames == frames))
}

/// Parses a file. Returns `None` when the content is damaged.
fn parse(bytes: Vec<u8>) -> Option<Job> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let header: Header = serde_json::from_slice(&bytes[..end]).ok()?;
    let weights = Bytes::from(bytes).slice(end + 1..);
    (header.checksum == hex(&digest(&weights))).then_some(Job {
        weights,
        frames: header.frames,
        seconds: header.seconds,
        updates_tried: header.updates_tried,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::fixture;

    fn job(frames: u64) -> Job {
        Job {
            weights: Bytes::from(format!("line\n{frames} weights")),
            frames,
            seconds: frames as f64 / 3.0,
            updates_tried: 2 * frames,
        }
    }

    fn owing(marks: &[u64]) -> (tempfile::TempDir, OwedEvaluations) {
        let folder = tempfile::tempdir().expect("a folder");
        let (owed, jobs) = OwedEvaluations::open(folder.path(), 0, &[]).expect("empty");
        assert_eq!(jobs, []);
        for &mark in marks {
            owed.owe(&job(mark)).expect("room");
        }
        (folder, owed)
    }

    fn open(folder: &Path, frames: u64, records: &[Record]) -> Vec<Job> {
        OwedEvaluations::open(folder, frames, records)
            .expect("readable")
            .1
    }

    #[test]
    fn owed_evaluations_are_read_back_whole_and_in_order() {
        let (folder, owed) = owing(&[300, 100, 200]);
        let jobs = [100, 200, 300].map(job);
        assert_eq!(open(folder.path(), 1000, &[]), jobs);
        assert_eq!(
            open(folder.path(), 1000, &[]),
            jobs,
            "until they are settled"
        );
        owed.settle(200).expect("removed");
        owed.settle(200).expect("it was not owed any more");
        assert_eq!(open(folder.path(), 1000, &[]), [job(100), job(300)]);
    }

    #[test]
    fn marks_that_are_recorded_or_lie_ahead_are_not_owed() {
        let (folder, _) = owing(&[100, 200, 300]);
        let records = [fixture::eval(100, 0.5), fixture::train(200, 500, 0.5)];
        assert_eq!(open(folder.path(), 250, &records), [job(200)]);
        assert_eq!(
            open(folder.path(), 1000, &[]),
            [job(200)],
            "the others are removed"
        );
    }

    #[test]
    fn damaged_weights_are_not_evaluated() {
        let (folder, owed) = owing(&[100, 200, 300]);
        let path = |mark| owed.path(mark);
        let mut bytes = fs::read(path(100)).expect("a file");
        *bytes.last_mut().expect("not empty") ^= 1;
        fs::write(path(100), &bytes).expect("written");
        fs::write(path(200), "no header").expect("written");
        assert_eq!(open(folder.path(), 1000, &[]), [job(300)]);
        assert!(!path(100).exists() && !path(200).exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let (folder, owed) = owing(&[]);
        fs::write(folder.path().join(FOLDER), "a file in its place").expect("written");
        let error = owed.owe(&job(1)).expect_err("no folder");
        assert!(error.to_string().contains(FOLDER), "{error}");
    }
}
