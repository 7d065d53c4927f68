//! Shows runs and episodes to people.
//!
//! ```text
//!   plot     SVG pictures of runs, studies and analyses
//!   replay   how an agent crosses mazes, step by step
//! ```

pub mod plot;
pub mod replay;
