//! The learner: unrolls from many actors in, V-trace updates, new weights out.
//!
//! In the order of the data's path:
//!
//! ```text
//!   server      connections, TLS, tokens                      (listener, access)
//!   service     gRPC: handshake, uploads in, weights out        (tokio tasks)
//!     upload    one stream of unrolls: check, queue, acknowledge
//!     sessions  who is connected, and the fence around the dead
//!   queue       bounded; full = streams are not read
//!   batch       drops fenced and stale unrolls, stacks the rest (trainer thread from here on)
//!   recompute   forward over time on the learner's own weights
//!   vtrace      targets and advantages
//!   advantage   normalises advantages and applies the importance weights
//!   loss        policy gradient, value, entropy
//!   update      passes of minibatches over worker threads; optimizer, schedule
//!   trainer     the loop around it: publish, checkpoint, evaluate, report (training_clock)
//! ```
//!
//! beside it: `files`, `checkpoint`, `run_dir`, `evaluate`, `evaluator` (its thread) and `owed`, `cohorts`, `episodes`,
//! `paired`, `stats`, `gauges`, `progress`,
//! `metrics_log`, `ledger`, `plot`, `certs`; `run`, which boots and drains all of it; `conclude`, its end; `analyse`, which looks into a checkpoint
//! afterwards; and `study`, which makes many runs and holds them against each other. `device` finds the GPU for `run`.

pub mod access;
pub mod advantage;
pub mod analyse;
pub mod batch;
pub mod certs;
pub mod checkpoint;
pub mod cohorts;
mod conclude;
pub mod device;
pub mod episodes;
#[cfg(test)]
mod error_tests;
pub mod evaluate;
pub mod evaluator;
pub mod files;
mod gauges;
pub mod ledger;
pub mod listener;
pub mod loss;
pub mod metrics_log;
pub mod optimizer;
pub mod owed;
pub mod paired;
pub mod plot;
pub mod progress;
pub mod queue;
pub mod recompute;
pub mod reload;
pub mod run;
pub mod run_dir;
pub mod schedule;
pub mod server;
pub mod service;
pub mod sessions;
mod shared_library;
pub mod stats;
pub mod study;
pub mod tls;
pub mod trainer;
pub mod training_clock;
pub mod update;
pub mod upload;
pub mod vtrace;
