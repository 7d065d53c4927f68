//! `metrics.jsonl`: the progress of a run, one record per line, append-only.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use crate::storage::{
    files,
    records::{Record, Stamped},
};

/// The file, open for appending.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    file: File,
    followers: Vec<Follower>,
}

/// Receives each line when it is appended, on the thread that appends it.
pub(crate) struct Follower(pub(crate) Box<Follow>);

/// Receives a line.
pub(crate) type Follow = dyn FnMut(&Stamped<&Record>) + Send;

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Follower(..)")
    }
}

impl MetricsLog {
    /// Opens the log of a run at `frames`; creates it if missing. Removes records beyond `frames`, written after the
    /// checkpoint from which the run resumes: the run passes those frames again.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file, when the file system fails or a line other than the last is invalid.
    pub(crate) fn open(path: &Path, frames: u64) -> io::Result<Self> {
        let text = match text(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let kept: String = parse(&text, path)?
            .into_iter()
            .filter(|(_, line)| line.record.frames() <= frames)
            .flat_map(|(line, _)| [line, "\n"])
            .collect();
        if kept != text {
            files::write(path, &kept).map_err(files::naming(path))?;
        }
        let opened = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self {
            file: opened.map_err(files::naming(path))?,
            followers: Vec::new(),
        })
    }

    /// Passes each further line to `follower` too.
    pub(crate) fn follow(&mut self, follower: Follower) {
        self.followers.push(follower);
    }

    /// Appends a record in one write, so that a reader sees half of it only after a machine failure.
    ///
    /// # Errors
    ///
    /// Returns an error of the file system; the record is absent then.
    pub(crate) fn append(&mut self, record: &Record) -> io::Result<()> {
        let line = Stamped::new(record);
        // Even if the disk is full.
        for Follower(follow) in &mut self.followers {
            follow(&line);
        }
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        files::append_whole(&mut self.file, &line)
    }
}

/// Reads a log, also during a run.
///
/// # Errors
///
/// Returns an error that names the file, when it cannot be read or a line other than the last is not a record.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let lines = read_lines(path)?.into_iter();
    Ok(lines.map(|line| line.record).collect())
}

/// Reads a log with the times of its records.
///
/// # Errors
///
/// The same as of [`read`].
pub(crate) fn read_lines(path: &Path) -> io::Result<Vec<Stamped<Record>>> {
    let text = text(path)?;
    let lines = parse(&text, path)?.into_iter();
    Ok(lines.map(|(_, line)| line).collect())
}

