//! Values made of files, and made again by one poller when the files have changed.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use crate::config::FileError;
use tokio::{
    task::{self, JoinHandle},
    time::{self, MissedTickBehavior},
};

/// The interval at which the poller looks for changed files.
const INTERVAL: Duration = Duration::from_secs(1);

/// Makes it of the files as they are.
type Make<T> = Box<dyn Fn() -> Result<T, FileError> + Send + Sync>;

/// What changes with the content of a file; `None` where it has none.
type Stamp = Option<[i64; 6]>;

/// A value made of files. While the files cannot be used, as in the middle of a change, the last good value stays.
pub struct Reloaded<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Make<T>,
    value: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

/// The files as they were at the last look.
struct Seen {
    /// When the value was made.
    used: Vec<Stamp>,
    /// When they could not be used, and that was logged.
    unusable: Option<Vec<Stamp>>,
}

/// A value that can be brought up to date with its files.
pub trait Refresh: Send + Sync {
    /// Makes it again if its files have changed. Reads the file system, and may block.
    fn refresh(&self);
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of what is in them, nothing.
        f.debug_struct("Reloaded")
            .field("what", &self.what)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Reloaded<T> {
    /// Makes it of `files` for the first time; `what` is what the log calls it.
    ///
    /// # Errors
    ///
    /// Fails when `make` fails.
    pub fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        // The stamps first: what is written in between is then read again.
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

    /// The value as of the last refresh. Never touches the file system.
    pub fn get(&self) -> Arc<T> {
        // A panic while it was held cannot leave it half written.
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
                tracing::info!(what = self.what, "read again");
                *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
                *seen = Seen {
                    used: stamps,
                    unusable: None,
                };
            }
            // It is tried again each time, since not all that can be wrong with it shows in the stamps.
            Err(error) if seen.unusable.as_ref() != Some(&stamps) => {
                tracing::warn!(what = self.what, %error, "what was read before stays good");
                seen.unusable = Some(stamps);
            }
            Err(_) => {}
        }
    }
}

/// The task that refreshes all values of a process; it stops when dropped.
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
                // A file system that hangs holds up this task and nobody else.
                let looked = task::spawn_blocking(move || refresh_all(&polled)).await;
                if let Err(error) = looked {
                    tracing::error!(%error, "token and certificate files could not be looked at");
                }
            }
        });
        Self { values, task }
    }

    /// Refreshes now, for a caller that cannot wait for the next look.
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
    // The time of change is also that of the permissions.
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

    /// The number that a file holds.
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
    fn what_could_not_be_read_is_read_as_soon_as_it_can_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&path, "1").expect("a file");
        let value = number(&path);
        assert_eq!(now(&value), 1);
        // A link to a file of a folder that is not there yet: the same link throughout.
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&target, &path).expect("a link");
        assert_eq!(now(&value), 1);
        fs::write(&target, "x").expect("a file");
        assert_eq!([now(&value), now(&value)], [1, 1]);
        fs::write(&target, "2").expect("a file");
        assert_eq!(now(&value), 2);
    }

    #[test]
    fn a_failure_that_leaves_no_trace_on_the_file_is_no_reason_to_look_away() {
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
    fn a_value_does_not_look_at_its_files_by_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "1").expect("a file");
        let value = number(&path);
        fs::write(&path, "22").expect("a file");
        assert_eq!(*value.get(), 1);
        assert_eq!(now(&value), 22);
    }

    #[tokio::test(start_paused = true)]
    async fn the_poller_looks_again_and_again_until_it_is_dropped() {
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
        // Only the poller's task held it besides.
        while Arc::strong_count(&value) > 1 {
            task::yield_now().await;
        }
    }
}
