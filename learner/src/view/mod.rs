//! Shows runs and episodes to people.
//!
//! ```text
//!   plot     SVG pictures of runs, studies and analyses
//!   replay   how an agent crosses mazes, step by step
//!   page     a run in a browser while it trains, with the newest episodes in the replay's player
//! ```

pub(crate) mod page;
pub mod plot;
pub mod replay;
