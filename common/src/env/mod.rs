//! The mazes that the agent learns: pure, seeded, no I/O, no allocation in a step or a reset.
//!
//! In the order in which one environment step meets them:
//!
//! ```text
//! config        EnvConfig: what is played, validated once
//!   grid        the size of an observation, and places in it
//!   map         the tiles that never change: walls, doorways, neighbours
//!   rules       config + map + thresholds: everything that outlives an episode
//!     rng       one small generator per environment, seeds per environment
//!     search    breadth-first search: start and goal, fixed walls, oracle
//!     doors     the moving doors: joint or independent redraw
//!     episode   reset and step, on tokens that live elsewhere
//!   maze        one Episode with its own tokens: evaluation, oracle, rendering
//!   vec_env     N Episodes over one [N, S] buffer, auto-reset: what an actor steps
//! curriculum    how far from the start a goal may lie, run by the learner
//! render        tokens as rows of text
//! ```
//!
//! The observation **is** the state of the tiles: [`token`]s, row by row. A move changes two bytes
//! of it, a door change a few; nothing is ever redrawn whole but at a reset. The mazes are those of
//! HRM-Agent (arXiv 2510.22832): a fixed four-rooms map and a random lattice, both with doors that
//! open and close while the agent walks.
//!
//! | | four rooms | random maze |
//! |-|-|-|
//! | observation | 11 x 11, without the outer wall | (2 rows + 1) x (2 cols + 1), with it |
//! | doorways | 4 | rows (cols - 1) + (rows - 1) cols |
//! | fixed walls an episode | none | 10, as [`token::WALL`] |
//! | a closed moving door is shown as | [`token::WALL`] | [`token::CLOSED_DOOR`] |
//!
//! The rules of a step: +1 and [`flag::TERMINATED`] on reaching the goal (no door moves any more);
//! -0.01 for a move that changes nothing, into a wall, a closed door or out of the map; 0 otherwise.
//! Then the doors may change, and at `max_steps` the episode is [`flag::TRUNCATED`]. A door never
//! closes on the agent or on the goal.

mod config;
mod curriculum;
mod doors;
mod episode;
mod grid;
mod map;
mod maze;
mod render;
mod rng;
mod rules;
mod search;
#[cfg(test)]
mod tests;
mod vec_env;

pub use config::{DoorProcess, EnvConfig, MazeKind};
pub use curriculum::{Curriculum, CurriculumConfig, CurriculumState, DistanceCurriculum};
pub use episode::{EpisodeSummary, Step};
pub use grid::{Grid, Position};
pub use maze::Maze;
pub use render::{glyph, render};
pub use rng::env_seed;
pub use vec_env::{Finished, VecEnv};

/// What an observed tile can be, as its `u8` code.
pub mod token {
    /// Open floor, an open doorway included.
    pub const FLOOR: u8 = 0;
    /// A wall: of the map, a fixed wall of the episode, in four rooms also a closed door.
    pub const WALL: u8 = 1;
    /// A closed moving door of the random maze.
    pub const CLOSED_DOOR: u8 = 2;
    /// The agent; it hides the goal when it stands there.
    pub const AGENT: u8 = 3;
    /// The goal.
    pub const GOAL: u8 = 4;
    /// A tile the agent cannot see. Both mazes are fully observed and never show it; it keeps a
    /// place in the vocabulary so that a partially observed maze needs no new embedding.
    pub const UNKNOWN: u8 = 5;
}

/// How many token codes there are.
pub const VOCABULARY: usize = 6;

/// How many actions there are: 0 north, 1 east, 2 south, 3 west.
pub const ACTIONS: usize = 4;

/// Bits of a step's flags. At most one is set: a goal reached on the last step is a termination.
pub mod flag {
    /// The goal was reached: the value of what follows is zero.
    pub const TERMINATED: u8 = 1;
    /// The steps ran out: the value of the final observation is to be bootstrapped.
    pub const TRUNCATED: u8 = 2;
}
