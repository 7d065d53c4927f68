//! Training: updates against references, and runs that learn.

#![allow(
    clippy::print_stdout,
    reason = "measurements, for the person who runs it"
)]

mod corpora;
mod lag_zero;
mod learning;
mod paper;
mod update;
