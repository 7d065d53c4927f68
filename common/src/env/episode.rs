//! The episodes of one environment: reset and step.
//!
//! The caller keeps the tokens, so that the same code serves one maze and N mazes in one buffer.

use serde::{Deserialize, Serialize};

use super::{
    doors::Doors,
    flag,
    grid::Cell,
    rng::Rng,
    rules::{Distances, Rules},
    search::{Search, passable},
    tile,
};

/// Reward for reaching the goal.
const GOAL_REWARD: f32 = 1.0;
/// Reward for a move that changes nothing.
const BLOCKED_REWARD: f32 = -0.01;

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// +1 at the goal, -0.01 for a move that changes nothing, 0 otherwise.
    pub reward: f32,
    /// Bits of [`flag`]; 0 while the episode continues.
    pub flags: u8,
}

/// The statistics of an episode, complete or so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpisodeSummary {
    /// Undiscounted sum of rewards.
    pub episode_return: f32,
    /// The number of steps.
    pub length: u32,
    /// The shortest path from start to goal at reset with all moving doors open, in steps.
    pub shortest_path: u32,
    /// True when the agent reached the goal.
    pub success: bool,
    /// The curriculum's distance limit for the episode, in steps; 0 for a uniform episode.
    pub curriculum_distance: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Episode {
    pub rng: Rng,
    pub start: Cell,
    pub agent: Cell,
    pub goal: Cell,
    pub doors: Doors,
    flags: u8,
    length: u32,
    episode_return: f32,
    shortest_path: u32,
    curriculum_distance: u32,
}

impl Episode {
    /// Returns the first episode of an environment, a uniform one.
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

    /// Draws the next episode and writes its first observation: start and goal, fixed walls, then doors.
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
        tokens[usize::from(self.goal)] = tile::GOAL;
        tokens[usize::from(self.agent)] = tile::AGENT;
        self.flags = 0;
        self.length = 0;
        self.episode_return = 0.0;
        self.curriculum_distance = max_distance.unwrap_or(0);
    }

    /// Draws the start uniformly from the open tiles, and the goal uniformly from the tiles at an allowed distance.
    /// Without limits every ordered pair is equally likely. Returns false if no tile has an allowed distance.
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

    /// Turns exactly `fixed_walls` doorways into walls and leaves the rest to the doors. Skips a doorway whose wall
    /// would cut the goal off or make its distance too long. Further walls cannot make such a doorway suitable, so each
    /// is tried once. Returns false if too few are suitable.
    ///
    /// Walls only lengthen paths, so the known shortest path stays valid until a wall is on it.
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
                tokens[usize::from(tile)] = tile::WALL;
                let harmless = !search.path().contains(&tile) || {
                    search.flood(&rules.map, tokens, start, distances.max, Some(goal));
                    search.trace(&rules.map, goal)
                };
                if harmless {
                    doorways.swap_remove(untried);
                    break;
                }
                tokens[usize::from(tile)] = tile::FLOOR;
            }
        }
        if rules.map.doorways.contains(&start) {
            doorways.push(start);
        }
        true
    }

    /// Makes one move, then perhaps a door change.
    #[inline]
    pub(super) fn step(&mut self, rules: &Rules, tokens: &mut [u8], action: u8) -> Step {
        debug_assert!(self.flags == 0, "stepped after the end of the episode");
        self.length += 1;
        let target = rules.map.neighbour(self.agent, action);
        // A move over the edge of the map leads to the agent's own cell, which shows the agent.
        let under = tokens[usize::from(target)];
        let reward = if under == tile::AGENT || !passable(under) {
            BLOCKED_REWARD
        } else {
            tokens[usize::from(self.agent)] = tile::FLOOR;
            tokens[usize::from(target)] = tile::AGENT;
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

    /// The curriculum's distance limit for the episode, in steps; 0 for a uniform episode.
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
