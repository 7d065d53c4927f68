//! What is made of files, and made anew when they have changed.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use hrm_common::config::FileError;

/// Makes it of the files as they are.
type Make<T> = Box<dyn Fn() -> Result<T, FileError> + Send + Sync>;

/// What changes with the content of a file; `None` where it has none.
type Stamp = Option<(SystemTime, u64, u64)>;

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
            state: Mutex::new(Made { stamps, value }),
        })
    }

    /// It, as the files have it now.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.lock();
        let stamps = stamps(&self.files);
        if stamps != state.stamps {
            state.stamps = stamps;
            match (self.make)() {
                Ok(value) => {
                    tracing::info!(what = self.what, "read again");
                    state.value = Arc::new(value);
                }
                Err(error) => {
                    tracing::warn!(what = self.what, %error, "what was read before stays good");
                }
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

fn stamp(path: &Path) -> io::Result<(SystemTime, u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.modified()?, metadata.len(), metadata.ino()))
}
