//! The actor: steps mazes with a local copy of the model and streams unrolls to the learner.
//!
//! Its modules, in the order of the data's path:
//!
//! ```text
//!   run            one session after another, with backoff      (tokio task)
//!   session        starts and supervises the rest               (tokio task)
//!     connect        TCP, TLS, the token for every call
//!     join           handshake: specification and model
//!     weight_sync    subscription -> newest verified weights    (tokio task)
//!     loaded_weights loads them once for all rollout threads
//!     rollout_thread takes over new weights, plays unrolls      (threads)
//!     rollout        T ticks of N environments -> one unroll    (threads)
//!     upload         unrolls -> client-streaming call           (tokio task)
//! ```
//!
//! The rollout threads and the tasks share a watch with the newest weights, and a channel of capacity 1 with the next
//! unroll to send. [`load`] replays recorded unrolls instead, to find out what a learner can admit. Start with [`run`]
//! and [`ActorOptions`]. [`connect`] holds a process's credentials, [`rollout`] the loop over ticks, and [`SessionError`]
//! the reasons why a session ends.

pub mod connect;
mod error;
mod join;
pub mod load;
mod loaded_weights;
mod options;
pub mod rollout;
mod rollout_thread;
mod run;
mod session;
mod upload;
mod weight_sync;

pub use self::{
    error::SessionError,
    options::ActorOptions,
    run::{run, run_with},
    session::Ending,
};
