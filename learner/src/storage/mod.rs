//! Storage: the files of a run.
//!
//! ```text
//!   run_dir       the folder, its lock and the run's identity
//!   checkpoint    weights, optimiser and state of the run; checkpoint_folder keeps the newest few
//!   metrics_log   metrics.jsonl: training and evaluation records
//!   summary       summary.json and episodes.csv: the result
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
