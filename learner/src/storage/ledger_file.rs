//! `ledger.jsonl`: the frame accounting of a run, one line per session.
//!
//! ```text
//!   received = refused + admitted        admitted = trained + dropped, by reason + still on its way
//! ```
//!
//! A session's line is written once none of its frames are on their way any more. Frames that a killed learner had
//! trained on after its last checkpoint get a line of their own when the run resumes.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::storage::files;

/// The file that holds it.
const TRAINED: &str = "trained-frames";

/// Digits of the count that is written over and over in the same place.
const DIGITS: usize = 20;

/// One line of `ledger.jsonl`. Numbers are frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Entry {
    /// A session, after its end.
    Session {
        /// Its id, in hexadecimal.
        session: String,
        /// What the actor calls itself.
        actor: String,
        /// What arrived.
        received: u64,
        /// What of it was not let in.
        refused: u64,
        /// What of it was put into the queue.
        admitted: u64,
        /// What of that was trained on.
        trained: u64,
        /// What of it was not, by reason.
        dropped: BTreeMap<String, u64>,
    },
    /// What was trained, was in no checkpoint when the learner died, and so is trained anew.
    RolledBack {
        /// How much.
        frames: u64,
        /// Frames of the run when it died.
        trained: u64,
        /// Frames of the checkpoint that the run goes on from.
        checkpoint: u64,
    },
}

/// `ledger.jsonl` of a run's folder, and beside it `trained-frames`: how many frames the run was trained on, up to
/// the last batch before whatever happens.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    lines: File,
    trained: File,
}

impl LedgerFile {
    /// Opens those of a run in `folder` that goes on from `checkpoint` frames, and books what was trained beyond
    /// them. Returns it with that number of frames.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub(crate) fn open(folder: &Path, checkpoint: u64) -> io::Result<(Self, u64)> {
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

    /// Cuts off what stands after the last whole line, as when the power failed: what followed it could not be read.
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
                "ledger.jsonl ended in a torn line"
            );
            self.lines.set_len(whole as u64)?;
        }
        Ok(())
    }

    /// Writes how many frames the run was trained on. Not forced to the disk: a killed process loses nothing of
    /// it, and whoever loses the machine's power loses a count.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub(crate) fn mark(&mut self, frames: u64) -> io::Result<()> {
        let text = format!("{frames:0DIGITS$}");
        self.trained.write_all_at(text.as_bytes(), 0)
    }

    /// Adds a line.
    ///
    /// # Errors
    ///
    /// When the file system refuses; nothing of the line stays then.
    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        files::append_whole(&mut self.lines, &line)
    }
}

/// How many frames the run in `folder` was trained on, whether or not a checkpoint has them; 0 before it begins.
///
/// # Errors
///
/// When the file system refuses.
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
    fn what_a_killed_learner_had_trained_is_booked_when_the_run_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut file, rolled_back) = LedgerFile::open(folder.path(), 0).expect("new");
        assert_eq!(rolled_back, 0);
        file.mark(100).expect("room");
        file.mark(1_000).expect("room");
        drop(file);
        let (mut file, rolled_back) = LedgerFile::open(folder.path(), 600).expect("there");
        assert_eq!(rolled_back, 400);
        let expected = Entry::RolledBack {
            frames: 400,
            trained: 1_000,
            checkpoint: 600,
        };
        assert_eq!(lines(folder.path()), [expected]);
        // Booked once; and an end in order leaves nothing to book.
        file.mark(700).expect("room");
        drop(file);
        let (_, rolled_back) = LedgerFile::open(folder.path(), 700).expect("there");
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
        let (mut file, _) = LedgerFile::open(folder.path(), 0).expect("opened");
        file.append(&entry).expect("written");
        let whole = fs::read_to_string(&path).expect("a ledger");
        // As when the power failed in the middle of a line.
        fs::write(&path, format!("{whole}{}", &whole[..whole.len() / 2])).expect("written");
        let (mut file, _) = LedgerFile::open(folder.path(), 0).expect("opened");
        file.append(&entry).expect("written");
        assert_eq!(
            fs::read_to_string(&path).expect("a ledger"),
            whole.repeat(2)
        );
    }
}
