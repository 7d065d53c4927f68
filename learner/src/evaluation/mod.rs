//! Evaluation: how good are the weights on held-out episodes?
//!
//! ```text
//!   evaluator   evaluates published weights on its own thread; owed keeps them until that is done
//!   evaluate    walks held-out episodes with a policy, the oracle or at random
//!   figures     success, lengths, path ratio; paired compares with the oracle episode by episode
//!   dump        writes every step of every episode; episodes writes one line per episode
//! ```

pub mod dump;
pub mod episodes;
pub mod evaluate;
pub(crate) mod evaluator;
pub mod figures;
pub mod owed;
pub(crate) mod paired;
