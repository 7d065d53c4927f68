//! One maze, stepped by hand: evaluation, the oracle, renderings.

use std::fmt;

use super::config::EnvConfig;
use super::episode::{Episode, EpisodeSummary, Step};
use super::grid::{Grid, Position, Tile};
use super::render::render;
use super::rng::Chance;
use super::rules::Rules;
use super::search::Search;
use super::{ACTIONS, token};
use crate::invalid_value::InvalidValue;

/// One environment: one episode after another out of one seed.
#[derive(Clone, Debug)]
pub struct Maze {
    pub(super) rules: Rules,
    pub(super) episode: Episode,
    search: Search,
    tokens: Vec<u8>,
}

impl Maze {
    /// A maze at the start of its first episode, which is a uniform one.
    ///
    /// # Errors
    /// When the configuration is impossible, see [`EnvConfig::validate`].
    pub fn new(config: &EnvConfig, seed: u64) -> Result<Self, InvalidValue> {
        let rules = Rules::new(config)?;
        let mut search = Search::default();
        let mut tokens = vec![token::UNKNOWN; rules.map.grid.len()];
        let episode = Episode::first(&rules, &mut search, &mut tokens, seed);
        Ok(Self {
            rules,
            episode,
            search,
            tokens,
        })
    }

    /// Draws the next episode from the maze's own generator. `Some(k)` is a curriculum: the shortest
    /// path from start to goal, fixed walls in place and moving doors open, has at most `k` steps
    /// (or `min_distance`, if that is more). `None` and `Some(0)` set no further limit.
    ///
    /// The start is uniform over the open tiles and the goal uniform over the tiles whose distance
    /// from it is admitted on the map before fixed walls; these then never lengthen the path past
    /// the limit. Without limits all ordered pairs are equally likely.
    pub fn reset(&mut self, max_distance: Option<u32>) {
        self.episode.reset(
            &self.rules,
            &mut self.search,
            &mut self.tokens,
            max_distance,
        );
    }

    /// One environment step. It does not reset: after an ended episode call [`Maze::reset`]; a
    /// further step is a bug of the caller and panics in builds with debug assertions.
    ///
    /// # Panics
    /// When the action is not below [`ACTIONS`].
    pub fn step(&mut self, action: u8) -> Step {
        self.episode.step(&self.rules, &mut self.tokens, action)
    }

    /// `[S]` tokens, row by row.
    pub fn observation(&self) -> &[u8] {
        &self.tokens
    }

    /// Where the episode began.
    pub fn start(&self) -> Position {
        self.grid().position(self.episode.start)
    }

    /// Where the agent is.
    pub fn agent(&self) -> Position {
        self.grid().position(self.episode.agent)
    }

    /// Where the goal is.
    pub fn goal(&self) -> Position {
        self.grid().position(self.episode.goal)
    }

    /// Steps of the shortest path from start to goal at reset, every moving door open.
    pub fn shortest_path(&self) -> u32 {
        self.summary().shortest_path
    }

    /// The first move of a shortest path from here to the goal with the doors as they are now; when
    /// they cut the agent off, as if they were all open. Of several such moves the first in the
    /// order of the actions. Searches anew at every call.
    pub fn oracle_action(&self) -> u8 {
        self.first_move(&self.tokens)
            .or_else(|| {
                let mut open = self.tokens.clone();
                for &door in &self.episode.doors.moving {
                    open[usize::from(door)] = token::FLOOR;
                }
                self.first_move(&open)
            })
            // Only on the goal itself, where every move is as good.
            .unwrap_or(0)
    }

    /// `[S]`: steps of a shortest path from each tile to the goal with the doors as they are now,
    /// `None` where there is no way. Searches anew at every call.
    pub fn distances(&self) -> Vec<Option<u32>> {
        let mut search = Search::default();
        let goal = self.episode.goal;
        search.flood(&self.rules.map, &self.tokens, goal, u16::MAX, None);
        (0..self.tokens.len() as Tile)
            .map(|tile| search.distance(tile).map(u32::from))
            .collect()
    }

    /// A copy of the episode as it stands whose doors stay as they are and whose steps never run
    /// out: for asking where a walker would go from here.
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

    /// The episode in figures, so far.
    pub fn summary(&self) -> EpisodeSummary {
        self.episode.summary()
    }

    /// What is played.
    pub fn config(&self) -> &EnvConfig {
        &self.rules.config
    }

    /// The size of the observation.
    pub fn grid(&self) -> Grid {
        self.rules.map.grid
    }
}

/// As [`render`] shows it.
impl fmt::Display for Maze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.tokens, self.grid()))
    }
}
