//! Storage: the files of a run.
//!
//! ```text
//!   run_dir       the folder, its lock and the run's identity
//!   checkpoint    weights, optimiser and state of the run
//!   metrics_log   metrics.jsonl: training and evaluation records
//!   ledger_file   ledger.jsonl: one line per session
//!   files         atomic writes and whole appends, which all of them use
//! ```

pub mod checkpoint;
pub mod checkpoint_folder;
pub mod files;
pub mod ledger_file;
pub mod metrics_log;
pub mod records;
pub mod run_dir;
pub mod summary;

#[cfg(test)]
mod checkpoint_tests;
