//! The copy of a run's folder in an object store (`checkpoint.copy_to`). A run whose folder was lost resumes from it.
//!
//! ```text
//!   start      restore   a folder without run.json, and a copy with one ─▶ the files that are missing, run.json last
//!              begin     the number of this start ─▶ the copy's run.json, before anything is published
//!   training   update    after a checkpoint: new checkpoints, then the other files, then removals (in the background)
//!   end        finish    the same once more, awaited
//! ```
//!
//! `run.json` in the copy has the number of the newest start, so a restored run never publishes a version again. The
//! copy is as old as its last update: frames trained since then are trained again, and sessions that ended since then
//! have no line in the restored ledger.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, SystemTime},
};

use hrm_common::{
    checkpoint::frames_of,
    telemetry::names::{self, RunFile},
};
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreExt as _, RetryConfig, WriteMultipart,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    path::Path as Key,
};
use thiserror::Error;
use tokio::{runtime::Runtime, sync::Mutex};
use tokio_stream::StreamExt as _;

use crate::storage::{
    files,
    run_dir::{CHECKPOINTS, IDENTITY, Identity, OWED, RunDirError},
    summary::{EPISODES, REPLAY, SUMMARY},
    tensorboard,
};

/// Size from which a file is uploaded in parts, and the size of a part.
const PART: usize = 8 << 20;
/// Longest time of one request; a part over a slow link needs most of it.
const REQUEST: &str = "120 s";
/// Repetitions of a failed request, and the time after which there are no more.
const RETRY: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(10),
        base: 2.0,
    },
    max_retries: 5,
    retry_timeout: Duration::from_secs(60),
};

/// Errors of the copy.
#[derive(Debug, Error)]
pub(crate) enum CopyError {
    /// The store cannot be used as it is configured.
    #[error(
        "checkpoint.copy_to = \"{url}\": {reason}; the address, region and keys of the store are in the AWS_* \
         environment variables, see docs/resume.md"
    )]
    Store {
        /// The copy's URL.
        url: String,
        /// The store's message.
        reason: Box<object_store::Error>,
    },
    /// The copy belongs to another run.
    #[error(
        "checkpoint.copy_to = \"{url}\" holds the copy of run {copied}, and {folder} holds run {own}; name another prefix"
    )]
    AnotherRun {
        /// The copy's URL.
        url: String,
        /// The identifier of the copied run.
        copied: String,
        /// The run's folder.
        folder: PathBuf,
        /// The identifier of the run in the folder.
        own: String,
    },
    /// The copy holds a run, and `--resume` is not given.
    #[error(
        "checkpoint.copy_to = \"{0}\" already holds a run: add --resume to restore and continue it, or name another prefix"
    )]
    Taken(String),
    /// The copied identity is damaged.
    #[error(
        "{url}/run.json: {reason}; remove the copy, or name another prefix with checkpoint.copy_to"
    )]
    Identity {
        /// The copy's URL.
        url: String,
        /// The fault in the file.
        reason: serde_json::Error,
    },
    /// The folder's own identity cannot be read.
    #[error(transparent)]
    Folder(#[from] RunDirError),
    /// A file of the run's folder cannot be read or written.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's message.
        reason: io::Error,
    },
    /// The thread that copies ended early.
    #[error("the thread that copies to checkpoint.copy_to has ended")]
    Ended,
}

/// The copy of one run's folder.
#[derive(Debug)]
pub(crate) struct RunCopy {
    /// Runs the requests; `None` once dropped.
    runtime: Option<Runtime>,
    place: Arc<CopyPlace>,
    /// True while an update waits for the one before it.
    waiting: Arc<AtomicBool>,
}

impl RunCopy {
    /// Opens the store of `url`, which is `s3://BUCKET/PREFIX` or `file:///FOLDER`. Sends no request.
    ///
    /// # Errors
    ///
    /// Returns an error when the URL or the environment describes no store.
    pub(crate) fn open(url: &str) -> Result<Self, CopyError> {
        // The HTTP client takes the process's provider; an error means that there is one already.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let (store, prefix) = store(url).map_err(|reason| CopyError::Store {
            url: url.to_owned(),
            reason: Box::new(reason),
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("copy")
            .enable_all()
            .build()
            .map_err(|reason| CopyError::Io {
                path: url.into(),
                reason,
            })?;
        Ok(Self {
            runtime: Some(runtime),
            place: Arc::new(CopyPlace {
                url: url.to_owned(),
                store,
                prefix,
                uploaded: Mutex::default(),
            }),
            waiting: Arc::default(),
        })
    }

