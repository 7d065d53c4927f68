//! The learner: receives unrolls from many actors, makes V-trace updates, and publishes new weights.
//!
//! Each step of the data's path has a folder, listed here in that order. Each folder's `mod.rs` opens with its flow.
//!
//! - [`transport`]: a socket becomes a call: connections, TLS, HTTP/2
//! - [`admission`]: a call becomes a checked unroll in a bounded queue
//! - [`training`]: unrolls become a batch, the batch becomes new weights
//! - [`evaluation`]: weights become figures on held-out episodes
//! - [`storage`]: the files of a run: checkpoints, metrics, ledger
//! - [`run`]: starts all of these, trains, and evaluates and closes the run at its end
//!
//! Four more folders use runs and their files: [`cli`] is the command line, [`study`] compares many runs, [`analyse`]
//! measures the decisions of a checkpoint, and [`view`] shows runs and episodes to people. Imports between folders go
//! one way only; `scripts/imports.py` holds the order and checks it.

pub mod admission;
pub mod analyse;
pub mod cli;
pub mod evaluation;
pub mod run;
pub mod storage;
pub mod study;
pub mod training;
pub mod transport;
pub mod view;
