//! One maze, for evaluation, the oracle and renderings.

use std::fmt;

use super::{
    ACTIONS,
    config::EnvConfig,
    episode::{Episode, EpisodeSummary, Step},
    grid::{Cell, Grid, Position},
    render::render,
    rng::Chance,
    rules::Rules,
    search::Search,
    tile,
};
use crate::invalid_value::InvalidValue;

/// One environment, whose episodes all follow from one seed.
#[derive(Debug, Clone)]
pub struct Maze {
    pub(super) rules: Rules,
    pub(super) episode: Episode,
    search: Search,
    tokens: Vec<u8>,
}

impl Maze {
    /// Returns a maze at the start of its first episode, a uniform one.
    ///
    /// # Errors
    ///
    /// Fails when the configuration is invalid, see [`EnvConfig::validate`].
    pub fn new(config: &EnvConfig, seed: u64) -> Result<Self, InvalidValue> {
        let rules = Rules::new(config)?;
        let mut search = Search::default();
        let mut tokens = vec![tile::UNKNOWN; rules.map.grid.len()];
        let episode = Episode::first(&rules, &mut search, &mut tokens, seed);
        Ok(Self {
            rules,
            episode,
            search,
            tokens,
        })
    }

    /// Draws the next episode from the maze's own generator. `Some(k)` is the limit of a curriculum. The shortest path
    /// with fixed walls and open doors then has at most `k` steps, or `min_distance` steps if that is more. `None` and
    /// `Some(0)` set no further limit.
    ///
    /// The start is uniform over the open tiles. The goal is uniform over the tiles at an allowed distance, measured
    /// without fixed walls. The fixed walls then keep the path within the limit. Without limits all ordered pairs are
    /// equally likely.
    pub fn reset(&mut self, max_distance: Option<u32>) {
        self.episode.reset(
            &self.rules,
            &mut self.search,
            &mut self.tokens,
            max_distance,
        );
    }

    /// Makes one step. Does not reset the episode: after its end, call [`Maze::reset`].
    ///
    /// # Panics
    ///
    /// Panics when the action is not below [`ACTIONS`], and, with debug assertions, after the end of the episode.
    pub fn step(&mut self, action: u8) -> Step {
        self.episode.step(&self.rules, &mut self.tokens, action)
    }

    /// The observation, u8 `[S]`, row by row.
    pub fn observation(&self) -> &[u8] {
        &self.tokens
    }

    /// The position of the start.
    pub fn start(&self) -> Position {
        self.grid().position(self.episode.start)
    }

    /// The position of the agent.
    pub fn agent(&self) -> Position {
        self.grid().position(self.episode.agent)
    }

    /// The position of the goal.
    pub fn goal(&self) -> Position {
        self.grid().position(self.episode.goal)
    }

    /// The shortest path from start to goal at reset with all moving doors open, in steps.
    pub fn shortest_path(&self) -> u32 {
        self.summary().shortest_path
    }

    /// Returns the first move of a shortest path from the agent to the goal with the current doors. If they cut the
    /// goal off, the doors count as open. Of several such moves it is the first in the order of the actions. Every call
    /// searches again.
    pub fn oracle_action(&self) -> u8 {
        self.first_move(&self.tokens)
            .or_else(|| {
                let mut open = self.tokens.clone();
                for &door in &self.episode.doors.moving {
                    open[usize::from(door)] = tile::FLOOR;
                }
                self.first_move(&open)
            })
            // Reached only on the goal, where all moves are equal.
            .unwrap_or(0)
    }

    /// Returns the shortest path from each tile to the goal with the current doors, `[S]`, in steps; `None` where no
    /// path exists. Every call searches again.
    pub fn distances(&self) -> Vec<Option<u32>> {
        let mut search = Search::default();
        let goal = self.episode.goal;
        search.flood(&self.rules.map, &self.tokens, goal, u16::MAX, None);
        (0..self.tokens.len() as Cell)
            .map(|cell| search.distance(cell).map(u32::from))
            .collect()
    }

    /// Returns a copy of the episode without door changes and step limit. It shows where an agent would go from here.
    pub fn still(&self) -> Self {
        let mut copy = self.clone();
        copy.rules.config.p_change = 0.0;
        copy.rules.config.max_steps = u32::MAX;
        copy.rules.change = Chance::new(0.0);
        copy
    }

    fn first_move(&self, tokens: &[u8]) -> Option<u8> {
        let agent = self.episode.agent;
        let map = &self.rules.map;
        let mut search = Search::default();
        search.flood(map, tokens, self.episode.goal, u16::MAX, Some(agent));
        let nearer = search.distance(agent)?.checked_sub(1)?;
        (0..ACTIONS as u8).find(|&action| {
            search
                .distance(map.neighbour(agent, action))
                .is_some_and(|distance| distance == nearer)
        })
    }

    /// The statistics of the episode so far.
    pub fn summary(&self) -> EpisodeSummary {
        self.episode.summary()
    }

    /// The configuration.
    pub fn config(&self) -> &EnvConfig {
        &self.rules.config
    }

    /// The size of the observation.
    pub fn grid(&self) -> Grid {
        self.rules.map.grid
    }
}

/// The text of [`render`].
impl fmt::Display for Maze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.tokens, self.grid()))
    }
}
