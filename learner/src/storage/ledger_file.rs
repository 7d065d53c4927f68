//! `ledger.jsonl`: the frame accounting of a run, one line per session.
//!
//! ```text
//!   received = rejected + admitted        admitted = trained + dropped, by reason + in progress
//! ```
//!
//! A session's line is written once none of its frames are in progress. A killed learner may have trained on frames
//! after its last checkpoint. These frames get a line of their own when the run resumes.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use hrm_common::telemetry::names;
use serde::{Deserialize, Serialize};

use crate::storage::files;

/// Name of the file that holds the count of trained frames.
const TRAINED: &str = "trained-frames";

/// Digits of that count, which is overwritten in place.
const DIGITS: usize = 20;

/// One line of `ledger.jsonl`. Numbers are frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Entry {
    /// An ended session.
    Session {
        /// The session's identifier, in hexadecimal.
        session: String,
        /// The name that the actor gives itself.
        actor: String,
        /// Frames that arrived.
        received: u64,
        /// Rejected frames.
        refused: u64,
        /// Frames that entered the queue.
        admitted: u64,
        /// Admitted frames that were trained on.
        trained: u64,
        /// Admitted frames that were not trained on, by reason.
        dropped: BTreeMap<String, u64>,
    },
    /// Frames that were trained on but are in no checkpoint, because the learner died. The run trains them again.
    RolledBack {
        /// Number of frames rolled back.
        frames: u64,
        /// Frames of the run when the learner died.
        trained: u64,
        /// Frames of the checkpoint from which the run resumes.
        checkpoint: u64,
    },
}

/// `ledger.jsonl` of a run's folder, and the file `trained-frames` beside it. The latter holds the number of frames
/// that the run was trained on, up to the last batch.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    lines: File,
    trained: File,
}

impl LedgerFile {
    /// Opens the files of a run in `folder` that resumes from `checkpoint` frames. Records, counts and logs the frames
    /// trained beyond the checkpoint as rolled back.
    ///
    /// # Errors
    ///
    /// Returns an error of the file system.
    pub(crate) fn open(folder: &Path, checkpoint: u64) -> io::Result<Self> {
        let (file, rolled_back) = Self::recover(folder, checkpoint)?;
        names::LEARNER_FRAMES_ROLLED_BACK
            .get()
            .increment(rolled_back);
        if rolled_back > 0 {
            tracing::warn!(
                frames = rolled_back,
                "rolled back: these frames were trained on after the last checkpoint, and are trained again"
            );
        }
        Ok(file)
    }

    /// Opens the files, and returns the number of rolled-back frames too.
    fn recover(folder: &Path, checkpoint: u64) -> io::Result<(Self, u64)> {
        let mut options = OpenOptions::new();
        let options = options.create(true).read(true);
        let mut this = Self {
            trained: options
                .clone()
                .write(true)
                .truncate(false)
                .open(folder.join(TRAINED))?,
            lines: options.append(true).open(folder.join("ledger.jsonl"))?,
        };
        this.drop_torn_line()?;
        let trained = trained_frames(folder)?;
        let frames = trained.saturating_sub(checkpoint);
        if frames > 0 {
            this.append(&Entry::RolledBack {
                frames,
                trained,
                checkpoint,
            })?;
        }
        this.mark(checkpoint)?;
        Ok((this, frames))
    }

    /// Removes an incomplete last line, for example after a power failure. Lines after it could not be read.
    fn drop_torn_line(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.lines.read_to_end(&mut text)?;
        let whole = text
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        if whole < text.len() {
            tracing::warn!(
                bytes = text.len() - whole,
                "ledger.jsonl ended with an incomplete line, which is removed"
            );
            self.lines.set_len(whole as u64)?;
        }
        Ok(())
    }

    /// Writes the number of frames that the run was trained on. It is not forced to the disk: a killed process loses
    /// nothing, and a power failure loses only this count.
    ///
    /// # Errors
    ///
    /// Returns an error of the file system.
    pub(crate) fn mark(&mut self, frames: u64) -> io::Result<()> {
        let text = format!("{frames:0DIGITS$}");
        self.trained.write_all_at(text.as_bytes(), 0)
    }

    /// Appends a line.
    ///
    /// # Errors
    ///
    /// Returns an error of the file system; the line is absent then.
    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        files::append_whole(&mut self.lines, &line)
    }
}

/// Returns the frames that the run in `folder` was trained on, with or without a checkpoint; 0 before it starts.
///
/// # Errors
///
/// Returns an error of the file system.
pub(crate) fn trained_frames(folder: &Path) -> io::Result<u64> {
    match fs::read_to_string(folder.join(TRAINED)) {
        Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(folder: &Path) -> Vec<Entry> {
        let text = fs::read_to_string(folder.join("ledger.jsonl")).expect("a ledger");
        let entry = |line| serde_json::from_str(line).expect("an entry");
        text.lines().map(entry).collect()
    }

    #[test]
    fn frames_of_a_killed_learner_are_recorded_as_rolled_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut file, rolled_back) = LedgerFile::recover(folder.path(), 0).expect("new");
        assert_eq!(rolled_back, 0);
        file.mark(100).expect("room");
        file.mark(1_000).expect("room");
        drop(file);
        let (mut file, rolled_back) = LedgerFile::recover(folder.path(), 600).expect("there");
        assert_eq!(rolled_back, 400);
        let expected = Entry::RolledBack {
            frames: 400,
            trained: 1_000,
            checkpoint: 600,
        };
        assert_eq!(lines(folder.path()), [expected]);
        // Recorded once; an orderly end leaves nothing to record.
        file.mark(700).expect("room");
        drop(file);
        let (_, rolled_back) = LedgerFile::recover(folder.path(), 700).expect("there");
        assert_eq!((rolled_back, lines(folder.path()).len()), (0, 1));
    }

    #[test]
    fn a_torn_line_is_cut_off_and_the_next_one_stays_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.jsonl");
        let entry = Entry::RolledBack {
            frames: 1,
            trained: 2,
            checkpoint: 1,
        };
        let (mut file, _) = LedgerFile::recover(folder.path(), 0).expect("opened");
        file.append(&entry).expect("written");
        let whole = fs::read_to_string(&path).expect("a ledger");
        // A power failure in the middle of a line.
        fs::write(&path, format!("{whole}{}", &whole[..whole.len() / 2])).expect("written");
        let (mut file, _) = LedgerFile::recover(folder.path(), 0).expect("opened");
        file.append(&entry).expect("written");
        assert_eq!(
            fs::read_to_string(&path).expect("a ledger"),
            whole.repeat(2)
        );
    }
}
