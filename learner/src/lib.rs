//! The learner: unrolls from many actors in, V-trace updates, new weights out.
//!
//! One folder per step, in the order of the data's path. Each opens with its own flow.
//!
//! ```text
//!   transport    a socket becomes a call: connections, TLS, HTTP/2
//!   admission    a call becomes a checked unroll in a bounded queue
//!   training     unrolls become a batch, the batch becomes new weights
//!   evaluation   weights become figures on held-out episodes
//!   storage      the files of a run: checkpoints, metrics, ledger
//!   run          starts all of these, trains, and brings the run to its end
//! ```
//!
//! Four more use a run or what it leaves: [`cli`], the command line; [`study`], many runs compared; [`analyse`], a look
//! into the decisions of a checkpoint; [`plot`], the pictures. Imports go downwards only: `scripts/imports.py` checks it.

pub mod admission;
pub mod analyse;
pub mod cli;
pub mod evaluation;
pub mod plot;
pub mod run;
pub mod storage;
pub mod study;
pub mod training;
pub mod transport;

#[cfg(test)]
mod error_tests;
