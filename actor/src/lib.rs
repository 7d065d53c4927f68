//! The actor: steps mazes with a local copy of the model and streams unrolls to the learner.
//!
//! In the order of the data's path:
//!
//! ```text
//!   run            sessions one after another, with backoff     (tokio task)
//!   session        starts and supervises the rest               (tokio task)
//!     connect        TCP, TLS, the token of every call
//!     join           the handshake: specification and model
//!     weight_sync    subscription -> newest verified weights    (tokio task)
//!     rollout_thread swaps weights, asks for unrolls            (thread)
//!     rollout        T ticks of N environments -> one unroll    (thread)
//!     upload         unrolls -> client-streaming call           (tokio task)
//! ```
//!
//! The rollout thread and the tasks share two things: a watch that holds the newest weights, and a channel of capacity 1
//! that holds the next unroll to send. [`options`] says how an actor reaches its learner, [`error`] why a session ended.

pub mod connect;
pub mod error;
mod join;
pub mod options;
pub mod rollout;
mod rollout_thread;
mod run;
mod session;
mod upload;
mod weight_sync;

pub use self::{error::SessionError, options::ActorOptions, run::run, session::Ending};