    /// Adds to a folder without `run.json` the files that only the copy has, if the copy holds a run. Otherwise takes
    /// over a greater number of starts from the copy, because a folder can be older than it.
    ///
    /// # Errors
    ///
    /// Returns an error when the copy holds a run but `resume` is false or the folder has another one, when the store
    /// or the folder's `run.json` cannot be read, or when the folder cannot be written.
    pub(crate) fn restore(&self, folder: &Path, resume: bool) -> Result<(), CopyError> {
        let (place, folder) = (self.place.clone(), folder.to_owned());
        self.wait(async move { place.restore(&folder, resume).await })
    }

    /// Writes the number of this start to the copy.
    ///
    /// # Errors
    ///
    /// Returns an error when the store cannot be written. The run must not publish anything then.
    pub(crate) fn begin(&self, folder: &Path) -> Result<(), CopyError> {
        let (place, folder) = (self.place.clone(), folder.to_owned());
        self.wait(async move { place.upload(&folder, Path::new(IDENTITY)).await })
    }

    /// Copies what changed in the folder, in the background. A failure is logged and counted, and the next update tries
    /// again.
    pub(crate) fn update(&self, folder: &Path) {
        let Some(runtime) = &self.runtime else { return };
        // The update that waits will copy this change too.
        if self.waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (place, waiting, folder) =
            (self.place.clone(), self.waiting.clone(), folder.to_owned());
        runtime.spawn(async move {
            if let Err(error) = place.update(&folder, || waiting.store(false, Ordering::Release)).await {
                names::LEARNER_WRITE_FAILURES.with(RunFile::Copy).increment(1);
                tracing::error!(%error, "the copy of the run is not up to date; training continues");
            }
        });
    }

    /// Copies what changed in the folder, and waits for it.
    ///
    /// # Errors
    ///
    /// Returns an error when the store cannot be written, or the folder cannot be read.
    pub(crate) fn finish(&self, folder: &Path) -> Result<(), CopyError> {
        let (place, folder) = (self.place.clone(), folder.to_owned());
        self.wait(async move { place.update(&folder, || ()).await })
    }

    /// Waits for a task of the copy's own runtime. The caller may be a thread of another runtime.
    fn wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, CopyError>> + Send + 'static,
    ) -> Result<T, CopyError> {
        let Some(runtime) = &self.runtime else {
            return Err(CopyError::Ended);
        };
        let (sender, result) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Only a caller that panicked receives nothing.
            let _ = sender.send(task.await);
        });
        result.recv().unwrap_or(Err(CopyError::Ended))
    }
}

impl Drop for RunCopy {
    fn drop(&mut self) {
        // A runtime may not be dropped by a thread of another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns the store of a URL, and the prefix of its keys.
fn store(url: &str) -> object_store::Result<(Box<dyn ObjectStore>, Key)> {
    if let Some(folder) = url.strip_prefix("file://") {
        let local = |reason: io::Error| object_store::Error::Generic {
            store: "folder",
            source: Box::new(reason),
        };
        fs::create_dir_all(folder).map_err(local)?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        return Ok((Box::new(store), Key::default()));
    }
    let rest = url.strip_prefix("s3://").unwrap_or(url);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST)
        .with_retry(RETRY)
        .build()?;
    Ok((Box::new(store), Key::parse(prefix)?))
}

/// The place of a copy, and what is there.
#[derive(Debug)]
struct CopyPlace {
    url: String,
    store: Box<dyn ObjectStore>,
    prefix: Key,
    /// Time and size of the files as this process uploaded them last. Locked during an update.
    uploaded: Mutex<HashMap<PathBuf, (SystemTime, u64)>>,
}

impl CopyPlace {
    fn fault(&self, reason: object_store::Error) -> CopyError {
        CopyError::Store {
            url: self.url.clone(),
            reason: Box::new(reason),
        }
    }

    /// Returns the key of a file with this path relative to the run's folder.
    fn key(&self, relative: &Path) -> Key {
        relative.iter().fold(self.prefix.clone(), |key, part| {
            key.join(&*part.to_string_lossy())
        })
    }

    /// Returns the content of a file, or `None` if it is not in the copy.
    async fn read(&self, key: &Key) -> Result<Option<Vec<u8>>, CopyError> {
        let got = match self.store.get(key).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(|reason| self.fault(reason))?,
        };
        let bytes = got.bytes().await.map_err(|reason| self.fault(reason))?;
        Ok(Some(bytes.into()))
    }

