//! Write failures that do not end training.

use std::fmt::Display;

use hrm_common::telemetry::names::{self, RunFile};

/// The result of a write without which training can continue.
pub(crate) trait Tolerate {
    /// Logs and counts a file that cannot be written, for example on a full disk. Returns false then.
    fn tolerate(self, file: RunFile) -> bool;
}

impl<E: Display> Tolerate for Result<(), E> {
    fn tolerate(self, file: RunFile) -> bool {
        if let Err(error) = &self {
            names::LEARNER_WRITE_FAILURES.with(file).increment(1);
            tracing::error!(%error, file = file.as_str(), "cannot be written; training continues");
        }
        self.is_ok()
    }
}
