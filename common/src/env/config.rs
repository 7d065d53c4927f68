//! The configuration of a maze: its kind, doors, walls and limits.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::grid::Grid;
use crate::invalid_value::InvalidValue;

/// Valid sides of the random lattice, in cells.
const LATTICE_SIDES: std::ops::RangeInclusive<usize> = 2..=32;

/// Start and goal can each occupy a doorway, which then has no door.
const DOORWAYS_OF_AGENT_AND_GOAL: usize = 2;

const FOUR_ROOMS_DOORWAYS: usize = 4;

/// Longest shortest path in four rooms with all doors open, in steps.
const FOUR_ROOMS_LONGEST: u32 = 20;

/// The kind of maze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MazeKind {
    /// One fixed map with four rooms and four doorways.
    FourRooms,
    /// A lattice of cells with a doorway between any two neighbours. Each episode draws which doorways are walls. The
    /// others have moving doors.
    RandomMaze,
}

/// The random process of the moving doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DoorProcess {
    /// With probability `p_change` per step, all doors are drawn again together, and exactly `doors` of them are
    /// closed. The authors' code does this.
    Joint,
    /// Each door is drawn again with probability `p_change` per step. It is closed with probability `doors` / (number
    /// of doors), so `doors` of them are closed on average.
    Independent,
}

impl MazeKind {
    const fn name(self) -> &'static str {
        match self {
            Self::FourRooms => "four-rooms",
            Self::RandomMaze => "random-maze",
        }
    }
}

impl DoorProcess {
    const fn name(self) -> &'static str {
        match self {
            Self::Joint => "joint",
            Self::Independent => "independent",
        }
    }
}

impl fmt::Display for MazeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for DoorProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The resolved configuration of a maze, without `auto`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvConfig {
    /// The kind of maze.
    pub maze: MazeKind,
    /// Probability of a door change after a step. With 0 the doors stay as drawn at reset. More than one closed door
    /// can then cut the goal off for a whole episode.
    pub p_change: f64,
    /// Number of closed moving doors: exact (joint) or on average (independent).
    pub doors: usize,
    /// Exact number of doorways that are walls for the episode; 0 in four rooms. They never cut the goal off.
    pub fixed_walls: usize,
    /// Steps after which an episode is truncated.
    pub max_steps: u32,
    /// Rows of cells of the random lattice, 2 to 32; four rooms ignores it.
    pub rows: usize,
    /// Columns of cells of the random lattice, 2 to 32; four rooms ignores it.
    pub cols: usize,
    /// Shortest allowed distance from start to goal, in steps with all moving doors open; 0 for no limit.
    pub min_distance: u32,
    /// Longest allowed distance, measured in the same way; 0 for no limit.
    pub max_distance: u32,
    /// The random process of the moving doors.
    pub door_process: DoorProcess,
}

impl EnvConfig {
    /// Returns four rooms as published, with one of four doors closed.
    pub fn four_rooms() -> Self {
        Self {
            maze: MazeKind::FourRooms,
            p_change: 0.05,
            doors: 1,
            fixed_walls: 0,
            max_steps: 80,
            rows: 5,
            cols: 6,
            min_distance: 0,
            max_distance: 0,
            door_process: DoorProcess::Joint,
        }
    }

    /// Returns the dynamic random maze as published: 5 x 6 cells, 10 fixed walls, 5 closed doors.
    pub fn random_maze() -> Self {
        Self {
            maze: MazeKind::RandomMaze,
            doors: 5,
            fixed_walls: 10,
            ..Self::four_rooms()
        }
    }

    /// Returns the size of an observation. The configuration must be valid.
    pub fn grid(&self) -> Grid {
        match self.maze {
            MazeKind::FourRooms => Grid {
                height: 11,
                width: 11,
            },
            MazeKind::RandomMaze => Grid {
                height: 2 * self.rows + 1,
                width: 2 * self.cols + 1,
            },
        }
    }

    /// Returns the longest possible distance from start to goal without fixed walls, in steps, limited by
    /// `max_distance`. A curriculum ends there. The configuration must be valid.
    pub(crate) fn longest_distance(&self) -> u32 {
        let open = match self.maze {
            MazeKind::FourRooms => FOUR_ROOMS_LONGEST,
            // From corner to opposite corner. Each step of the lattice takes two steps, a doorway and a cell.
            MazeKind::RandomMaze => 2 * (self.rows + self.cols).saturating_sub(2) as u32,
        };
        if self.max_distance == 0 {
            open
        } else {
            open.min(self.max_distance)
        }
    }