    /// Returns the keys in the copy by their paths relative to the run's folder.
    async fn keys(&self) -> Result<Vec<(PathBuf, Key)>, CopyError> {
        let mut listing = self.store.list(Some(&self.prefix));
        let mut keys = Vec::new();
        while let Some(object) = listing.next().await {
            let key = object.map_err(|reason| self.fault(reason))?.location;
            let relative: Option<PathBuf> = key
                .prefix_match(&self.prefix)
                .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect());
            keys.extend(relative.map(|relative| (relative, key)));
        }
        Ok(keys)
    }

    async fn restore(&self, folder: &Path, resume: bool) -> Result<(), CopyError> {
        let Some(bytes) = self.read(&self.key(Path::new(IDENTITY))).await? else {
            return Ok(());
        };
        let copied: Identity =
            serde_json::from_slice(&bytes).map_err(|reason| CopyError::Identity {
                url: self.url.clone(),
                reason,
            })?;
        let path = folder.join(IDENTITY);
        match Identity::read(folder)? {
            Some(own) if own.run_id != copied.run_id => Err(CopyError::AnotherRun {
                url: self.url.clone(),
                copied: copied.run_id,
                folder: folder.to_owned(),
                own: own.run_id,
            }),
            // A volume that was set back to an earlier state.
            Some(own) if own.restarts < copied.restarts => write(&path, &bytes),
            Some(_) => Ok(()),
            None if !resume => Err(CopyError::Taken(self.url.clone())),
            None => {
                let mut files = 0;
                for (relative, key) in self.keys().await? {
                    // What the folder has is as new as the copy, or newer.
                    if is_copied(&relative)
                        && relative != Path::new(IDENTITY)
                        && !folder.join(&relative).exists()
                        && let Some(content) = self.read(&key).await?
                    {
                        write(&folder.join(&relative), &content)?;
                        files += 1;
                    }
                }
                // Last, so that an interrupted restoration is repeated.
                write(&path, &bytes)?;
                tracing::warn!(
                    url = self.url,
                    files,
                    run_dir = %folder.display(),
                    "the run's folder had no run.json, and is restored from its copy"
                );
                Ok(())
            }
        }
    }

    /// Copies what changed. Calls `begun` once no earlier update is under way.
    async fn update(&self, folder: &Path, begun: impl FnOnce()) -> Result<(), CopyError> {
        let mut uploaded = self.uploaded.lock().await;
        begun();
        let mut present = files_of(folder, Path::new(""))?;
        // Checkpoints first, the newest last: the ledger and the log may be newer than it, but never older.
        present.sort_by_key(|(relative, ..)| (!is_checkpoint(relative), relative.clone()));
        for (relative, time, size) in &present {
            if uploaded.get(relative) == Some(&(*time, *size)) {
                continue;
            }
            match self.upload(folder, relative).await {
                Ok(()) => {}
                // Removed since: an old checkpoint, or a settled evaluation.
                Err(CopyError::Io { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => return Err(error),
            }
            uploaded.insert(relative.clone(), (*time, *size));
            if is_checkpoint(relative)
                && let Some(frames) = frames_of(relative)
            {
                names::LEARNER_COPIED_FRAMES.get().set(frames as f64);
            }
        }
        let present: HashSet<&Path> = present
            .iter()
            .map(|(relative, ..)| relative.as_path())
            .collect();
        for (relative, key) in self.keys().await? {
            if is_removable(&relative) && !present.contains(&*relative) {
                match self.store.delete(&key).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(reason) => return Err(self.fault(reason)),
                }
                uploaded.remove(&relative);
            }
        }
        Ok(())
    }

    /// Uploads a file of the run's folder.
    async fn upload(&self, folder: &Path, relative: &Path) -> Result<(), CopyError> {
        let path = folder.join(relative);
        let fault = |reason| self.fault(reason);
        let io_fault = |reason| CopyError::Io {
            path: path.clone(),
            reason,
        };
        let key = self.key(relative);
        let mut file = fs::File::open(&path).map_err(io_fault)?;
        let mut part = Vec::new();
        let mut next = |part: &mut Vec<u8>| {
            part.clear();
            file.by_ref()
                .take(PART as u64)
                .read_to_end(part)
                .map_err(io_fault)
        };
        if next(&mut part)? < PART {
            self.store.put(&key, part.into()).await.map_err(fault)?;
            return Ok(());
        }
        let upload = self.store.put_multipart(&key).await.map_err(fault)?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        while !part.is_empty() {
            writer.wait_for_capacity(1).await.map_err(fault)?;
            writer.write(&part);
            next(&mut part)?;
        }
        writer.finish().await.map_err(fault)?;
        Ok(())
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CopyError> {
    let fault = |reason| CopyError::Io {
        path: path.to_owned(),
        reason,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(fault)?;
    }
    files::write(path, bytes).map_err(fault)
}

/// True for the name of a checkpoint.
fn is_checkpoint(relative: &Path) -> bool {
    relative.parent() == Some(Path::new(CHECKPOINTS)) && frames_of(relative).is_some()
}

/// True for a file that a run removes itself when it is out of date. The prefix may hold other files.
fn is_removable(relative: &Path) -> bool {
    let name = relative.file_name().map(OsStr::to_string_lossy);
    let (Some(folder), Some(name)) = (relative.parent(), name) else {
        return false;
    };
    let results = [SUMMARY, EPISODES, REPLAY];
    match folder.to_str() {
        Some("") => results.contains(&&*name) || tensorboard::is_event_file(&name),
        Some(CHECKPOINTS) => is_checkpoint(relative),
        Some(OWED) => true,
        _ => false,
    }
}

/// True for a file that is part of the copy: no lock, no temporary file, and no path out of the folder.
fn is_copied(relative: &Path) -> bool {
    relative.iter().count() > 0
        && relative
            .iter()
            .all(|part| part.to_str().is_some_and(|part| !part.starts_with('.')))
}

/// Returns the files under `folder/relative` that are part of the copy, with time and size.
fn files_of(folder: &Path, relative: &Path) -> Result<Vec<(PathBuf, SystemTime, u64)>, CopyError> {
    let path = folder.join(relative);
    let fault = |reason| CopyError::Io {
        path: path.clone(),
        reason,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&path).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        let relative = relative.join(entry.file_name());
        let metadata = match entry.metadata() {
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata.map_err(fault)?,
        };
        if !is_copied(&relative) {
            continue;
        }
        if metadata.is_dir() {
            found.extend(files_of(folder, &relative)?);
        } else if metadata.is_file() {
            found.push((
                relative,
                metadata.modified().map_err(fault)?,
                metadata.len(),
            ));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, content: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    fn identity(run_id: &str, restarts: u64) -> String {
        let identity = Identity {
            run_id: run_id.to_owned(),
            restarts,
        };
        serde_json::to_string(&identity).expect("JSON")
    }

    /// Returns the names of all files under a folder, sorted.
    fn names(folder: &Path) -> Vec<String> {
        let files = files_of(folder, Path::new("")).expect("a folder");
        let mut names: Vec<_> = files
            .iter()
            .map(|(name, ..)| name.display().to_string())
            .collect();
        names.sort();
        names
    }

    /// A run's folder, and a copy in another folder beside it.
    fn run_and_copy(parent: &Path) -> (PathBuf, PathBuf, RunCopy) {
        let (run, copied) = (parent.join("run"), parent.join("copy"));
        fs::create_dir(&run).expect("a folder");
        put(&run, IDENTITY, &identity("one", 0));
        let copy = RunCopy::open(&format!("file://{}", copied.display())).expect("a store");
        copy.restore(&run, false).expect("a new copy");
        copy.begin(&run).expect("room");
        (run, copied, copy)
    }

    #[test]
    fn the_number_of_the_start_is_in_the_copy_before_the_first_checkpoint() {
        let parent = tempfile::tempdir().expect("a folder");
        let (_run, copied, _copy) = run_and_copy(parent.path());
        assert_eq!(names(&copied), [IDENTITY]);
        let content = fs::read_to_string(copied.join(IDENTITY)).expect("a file");
        assert_eq!(content, identity("one", 0));
    }

    #[test]
    fn the_copy_follows_the_folder_and_restores_it() {
        let parent = tempfile::tempdir().expect("a folder");
        let (run, copied, copy) = run_and_copy(parent.path());
        let large = "x".repeat(2 * PART + 5);
        put(&run, "checkpoints/000000000100.safetensors", &large);
        put(&run, "checkpoints/.000000000200.safetensors.tmp", "half");
        put(&run, "owed-evaluations/100.weights", "weights");
        put(&run, ".lock", "");
        put(&run, "ledger.jsonl", "{}\n");
        put(&run, "events.out.tfevents.0000000000.hrm-learner", "events");
        put(&run, "summary.json", "{}");
        put(&copied, "other.txt", "not of this run");
        copy.finish(&run).expect("room");
        let checkpoint = "checkpoints/000000000100.safetensors";
        assert_eq!(
            names(&copied),
            [
                checkpoint,
                "events.out.tfevents.0000000000.hrm-learner",
                "ledger.jsonl",
                "other.txt",
                "owed-evaluations/100.weights",
                IDENTITY,
                "summary.json"
            ]
        );

        // Files that the run has removed leave the copy, and changed ones are copied again. Foreign files stay.
        fs::remove_dir_all(run.join("owed-evaluations")).expect("removed");
        for name in [
            checkpoint,
            "events.out.tfevents.0000000000.hrm-learner",
            "summary.json",
        ] {
            fs::remove_file(run.join(name)).expect("removed");
        }
        put(&run, "checkpoints/000000000200.safetensors", &large);
        put(&run, "ledger.jsonl", "{}\n{}\n");
        copy.finish(&run).expect("room");
        let later = [
            "checkpoints/000000000200.safetensors",
            "ledger.jsonl",
            "other.txt",
            IDENTITY,
        ];
        assert_eq!(names(&copied), later);

        fs::remove_dir_all(&run).expect("lost");
        fs::create_dir(&run).expect("an empty volume");
        let refused = copy.restore(&run, false).expect_err("it holds a run");
        assert!(refused.to_string().contains("--resume"), "{refused}");
        assert_eq!(names(&run), [""; 0]);
        copy.restore(&run, true).expect("room");
        assert_eq!(names(&run), later);
        let restored = fs::read_to_string(run.join(later[0])).expect("a file");
        assert!(restored == large, "{} bytes", restored.len());
    }

    #[test]
    fn a_folder_that_lost_only_its_identity_keeps_its_newer_files() {
        let parent = tempfile::tempdir().expect("a folder");
        let (run, _copied, copy) = run_and_copy(parent.path());
        put(&run, "ledger.jsonl", "{}\n");
        put(&run, "config.toml", "");
        copy.finish(&run).expect("room");
        put(&run, "ledger.jsonl", "{}\n{}\n");
        fs::remove_file(run.join("config.toml")).expect("removed");
        put(&run, IDENTITY, "damaged");
        let damaged = copy.restore(&run, true).expect_err("damaged").to_string();
        assert!(damaged.contains(IDENTITY), "{damaged}");
        fs::remove_file(run.join(IDENTITY)).expect("removed");
        copy.restore(&run, true).expect("room");
        assert_eq!(names(&run), ["config.toml", "ledger.jsonl", IDENTITY]);
        let ledger = fs::read_to_string(run.join("ledger.jsonl")).expect("a file");
        assert_eq!(ledger, "{}\n{}\n");
    }

    #[test]
    fn a_folder_set_back_takes_over_the_number_of_starts() {
        let parent = tempfile::tempdir().expect("a folder");
        let (run, _copied, copy) = run_and_copy(parent.path());
        put(&run, IDENTITY, &identity("one", 3));
        copy.begin(&run).expect("room");
        put(&run, IDENTITY, &identity("one", 1));
        copy.restore(&run, true).expect("the same run");
        let content = fs::read_to_string(run.join(IDENTITY)).expect("a file");
        assert_eq!(content, identity("one", 3));
    }

    #[test]
    fn the_copy_of_another_run_is_rejected() {
        let parent = tempfile::tempdir().expect("a folder");
        let (run, _copied, copy) = run_and_copy(parent.path());
        put(&run, IDENTITY, &identity("two", 0));
        let error = copy
            .restore(&run, true)
            .expect_err("another run")
            .to_string();
        assert!(
            error.contains("run one") && error.contains("run two"),
            "{error}"
        );
    }

    #[test]
    fn a_failed_update_is_tried_again() {
        let parent = tempfile::tempdir().expect("a folder");
        let (run, copied, copy) = run_and_copy(parent.path());
        put(&run, "checkpoints/000000000100.safetensors", "weights");
        // A file where a folder must be.
        put(&copied, "checkpoints", "in the way");
        copy.finish(&run).expect_err("no folder");
        fs::remove_file(copied.join("checkpoints")).expect("removed");
        copy.finish(&run).expect("room");
        assert_eq!(
            names(&copied),
            ["checkpoints/000000000100.safetensors", IDENTITY]
        );
    }

    #[test]
    fn a_store_that_cannot_be_used_is_named_with_a_remedy() {
        let parent = tempfile::tempdir().expect("a folder");
        put(parent.path(), "file", "");
        let url = format!("file://{}/file/copy", parent.path().display());
        let error = RunCopy::open(&url).expect_err("no folder").to_string();
        assert!(
            error.contains(&url) && error.contains("docs/resume.md"),
            "{error}"
        );
    }
}
