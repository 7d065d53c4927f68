//! The mazes that the agent learns. They are seeded, do no I/O, and allocate nothing in a step or reset.
//!
//! The modules, in the order of the data's path:
//!
//! ```text
//! config        EnvConfig: the configuration of a maze, validated once
//!   grid        the size of an observation, and positions in it
//!   map         the tiles that never change: walls, doorways, neighbours
//!   rules       configuration, map and thresholds: the part that all episodes share
//!     rng       one small generator and one seed per environment
//!     search    breadth-first search: start and goal, fixed walls, oracle
//!     doors     the moving doors: joint or independent redraw
//!     episode   reset and step, on tokens that the caller keeps
//!   maze        one Episode with its own tokens: evaluation, oracle, rendering
//!   vec_env     N Episodes over one [N, S] buffer with auto-reset, for actors
//! curriculum    the distance limit from start to goal, run by the learner
//! render        tokens as rows of text
//! ```
//!
//! The observation **is** the state of the tiles: [`tile`]s, row by row. A move changes two bytes of it, and a door
//! change a few. Only a reset writes the whole observation. The mazes are those of HRM-Agent (arXiv 2510.22832): a
//! fixed four-rooms map and a random lattice. The doors of both open and close while the agent walks.
//!
//! | | four rooms | random maze |
//! |-|-|-|
//! | observation | 11 x 11, without the outer wall | (2 rows + 1) x (2 cols + 1), with the outer wall |
//! | doorways | 4 | rows (cols - 1) + (rows - 1) cols |
//! | fixed walls per episode | none | 10, as [`tile::WALL`] |
//! | tile of a closed moving door | [`tile::WALL`] | [`tile::CLOSED_DOOR`] |
//!
//! The reward of a step is +1 at the goal, where the flag is [`flag::TERMINATED`] and no door moves any more. It is
//! -0.01 for a move that changes nothing: into a wall, into a closed door, or out of the map. Otherwise it is 0. Then
//! the doors may change, and at `max_steps` the flag is [`flag::TRUNCATED`]. A door never closes on the agent or the
//! goal.

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
pub use rng::{env_seed, held_out_seed};
pub use vec_env::{FinishedEpisode, VecEnv};

/// The `u8` codes of tiles in an observation.
pub mod tile {
    /// Open floor, including open doorways.
    pub const FLOOR: u8 = 0;
    /// A wall of the map, a fixed wall of the episode, or, in four rooms, a closed door.
    pub const WALL: u8 = 1;
    /// A closed moving door of the random maze.
    pub const CLOSED_DOOR: u8 = 2;
    /// The agent. On the goal it hides the goal.
    pub const AGENT: u8 = 3;
    /// The goal.
    pub const GOAL: u8 = 4;
    /// A tile that the agent cannot see. Both mazes are fully observed and never show it. The code is reserved so that
    /// a partially observed maze needs no new embedding.
    pub const UNKNOWN: u8 = 5;
}

/// The number of tile codes.
pub const VOCABULARY: usize = 6;

/// The number of actions: 0 north, 1 east, 2 south, 3 west.
pub const ACTIONS: usize = 4;

/// The bits of a step's flags. At most one is set: reaching the goal on the last step is a termination.
pub mod flag {
    /// The agent reached the goal, and the value of the next state is 0.
    pub const TERMINATED: u8 = 1;
    /// The episode reached its step limit, and the learner bootstraps from the value of the final observation.
    pub const TRUNCATED: u8 = 2;
}
