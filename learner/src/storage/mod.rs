//! Storage: the files of a run.
//!
//! ```text
//!   run_dir             the folder, its lock and the run's identity
//!   run_copy            the copy of the folder in an object store, from which a lost folder is restored
//!   checkpoint_folder   saves checkpoints and keeps the newest few; hrm_common reads them
//!   metrics_log         metrics.jsonl: training and evaluation records
//!   tensorboard         the same records for TensorBoard
//!   summary             summary.json and episodes.csv: the result
//!   ledger_file         ledger.jsonl: one line per session
//!   files               atomic writes and whole appends, which all of them use
//! ```

pub mod checkpoint_folder;
pub(crate) mod files;
#[cfg(test)]
pub(crate) mod fixture;
pub mod ledger_file;
pub mod metrics_log;
pub mod records;
pub(crate) mod run_copy;
pub(crate) mod run_dir;
pub mod summary;
pub(crate) mod tensorboard;

#[cfg(test)]
mod checkpoint_tests;
