//! One episode after another of one environment: its state but for the tokens, which the caller
//! keeps, so that one maze and N of them in one buffer are the same code.

use serde::{Deserialize, Serialize};

use super::doors::Doors;
use super::grid::Tile;
use super::rng::Rng;
use super::rules::{Distances, Rules};
use super::search::{Search, passable};
use super::{flag, token};

/// Reward for reaching the goal.
const GOAL_REWARD: f32 = 1.0;
/// Reward for a move that changes nothing.
const BLOCKED_REWARD: f32 = -0.01;

/// What a step gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// +1 at the goal, -0.01 for a move that changes nothing, 0 otherwise.
    pub reward: f32,
    /// Bits of [`flag`]; 0 while the episode goes on.
    pub flags: u8,
}

/// An episode in figures: so far, or whole once it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpisodeSummary {
    /// Undiscounted sum of rewards.
    pub episode_return: f32,
    /// Steps.
    pub length: u32,
    /// Steps of the shortest path from start to goal at reset, every moving door open.
    pub shortest_path: u32,
    /// Whether the goal was reached.
    pub success: bool,
    /// The curriculum's distance limit that the episode was drawn under, 0 for a uniform one.
    pub curriculum_distance: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Episode {
    pub rng: Rng,
    pub start: Tile,
    pub agent: Tile,
    pub goal: Tile,
    pub doors: Doors,
    flags: u8,
    length: u32,
    episode_return: f32,
    shortest_path: u32,
    curriculum_distance: u32,
}

impl Episode {
    /// The first, uniform episode of an environment.
    pub(super) fn first(rules: &Rules, search: &mut Search, tokens: &mut [u8], seed: u64) -> Self {
        let mut episode = Self {
            rng: Rng::new(seed),
            start: 0,
            agent: 0,
            goal: 0,
            doors: Doors::default(),
            flags: 0,
            length: 0,
            episode_return: 0.0,
            shortest_path: 0,
            curriculum_distance: 0,
        };
        episode.reset(rules, search, tokens, None);
        episode
    }

    /// Draws the next episode and writes its first observation: start and goal, then the fixed
    /// walls, then the doors.
    pub(super) fn reset(
        &mut self,
        rules: &Rules,
        search: &mut Search,
        tokens: &mut [u8],
        max_distance: Option<u32>,
    ) {
        let distances = rules.distances(max_distance);
        loop {
            tokens.copy_from_slice(&rules.map.tiles);
            if self.draw_start_and_goal(rules, search, tokens, distances)
                && self.place_fixed_walls(rules, search, tokens, distances)
            {
                break;
            }
        }
        self.agent = self.start;
        self.shortest_path = search.path().len() as u32;
        self.doors.draw(rules, &mut self.rng, tokens, self.agent);
        tokens[usize::from(self.goal)] = token::GOAL;
        tokens[usize::from(self.agent)] = token::AGENT;
        self.flags = 0;
        self.length = 0;
        self.episode_return = 0.0;
        self.curriculum_distance = max_distance.unwrap_or(0);
    }

    /// The start uniformly from the open tiles, the goal uniformly from those whose distance from it
    /// is admitted: without limits every ordered pair is equally likely. False where no tile is.
    fn draw_start_and_goal(
        &mut self,
        rules: &Rules,
        search: &mut Search,
        tokens: &[u8],
        distances: Distances,
    ) -> bool {
        let open = &rules.map.open;
        self.start = open[self.rng.below(open.len())];
        search.flood(&rules.map, tokens, self.start, distances.max, None);
        let admitted = search.reached_from(distances.min);
        if admitted.is_empty() {
            return false;
        }
        self.goal = admitted[self.rng.below(admitted.len())];
        search.trace(&rules.map, self.goal)
    }

    /// Turns exactly `fixed_walls` doorways into walls and leaves the rest to the doors. A doorway
    /// without which the goal is cut off, or farther than admitted, is passed over; more walls make
    /// no such doorway spare again, so each is tried once. False when they do not suffice.
    ///
    /// Walls only lengthen paths, so the known shortest path stays one until a wall stands on it.
    fn place_fixed_walls(
        &mut self,
        rules: &Rules,
        search: &mut Search,
        tokens: &mut [u8],
        distances: Distances,
    ) -> bool {
        let (start, goal) = (self.start, self.goal);
        let doorways = &mut self.doors.moving;
        doorways.clear();
        doorways.extend(
            rules
                .map
                .doorways
                .iter()
                .filter(|&&tile| tile != start && tile != goal),
        );
        let mut untried = doorways.len();
        for _ in 0..rules.config.fixed_walls {
            loop {
                if untried == 0 {
                    return false;
                }
                let drawn = self.rng.below(untried);
                untried -= 1;
                doorways.swap(drawn, untried);
                let tile = doorways[untried];
                tokens[usize::from(tile)] = token::WALL;
                let harmless = !search.path().contains(&tile) || {
                    search.flood(&rules.map, tokens, start, distances.max, Some(goal));
                    search.trace(&rules.map, goal)
                };
                if harmless {
                    doorways.swap_remove(untried);
                    break;
                }
                tokens[usize::from(tile)] = token::FLOOR;
            }
        }
        if rules.map.doorways.contains(&start) {
            doorways.push(start);
        }
        true
    }

    /// One move, then perhaps a door change.
    #[inline]
    pub(super) fn step(&mut self, rules: &Rules, tokens: &mut [u8], action: u8) -> Step {
        debug_assert!(self.flags == 0, "stepped after the end of the episode");
        self.length += 1;
        let target = rules.map.neighbour(self.agent, action);
        // The edge of the map leads back to the agent's own tile, which its token gives away.
        let under = tokens[usize::from(target)];
        let reward = if under == token::AGENT || !passable(under) {
            BLOCKED_REWARD
        } else {
            tokens[usize::from(self.agent)] = token::FLOOR;
            tokens[usize::from(target)] = token::AGENT;
            self.agent = target;
            if target == self.goal {
                GOAL_REWARD
            } else {
                0.0
            }
        };
        self.episode_return += reward;
        if self.agent == self.goal {
            self.flags = flag::TERMINATED;
        } else {
            self.doors.tick(rules, &mut self.rng, tokens, self.agent);
            if self.length == rules.config.max_steps {
                self.flags = flag::TRUNCATED;
            }
        }
        Step {
            reward,
            flags: self.flags,
        }
    }

    /// The curriculum's distance limit that it was drawn under, 0 for a uniform one.
    pub(super) fn curriculum_distance(&self) -> u32 {
        self.curriculum_distance
    }

    pub(super) fn summary(&self) -> EpisodeSummary {
        EpisodeSummary {
            episode_return: self.episode_return,
            length: self.length,
            shortest_path: self.shortest_path,
            success: self.flags == flag::TERMINATED,
            curriculum_distance: self.curriculum_distance,
        }
    }
}
