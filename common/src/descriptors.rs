//! File descriptors: the number of connections a process can hold and still open its files.

use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use crate::connections::Limits;

/// Descriptors reserved for checkpoints, logs and evaluations, and for the ports for metrics and health.
const RESERVE: usize = 64 + 2 * Limits::SIDE_PORT.most;

/// The file descriptors of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit, `ulimit -n`.
    pub limit: usize,
    /// The number of open descriptors.
    pub open: usize,
}

/// The error when no descriptors are left for connections.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "the limit of {} open files (ulimit -n) leaves none for connections: {} are open, and {kept} are reserved for \
     checkpoints, metrics, health and local actors\n  remedy: raise the limit to {} or more",
    .found.limit, .found.open, .found.open + kept + 1
)]
pub struct TooFew {
    found: Descriptors,
    kept: usize,
}

impl Descriptors {
    /// Raises the limit of this process as far as allowed, then counts its descriptors.
    ///
    /// # Errors
    ///
    /// Fails when the operating system does not list the open descriptors.
    pub fn from_process() -> io::Result<Self> {
        let found = getrlimit(Resource::Nofile);
        // If the limit cannot be raised, the current one counts.
        let raised = Rlimit {
            current: found.maximum,
            ..found
        };
        let limit = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => found.maximum,
            Err(_) => found.current,
        };
        Ok(Self {
            limit: limit.map_or(usize::MAX, |limit| limit as usize),
            open: fs::read_dir("/dev/fd")?.count(),
        })
    }

    /// Returns the limit of connections for a main port. `others` is the number of descriptors for other uses.
    ///
    /// # Errors
    ///
    /// [`TooFew`] when none are left.
    pub fn for_connections(self, others: usize) -> Result<usize, TooFew> {
        let kept = RESERVE + others;
        match self.limit.saturating_sub(self.open + kept) {
            0 => Err(TooFew { found: self, kept }),
            left => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_the_reserve_leaves() {
        let of = |limit| Descriptors { limit, open: 30 };
        assert_eq!(of(256).for_connections(4), Ok(256 - 30 - 4 - RESERVE));
        assert_eq!(
            of(usize::MAX).for_connections(0),
            Ok(usize::MAX - 30 - RESERVE)
        );
        let least = 30 + 4 + RESERVE + 1;
        assert_eq!(of(least).for_connections(4), Ok(1));
        let error = of(least - 1).for_connections(4).expect_err("none left");
        let remedy = format!("remedy: raise the limit to {least} or more");
        assert!(error.to_string().contains(&remedy), "{error}");
    }

    #[test]
    fn an_open_file_is_counted() {
        let before = Descriptors::from_process().expect("a count");
        assert!(before.limit > before.open && before.open >= 3);
        // More than other tests close meanwhile.
        let files: Vec<_> = (0..100)
            .map(|_| fs::File::open("/dev/null").expect("a file"))
            .collect();
        let after = Descriptors::from_process().expect("a count");
        assert!(after.open >= before.open + 50, "{before:?} {after:?}");
        drop(files);
    }
}
