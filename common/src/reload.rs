//! Values that are read from files, and reloaded by one poller when the files change.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    task::{self, JoinHandle},
    time::{self, MissedTickBehavior},
};

use crate::config::FileError;

/// The interval at which the poller checks the files.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads the value from the files.
type Make<T> = Box<dyn Fn() -> Result<T, FileError> + Send + Sync>;

/// Metadata that changes with the content of a file; `None` if the file does not exist.
type Stamp = Option<[i64; 6]>;

/// A value that is read from files. While the files are unusable, for example during a change, the last valid value
/// stays in use.
pub struct Reloaded<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Make<T>,
    value: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

/// The state of the files at the last check.
struct Seen {
    /// The stamps of the value in use.
    used: Vec<Stamp>,
    /// The stamps of unusable files whose error is logged.
    unusable: Option<Vec<Stamp>>,
}

/// A value that can be reloaded from its files.
pub trait Refresh: Send + Sync {
    /// Reloads the value if its files have changed. Reads the file system, and may block.
    fn refresh(&self);
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value may be a secret.
        f.debug_struct("Reloaded")
            .field("what", &self.what)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Reloaded<T> {
    /// Reads the value from `files` for the first time. `what` is its name in the log.
    ///
    /// # Errors
    ///
    /// Fails when `make` fails.
    pub fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        // Takes the stamps first, so that a write in between causes a reload.
        let stamps = stamps(&files);
        let value = Arc::new(make()?);
        Ok(Self {
            what,
            files,
            make: Box::new(make),
            value: RwLock::new(value),
            seen: Mutex::new(Seen {
                used: stamps,
                unusable: None,
            }),
        })
    }

    /// Returns the value of the last refresh, without access to the file system.
    pub fn get(&self) -> Arc<T> {
        // A panic of a lock holder cannot leave the value half written.
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        value.clone()
    }
}

impl<T: Send + Sync> Refresh for Reloaded<T> {
    fn refresh(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        if stamps == seen.used {
            return;
        }
        match (self.make)() {
            Ok(made) => {
                tracing::info!(what = self.what, "reloaded");
                *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
                *seen = Seen {
                    used: stamps,
                    unusable: None,
                };
            }
            // Every refresh tries again, because not every problem shows in the stamps. The same one is logged once.
            Err(error) if seen.unusable.as_ref() != Some(&stamps) => {
                tracing::warn!(what = self.what, %error, "reload failed; the previous value stays in use");
                seen.unusable = Some(stamps);
            }
            Err(_) => {}
        }
    }
}

/// The task that refreshes all values of a process. It stops when dropped.
pub struct Poller {
    values: Arc<[Arc<dyn Refresh>]>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("values", &self.values.len())
            .finish_non_exhaustive()
    }
}

impl Poller {
    /// Refreshes `values` once a second from now on. Must be called within a tokio runtime.
    pub fn start(values: Vec<Arc<dyn Refresh>>) -> Self {
        let values: Arc<[_]> = values.into();
        let polled = values.clone();
        let task = tokio::spawn(async move {
            let mut interval = time::interval(INTERVAL);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                let polled = polled.clone();
                // A file system that hangs then delays this task only.
                let looked = task::spawn_blocking(move || refresh_all(&polled)).await;
                if let Err(error) = looked {
                    tracing::error!(%error, "cannot check token and certificate files");
                }
            }
        });
        Self { values, task }
    }

    /// Refreshes now, for a caller that cannot wait for the next check.
    pub fn refresh(&self) {
        refresh_all(&self.values);
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn refresh_all(values: &[Arc<dyn Refresh>]) {
    values.iter().for_each(|value| value.refresh());
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|path| stamp(path).ok()).collect()
}

fn stamp(path: &Path) -> io::Result<[i64; 6]> {
    let file = fs::metadata(path)?;
    // ctime also shows changed permissions.
    Ok([
        file.ino() as i64,
        file.size() as i64,
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a reloaded number, read from the file at `path`.
    fn number(path: &Path) -> Reloaded<u32> {
        let file = path.to_owned();
        let make = move || {
            let unusable = |reason: &dyn ToString| {
                FileError::new("a.key", &file, reason.to_string(), "write a number")
            };
            let text = fs::read_to_string(&file).map_err(|e| unusable(&e))?;
            text.trim().parse().map_err(|e| unusable(&e))
        };
        Reloaded::new("a number", vec![path.to_owned()], make).expect("a number")
    }

    fn now<T: Clone + Send + Sync>(value: &Reloaded<T>) -> T {
        value.refresh();
        T::clone(&value.get())
    }

    #[test]
    fn a_value_reloads_once_its_file_is_readable_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&path, "1").expect("a file");
        let value = number(&path);
        assert_eq!(now(&value), 1);
        // The link stays the same while its target appears and changes.
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&target, &path).expect("a link");
        assert_eq!(now(&value), 1);
        fs::write(&target, "x").expect("a file");
        assert_eq!([now(&value), now(&value)], [1, 1]);
        fs::write(&target, "2").expect("a file");
        assert_eq!(now(&value), 2);
    }

    #[test]
    fn a_failed_read_is_repeated_although_the_file_did_not_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "1").expect("a file");
        let descriptors = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let (file, left) = (path.clone(), descriptors.clone());
        let make = move || match left.load(std::sync::atomic::Ordering::Relaxed) {
            true => Ok(fs::read_to_string(&file).expect("there")),
            false => Err(FileError::new(
                "a.key",
                &file,
                "too many open files",
                "wait",
            )),
        };
        let value = Reloaded::new("a text", vec![path.clone()], make).expect("a text");
        fs::write(&path, "two").expect("a file");
        descriptors.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(now(&value), "1");
        descriptors.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(now(&value), "two");
    }

    #[test]
    fn a_value_does_not_read_its_files_without_a_refresh() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "1").expect("a file");
        let value = number(&path);
        fs::write(&path, "22").expect("a file");
        assert_eq!(*value.get(), 1);
        assert_eq!(now(&value), 22);
    }

    #[tokio::test(start_paused = true)]
    async fn the_poller_reloads_values_until_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "1").expect("a file");
        let value = Arc::new(number(&path));
        let poller = Poller::start(vec![value.clone()]);
        for next in ["22", "333"] {
            fs::write(&path, next).expect("a file");
            let seen = async {
                while value.get().to_string() != next {
                    time::sleep(INTERVAL).await;
                }
            };
            time::timeout(100 * INTERVAL, seen).await.expect("seen");
        }
        drop(poller);
        // The poller's task is the only other owner.
        while Arc::strong_count(&value) > 1 {
            task::yield_now().await;
        }
    }
}
