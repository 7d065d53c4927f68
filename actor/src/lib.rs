//! The actor: steps mazes with a local copy of the model and streams unrolls to the learner.
//!
//! In the order of the data's path:
//!
//! ```text
//!   session      join, supervise, reconnect                  (tokio task)
//!   connect      TCP, TLS, the token of every call           (tokio task)
//!   weight_sync  subscription -> newest verified weights     (tokio task)
//!   act          one batched forward, actions, the carry     (rollout thread)
//!   rollout      T ticks of N environments -> one unroll     (rollout thread)
//!   upload       unrolls -> client-streaming call            (tokio task)
//! ```
//!
//! The rollout thread and the tasks share two things: a watch that holds the newest weights, and a
//! channel of capacity 1 that holds the next unroll to send.

pub mod act;
pub mod connect;
pub mod rollout;
pub mod session;
mod upload;
mod weight_sync;
