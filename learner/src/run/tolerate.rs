//! Write failures that do not end training.

use std::fmt::Display;

use hrm_common::telemetry::names::{self, RunFile};

/// Logs and counts a file that cannot be written, for example on a full disk; training continues. Returns false then.
pub(crate) fn tolerate<E: Display>(file: RunFile, written: Result<(), E>) -> bool {
    if let Err(error) = &written {
        names::LEARNER_WRITE_FAILURES.with(file).increment(1);
        tracing::error!(%error, file = file.as_str(), "cannot be written; training continues");
    }
    written.is_ok()
}
