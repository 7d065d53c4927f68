//! Shows runs and episodes to people.
//!
//! ```text
//!   plot     SVG pictures of runs, studies and analyses
//!   replay   how an agent crosses mazes, step by step
//!   page     a run in a browser while it trains, with the newest episodes in the replay's player
//! ```
//!
//! Plot and replay name runs by their `short_names`.

pub(crate) mod page;
pub mod plot;
pub(crate) mod replay;
mod short_names;

pub(crate) use short_names::short_names;
