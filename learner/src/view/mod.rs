//! Shows runs and episodes to people.
//!
//! ```text
//!   plot   SVG pictures of runs, studies and analyses
//! ```

pub mod plot;