    fn doorways(&self) -> usize {
        match self.maze {
            MazeKind::FourRooms => FOUR_ROOMS_DOORWAYS,
            MazeKind::RandomMaze => self.rows * (self.cols - 1) + (self.rows - 1) * self.cols,
        }
    }

    /// Checks that every episode of this configuration can be drawn and played.
    ///
    /// # Errors
    ///
    /// The first invalid value, with the reason and a remedy.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        if !(0.0..=1.0).contains(&self.p_change) {
            return Err(InvalidValue::new(
                "env.p_change",
                self.p_change,
                "it must be a probability from 0 to 1",
                "set it to a number from 0 to 1; the published value is 0.05",
            ));
        }
        if self.max_steps == 0 {
            return Err(InvalidValue::new(
                "env.max_steps",
                0,
                "an episode has at least one step",
                "set it to 1 or more; the published value is 80",
            ));
        }
        self.validate_walls()?;
        self.validate_doors()?;
        self.validate_distances()
    }

    fn validate_walls(&self) -> Result<(), InvalidValue> {
        match self.maze {
            MazeKind::FourRooms if self.fixed_walls != 0 => Err(InvalidValue::new(
                "env.fixed_walls",
                self.fixed_walls,
                "four rooms has no fixed walls",
                "set it to 0, or env.maze to random-maze",
            )),
            MazeKind::FourRooms => Ok(()),
            MazeKind::RandomMaze => {
                for (key, side) in [("env.rows", self.rows), ("env.cols", self.cols)] {
                    if !LATTICE_SIDES.contains(&side) {
                        return Err(InvalidValue::new(
                            key,
                            side,
                            "it must be from 2 to 32",
                            "set it to 2 to 32; the published lattice has 5 rows and 6 cols",
                        ));
                    }
                }
                // A maze without any loop has this many. With more, parts of the lattice would be closed off, and
                // most draws would be wasted.
                let most = self.doorways() + 1 - self.rows * self.cols;
                if self.fixed_walls > most {
                    return Err(InvalidValue::new(
                        "env.fixed_walls",
                        self.fixed_walls,
                        "so many walls always cut off parts of the lattice",
                        format!("set it to at most {most} for this lattice"),
                    ));
                }
                Ok(())
            }
        }
    }

    fn validate_doors(&self) -> Result<(), InvalidValue> {
        let most = self
            .doorways()
            .saturating_sub(self.fixed_walls + DOORWAYS_OF_AGENT_AND_GOAL);
        if self.doors > most {
            return Err(InvalidValue::new(
                "env.doors",
                self.doors,
                "fewer doorways are free of fixed walls, agent and goal",
                format!("set it to at most {most} for this maze"),
            ));
        }
        Ok(())
    }

    fn validate_distances(&self) -> Result<(), InvalidValue> {
        if self.max_distance != 0 && self.min_distance > self.max_distance {
            return Err(InvalidValue::new(
                "env.min_distance",
                self.min_distance,
                "it is above env.max_distance",
                format!(
                    "set it to at most {}, or env.max_distance to 0 for no limit",
                    self.max_distance
                ),
            ));
        }
        let longest = self.longest_distance();
        if self.min_distance > longest {
            return Err(InvalidValue::new(
                "env.min_distance",
                self.min_distance,
                "no start and goal have this distance",
                format!("set it to at most {longest}, the longest distance in this maze"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{map::Map, search::Search};

    fn refused(change: impl FnOnce(&mut EnvConfig), base: EnvConfig) -> String {
        let mut config = base;
        change(&mut config);
        let key = config.validate().expect_err("must be refused").key;
        key.strip_prefix("env.").expect("the section").to_owned()
    }

    #[test]
    fn the_published_mazes_are_valid_and_have_the_published_sizes() {
        let four = EnvConfig::four_rooms();
        four.validate().expect("four rooms");
        assert_eq!(
            (four.grid().height, four.grid().width, four.grid().len()),
            (11, 11, 121)
        );
        let random = EnvConfig::random_maze();
        random.validate().expect("random maze");
        assert_eq!(
            (
                random.grid().height,
                random.grid().width,
                random.grid().len()
            ),
            (11, 13, 143)
        );
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let four = EnvConfig::four_rooms;
        let random = EnvConfig::random_maze;
        for p in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(|c| c.p_change = p, four()), "p_change");
        }
        assert_eq!(refused(|c| c.max_steps = 0, four()), "max_steps");
        assert_eq!(refused(|c| c.fixed_walls = 1, four()), "fixed_walls");
        assert_eq!(refused(|c| c.doors = 3, four()), "doors");
        assert_eq!(refused(|c| c.min_distance = 21, four()), "min_distance");
        assert_eq!(
            refused(|c| (c.min_distance, c.max_distance) = (5, 4), four()),
            "min_distance"
        );
        for side in [0, 1, 33, usize::MAX] {
            assert_eq!(refused(|c| c.rows = side, random()), "rows");
            assert_eq!(refused(|c| c.cols = side, random()), "cols");
        }
        assert_eq!(refused(|c| c.fixed_walls = 21, random()), "fixed_walls");
        assert_eq!(
            refused(|c| c.fixed_walls = usize::MAX, random()),
            "fixed_walls"
        );
        assert_eq!(refused(|c| c.doors = 38, random()), "doors");
        assert_eq!(refused(|c| c.min_distance = 19, random()), "min_distance");
    }

    #[test]
    fn the_last_possible_values_are_accepted() {
        let accepted = [
            EnvConfig {
                doors: 2,
                p_change: 1.0,
                max_steps: 1,
                ..EnvConfig::four_rooms()
            },
            EnvConfig {
                min_distance: 20,
                p_change: 0.0,
                ..EnvConfig::four_rooms()
            },
            EnvConfig {
                rows: 99,
                cols: 0,
                ..EnvConfig::four_rooms()
            },
            EnvConfig {
                fixed_walls: 20,
                doors: 27,
                ..EnvConfig::random_maze()
            },
            EnvConfig {
                doors: 37,
                min_distance: 18,
                max_distance: 18,
                ..EnvConfig::random_maze()
            },
            EnvConfig {
                rows: 2,
                cols: 2,
                fixed_walls: 1,
                doors: 1,
                ..EnvConfig::random_maze()
            },
            EnvConfig {
                rows: 32,
                cols: 32,
                ..EnvConfig::random_maze()
            },
        ];
        for config in accepted {
            config.validate().expect("possible");
        }
    }

    #[test]
    fn an_error_names_key_value_and_remedy() {
        let config = EnvConfig {
            doors: 38,
            ..EnvConfig::random_maze()
        };
        let text = config.validate().expect_err("refused").to_string();
        assert!(text.starts_with("invalid env.doors = 38: "), "{text}");
        assert!(
            text.ends_with("remedy: set it to at most 37 for this maze"),
            "{text}"
        );
    }

    #[test]
    fn longest_distance_and_doorways_agree_with_the_maps() {
        let lattices = [(2, 2), (2, 5), (5, 6), (4, 3), (7, 2)];
        let configs = lattices
            .map(|(rows, cols)| EnvConfig {
                rows,
                cols,
                ..EnvConfig::random_maze()
            })
            .into_iter()
            .chain([EnvConfig::four_rooms()]);
        for config in configs {
            let map = Map::new(&config);
            let mut search = Search::default();
            let longest = map
                .open
                .iter()
                .map(|&from| {
                    search.flood(&map, &map.tiles, from, u16::MAX, None);
                    search
                        .reached_from(0)
                        .iter()
                        .filter_map(|&tile| search.distance(tile))
                        .max()
                })
                .max()
                .flatten();
            assert_eq!(
                longest.map(u32::from),
                Some(config.longest_distance()),
                "{config:?}"
            );
            assert_eq!(map.doorways.len(), config.doorways());
        }
        let limited = EnvConfig {
            max_distance: 7,
            ..EnvConfig::four_rooms()
        };
        assert_eq!(limited.longest_distance(), 7);
    }

    #[test]
    fn names_are_the_same_in_text_and_in_serde() {
        for kind in [MazeKind::FourRooms, MazeKind::RandomMaze] {
            assert_eq!(serde_json::to_value(kind).expect("json"), kind.to_string());
        }
        for process in [DoorProcess::Joint, DoorProcess::Independent] {
            assert_eq!(
                serde_json::to_value(process).expect("json"),
                process.to_string()
            );
        }
    }

    #[test]
    fn serde_keeps_a_config_and_refuses_unknown_keys() {
        let config = EnvConfig {
            min_distance: 3,
            ..EnvConfig::random_maze()
        };
        let mut json = serde_json::to_value(&config).expect("json");
        assert_eq!(
            serde_json::from_value::<EnvConfig>(json.clone()).expect("config"),
            config
        );
        json["rooms"] = 4.into();
        assert!(serde_json::from_value::<EnvConfig>(json).is_err());
    }
}
