//! Shows how an agent crosses mazes, step by step.
//!
//! ```text
//!   a model and held-out mazes --recorder--+--choice--> recording --+--> player    a page for browsers
//!   a dump of `eval` ------------dumped----'                        |--> terminal  a player; text draws its frames
//!                                                                   |--> svg       an animated picture
//!                                                                   '--> gif       the same for documents without SVG
//!
//! While the episodes walk, `choice` keeps those worth a look, unless they were named.
//! ```
//!
//! Both pictures draw the shapes of `scene`.

mod choice;
pub(crate) mod dumped;
#[cfg(test)]
mod fixture;
mod gif;
pub(crate) mod player;
pub(crate) mod recorder;
pub(crate) mod recording;
mod scene;
mod svg;
pub(crate) mod terminal;
mod text;

pub(crate) use gif::gif;
pub(crate) use svg::svg;
