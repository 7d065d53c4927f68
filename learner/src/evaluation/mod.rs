//! Evaluation: measures weights on held-out episodes.
//!
//! ```text
//!   evaluator   evaluates published weights on its own thread; owed keeps them until the result is recorded
//!   evaluate    walks held-out episodes with a policy, the oracle or random actions
//!   walk        one batched decision per tick, until each of a group of episodes has ended
//!   control     numbers of segments that the model does not choose; doors finds the doors that moved
//!   figures     success, lengths, path ratio; paired compares with the oracle episode by episode
//!   dump        writes each step of each episode; episodes writes one line per episode
//! ```

pub(crate) mod control;
pub(crate) mod doors;
pub(crate) mod dump;
pub(crate) mod episodes;
pub mod evaluate;
pub(crate) mod evaluator;
pub mod figures;
pub mod owed;
pub(crate) mod paired;
pub(crate) mod walk;
