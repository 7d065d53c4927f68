//! Training: updates against references, and runs that learn.

#![allow(clippy::print_stdout, reason = "the measurements are the output")]

mod corpora;
mod golden;
mod greedy;
mod lag_zero;
mod learning;
mod models;
mod operations;
mod paper;
mod update;
