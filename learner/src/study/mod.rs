//! A study: trains several configurations over several seeds, and compares the results.
//!
//! ```text
//!   FILE.toml ──file──▶ arms x seeds ──plan──▶ runs, seed-major
//!                                               │ run    trains each one exactly as `train` does
//!                                               │ evaluations   evaluates its model with other segments
//!                                               ▼
//!   STUDY_DIR/runs/ARM/seed-N/  ──raw──▶  RESULTS/raw/ARM/seed-N/     once the run is complete
//!                                               │ curve, spread, ranks
//!                                               ▼ finished, measures
//!                                         RESULTS/{report.md, *.csv, *.svg}     report, pictures
//! ```
//!
//! The report is a function of the raw data and the study file only. Writing it again gives the same bytes.

pub(crate) mod curve;
pub(crate) mod evaluations;
pub mod file;
pub(crate) mod finished;
pub(crate) mod measures;
pub(crate) mod pictures;
pub mod plan;
pub(crate) mod ranks;
pub(crate) mod raw;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod spread;

#[cfg(test)]
pub(crate) mod fixture;
