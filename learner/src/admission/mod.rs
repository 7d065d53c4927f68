//! Admission: takes unrolls from gRPC calls, checks them and queues them for training.
//!
//! ```text
//!   access     checks the token of each call
//!   service    answers Join, Upload, Subscribe and Status
//!     sessions   tracks connected actors, and fences the older session of an actor that joins again
//!       window     permits as many unrolls under way as keep the trainer busy; further actors wait
//!     upload     one stream of unrolls: check, queue, acknowledge
//!       queue    bounded; while it is full, no stream is read
//!     ledger     counts the fate of each session's frames
//! ```

pub mod access;
pub(crate) mod ledger;
pub mod queue;
pub mod service;
pub mod sessions;
pub mod upload;
pub mod window;
