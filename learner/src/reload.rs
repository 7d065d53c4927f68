//! What is made of files, and made anew when they have changed.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hrm_common::config::FileError;

/// Makes it of the files as they are.
type Make<T> = Box<dyn Fn() -> Result<T, FileError> + Send + Sync>;

/// What changes with the content of a file; `None` where it has none.
type Stamp = Option<[i64; 6]>;

/// Something that is made of files. While what stands there cannot be used, as in the middle of a change, the
/// last that could stays good.
pub struct Reloaded<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Make<T>,
    state: Mutex<Made<T>>,
}

/// What was made, and of which files.
struct Made<T> {
    stamps: Vec<Stamp>,
    value: Arc<T>,
    /// Of files that could not be used, and of which that was said.
    unusable: Option<Vec<Stamp>>,
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
    /// When `make` fails.
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
            state: Mutex::new(Made {
                stamps,
                value,
                unusable: None,
            }),
        })
    }

    /// It, as the files have it now.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.lock();
        let stamps = stamps(&self.files);
        if stamps != state.stamps {
            match (self.make)() {
                Ok(value) => {
                    tracing::info!(what = self.what, "read again");
                    *state = Made {
                        stamps,
                        value: Arc::new(value),
                        unusable: None,
                    };
                }
                // It is tried again each time, since not all that can be wrong with it shows in the stamps.
                Err(error) if state.unusable.as_ref() != Some(&stamps) => {
                    tracing::warn!(what = self.what, %error, "what was read before stays good");
                    state.unusable = Some(stamps);
                }
                Err(_) => {}
            }
        }
        state.value.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Made<T>> {
        // A panic while it was held cannot leave it half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    #[test]
    fn what_could_not_be_read_is_read_as_soon_as_it_can_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&path, "1").expect("a file");
        let value = number(&path);
        assert_eq!(*value.get(), 1);
        // A link to a file of a folder that is not there yet: the same link throughout.
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&target, &path).expect("a link");
        assert_eq!(*value.get(), 1);
        fs::write(&target, "x").expect("a file");
        assert_eq!([*value.get(), *value.get()], [1, 1]);
        fs::write(&target, "2").expect("a file");
        assert_eq!(*value.get(), 2);
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
        assert_eq!(*value.get(), "1");
        descriptors.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(*value.get(), "two");
    }
}
