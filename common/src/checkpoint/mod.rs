//! Checkpoints: each is one safetensors file.
//!
//! ```text
//!   file     weights, optimiser and state of the run, encoded and read
//!   folder   `checkpoints/FRAMES.safetensors`: the newest valid one of a run
//!   error    what can be wrong with them
//! ```
//!
//! A file holds the model's tensors by name and the optimiser's two running means. Its metadata holds the configuration
//! and the run's state as JSON, and a checksum of everything. The checksum detects damage. The learner writes
//! checkpoints; every program that only acts can read them, without libtorch.

mod error;
mod file;
mod folder;
#[cfg(test)]
mod tests;

pub use error::CheckpointError;
pub use file::{Checkpoint, Moments, RunState, encode, seal};
pub use folder::{file_name, find, frames_of, list, newest};