/// Reads the text of a log. A last line that is being written may end within a character.
fn text(path: &Path) -> io::Result<String> {
    let bytes = fs::read(path).map_err(files::naming(path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the lines with what they say. An invalid last line is ignored: it was torn when the machine failed.
fn parse<'t>(text: &'t str, path: &Path) -> io::Result<Vec<(&'t str, Stamped<Record>)>> {
    let count = text.lines().count();
    let mut lines = Vec::with_capacity(count);
    for (i, line) in text.lines().enumerate() {
        match serde_json::from_str(line) {
            Ok(parsed) => lines.push((line, parsed)),
            Err(_) if i + 1 == count => {}
            Err(error) => {
                let message = format!("{}, line {}: {error}", path.display(), i + 1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::storage::fixture::train_record;
    use crate::storage::records::{EvalRecord, Evaluation, TrainRecord, WalkBy};

    fn train(frames: u64) -> Record {
        Record::Train(TrainRecord {
            updates_tried: frames / 128,
            version: frames / 128,
            episodes: 500,
            success: Some(0.1 + 0.2),
            episode_return: Some(0.5),
            policy_lag_mean: Some(1.5),
            segments: Some(1.25),
            updates_per_second: 7.8,
            loss_policy: -0.01,
            loss_value: 0.02,
            entropy: 1.2,
            grad_norm: 0.7,
            rho_clip: 0.25,
            c_clip: 0.25,
            learning_rate: 2e-3,
            curriculum_distance: 3,
            ..train_record(frames)
        })
    }

    fn eval(frames: u64) -> Record {
        Record::Eval(EvalRecord {
            frames,
            seconds: 1.0,
            updates_tried: 8,
            evaluation: Evaluation {
                policy: WalkBy::Greedy,
                seed: Some(1),
                episodes: 200,
                success: 0.95,
                success_ci95: [0.91, 0.97],
                path_ratio: Some(1.4),
                mean_length: 14.5,
                mean_return: 0.93,
                versus_oracle: None,
                segments: Some(2.5),
            },
        })
    }

    /// Writes and closes a log with these records.
    fn log(records: &[Record]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).expect("a new log");
        records
            .iter()
            .for_each(|record| log.append(record).expect("appended"));
        (folder, path)
    }

    #[test]
    fn appended_records_are_read_back() {
        let records = [train(100), eval(100), train(200)];
        let (_folder, path) = log(&records);
        assert_eq!(read(&path).expect("readable"), records);
    }

    #[test]
    fn the_kind_is_the_first_field_and_success_is_never_nan() {
        let Record::Train(mut record) = train(1) else {
            unreachable!()
        };
        (record.grad_norm, record.success) = (f64::INFINITY, Some(f64::NAN));
        let (_folder, path) = log(&[Record::Train(record)]);
        let text = fs::read_to_string(&path).expect("readable");
        assert!(
            text.starts_with("{\"kind\":\"train\",\"frames\":1,"),
            "{text}"
        );
        let Some(Record::Train(record)) = read(&path).expect("readable").pop() else {
            panic!("{text}");
        };
        assert!(record.grad_norm.is_nan());
        assert_eq!((record.success, record.length), (None, None));
    }

    #[test]
    fn a_resumed_run_drops_the_records_after_its_checkpoint() {
        let (_folder, path) = log(&[train(100), eval(150), train(200), eval(200), train(300)]);
        let mut log = MetricsLog::open(&path, 200).expect("resumed");
        let before = [train(100), eval(150), train(200), eval(200)];
        assert_eq!(read(&path).expect("readable"), before);
        log.append(&train(250)).expect("appended");
        assert_eq!(read(&path).expect("readable")[4..], [train(250)]);
    }

    #[test]
    fn followers_receive_appended_records_with_their_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).expect("a new log");
        let (sender, received) = std::sync::mpsc::channel();
        log.append(&train(1)).expect("appended");
        for _ in 0..2 {
            let sender = sender.clone();
            log.follow(Follower(Box::new(move |&Stamped { record, time }| {
                let record = record.clone();
                let line = Stamped { record, time };
                sender.send(line).expect("someone listens");
            })));
        }
        log.append(&eval(2)).expect("appended");
        drop((log, sender));
        let written = read_lines(&path).expect("readable").pop().expect("a line");
        assert_eq!(written.record, eval(2));
        assert!(written.time.is_some_and(|time| time > 1.7e9), "{written:?}");
        assert_eq!(
            received.iter().collect::<Vec<_>>(),
            [written.clone(), written]
        );
    }

    #[test]
    fn a_run_that_begins_has_an_empty_log() {
        let (_folder, path) = log(&[train(100)]);
        MetricsLog::open(&path, 0).expect("begun");
        assert_eq!(read(&path).expect("readable"), []);
    }

    #[test]
    fn a_torn_last_line_is_forgotten() {
        let (_folder, path) = log(&[train(100), train(200)]);
        let whole = fs::read_to_string(&path).expect("readable");
        for end in [
            whole.len() - 2,
            whole.len() - 10,
            whole.find('\n').expect("two lines") + 2,
        ] {
            // Also torn within a character.
            fs::write(&path, [&whole.as_bytes()[..end], b"\xc3"].concat()).expect("torn");
            assert_eq!(read(&path).expect("readable"), [train(100)]);
            fs::write(&path, &whole[..end]).expect("torn");
            assert_eq!(read(&path).expect("readable"), [train(100)]);
            let mut log = MetricsLog::open(&path, 1000).expect("resumed");
            log.append(&train(300)).expect("appended");
            assert_eq!(read(&path).expect("readable"), [train(100), train(300)]);
        }
    }

    #[test]
    fn a_last_line_that_only_lost_its_end_of_line_is_kept() {
        let (_folder, path) = log(&[train(100), train(200)]);
        let whole = fs::read_to_string(&path).expect("readable");
        fs::write(&path, whole.trim_end()).expect("torn");
        let mut log = MetricsLog::open(&path, 1000).expect("resumed");
        log.append(&train(300)).expect("appended");
        assert_eq!(
            read(&path).expect("readable"),
            [train(100), train(200), train(300)]
        );
    }

    #[test]
    fn damage_elsewhere_is_named() {
        let (_folder, path) = log(&[train(100), train(200)]);
        let whole = fs::read_to_string(&path).expect("readable");
        fs::write(&path, format!("oops\n{whole}")).expect("damaged");
        let error = MetricsLog::open(&path, 1000).expect_err("damaged");
        assert!(
            error.to_string().contains("metrics.jsonl, line 1"),
            "{error}"
        );
        let error = read(&path.with_extension("gone")).expect_err("no file");
        assert!(error.to_string().contains("metrics.gone: "), "{error}");
    }
}
