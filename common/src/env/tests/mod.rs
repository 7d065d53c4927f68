//! Tests of the mazes as a whole, through their public interface where possible. The expectations are computed in two
//! dimensions and by relaxation, not with the code under test.

mod doors;
mod draws;
mod ends;
mod laws;
mod seeds;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::map::Map;
use super::rng::Rng;
use super::*;

/// The changes of row and column for north, east, south and west.
const MOVES: [(isize, isize); ACTIONS] = [(-1, 0), (0, 1), (1, 0), (0, -1)];

fn maze(config: &EnvConfig, seed: u64) -> Maze {
    Maze::new(config, seed).expect("a valid config")
}

fn random_action(rng: &mut Rng) -> u8 {
    rng.below(ACTIONS) as u8
}

fn beside(at: Position, action: u8, grid: Grid) -> Option<Position> {
    let (rows, cols) = MOVES[usize::from(action)];
    let row = at
        .row
        .checked_add_signed(rows)
        .filter(|&row| row < grid.height)?;
    let col = at
        .col
        .checked_add_signed(cols)
        .filter(|&col| col < grid.width)?;
    Some(Position { row, col })
}

fn index(at: Position, grid: Grid) -> usize {
    at.row * grid.width + at.col
}

fn positions(grid: Grid) -> impl Iterator<Item = Position> {
    (0..grid.height).flat_map(move |row| (0..grid.width).map(move |col| Position { row, col }))
}

/// Returns the steps to `to` from every tile, by relaxation until nothing changes.
fn distances(tokens: &[u8], grid: Grid, to: Position) -> Vec<Option<u32>> {
    let mut steps = vec![None; tokens.len()];
    steps[index(to, grid)] = Some(0);
    loop {
        let mut changed = false;
        for at in positions(grid) {
            if matches!(tokens[index(at, grid)], tile::WALL | tile::CLOSED_DOOR) {
                continue;
            }
            let near = (0..ACTIONS as u8)
                .filter_map(|action| beside(at, action, grid))
                .filter_map(|next| steps[index(next, grid)])
                .min();
            if let Some(near) = near {
                let here: &mut Option<u32> = &mut steps[index(at, grid)];
                if here.is_none_or(|known| known > near + 1) {
                    *here = Some(near + 1);
                    changed = true;
                }
            }
        }
        if !changed {
            return steps;
        }
    }
}

/// Returns the doorways except fixed walls and the goal's, without using the maze's list.
fn moving_doors(maze: &Maze) -> BTreeSet<usize> {
    maze.episode
        .doors
        .moving
        .iter()
        .map(|&tile| usize::from(tile))
        .collect()
}

fn closed_doors(maze: &Maze) -> BTreeSet<usize> {
    moving_doors(maze)
        .into_iter()
        .filter(|&door| maze.observation()[door] == maze.rules.map.closed_door)
        .collect()
}

/// Returns the observation with all moving doors open.
fn opened(maze: &Maze) -> Vec<u8> {
    let mut tokens = maze.observation().to_vec();
    for door in closed_doors(maze) {
        tokens[door] = tile::FLOOR;
    }
    tokens
}

fn fixed_walls(maze: &Maze) -> BTreeSet<usize> {
    let moving = moving_doors(maze);
    let doorways = &maze.rules.map.doorways;
    doorways
        .iter()
        .map(|&tile| usize::from(tile))
        .filter(|door| !moving.contains(door) && maze.observation()[*door] == tile::WALL)
        .collect()
}

/// Generates valid configurations that are small enough for many episodes.
fn any_config() -> impl Strategy<Value = EnvConfig> {
    let lattice = (any::<bool>(), 2..6_usize, 2..7_usize);
    let doors = (any::<bool>(), 0.0..=1.0, 0.0..=1.0, 0.0..=1.0);
    let limits = (1..60_u32, 0.0..=1.0, 0.0..=1.0);
    (lattice, doors, limits).prop_map(
        |((four, rows, cols), (joint, p_change, walls, doors), (max_steps, near, far))| {
            let mut config = EnvConfig {
                p_change,
                max_steps,
                rows,
                cols,
                ..if four {
                    EnvConfig::four_rooms()
                } else {
                    EnvConfig::random_maze()
                }
            };
            let doorways = Map::new(&config).doorways.len();
            let share = |share: f64, of: usize| (share * of as f64).round() as usize;
            config.fixed_walls = if four {
                0
            } else {
                share(walls, doorways + 1 - rows * cols)
            };
            config.doors = share(doors, doorways.saturating_sub(config.fixed_walls + 2));
            config.door_process = if joint {
                DoorProcess::Joint
            } else {
                DoorProcess::Independent
            };
            let longest = config.longest_distance() as usize;
            config.min_distance = share(near * near, longest) as u32;
            config.max_distance = config.min_distance + share(far, longest) as u32;
            config
        },
    )
}

/// Checks the invariants of a maze at every tick.
fn assert_lawful(maze: &Maze, walls: &BTreeSet<usize>) {
    let (tokens, grid, config) = (maze.observation(), maze.grid(), maze.config());
    let map = &maze.rules.map;
    let (agent, goal) = (index(maze.agent(), grid), index(maze.goal(), grid));
    let moving = moving_doors(maze);
    let closed = closed_doors(maze);

    assert_eq!(tokens.len(), config.grid().len());
    assert_eq!(&fixed_walls(maze), walls, "the fixed walls changed");
    assert_eq!(walls.len(), config.fixed_walls);
    if config.door_process == DoorProcess::Joint {
        assert_eq!(closed.len(), config.doors);
    }
    for solid in walls.iter().chain(&closed) {
        assert!(
            ![agent, goal].contains(solid),
            "something stands in a wall or a closed door"
        );
    }
    let doors: BTreeSet<usize> = map.doorways.iter().map(|&tile| usize::from(tile)).collect();
    let movable = doors
        .into_iter()
        .filter(|door| *door != goal && !walls.contains(door))
        .collect();
    assert_eq!(
        moving, movable,
        "every other doorway has a door, but the goal's has not"
    );
    for (cell, &found) in tokens.iter().enumerate() {
        let expected = if cell == agent {
            tile::AGENT
        } else if cell == goal {
            tile::GOAL
        } else if walls.contains(&cell) {
            tile::WALL
        } else if closed.contains(&cell) {
            map.closed_door
        } else {
            map.tiles[cell]
        };
        assert_eq!(found, expected, "cell {cell} of\n{maze}");
    }
    assert_eq!(map.tiles[agent], tile::FLOOR);
    assert_eq!(map.tiles[goal], tile::FLOOR);
}

fn assert_lawful_start(maze: &Maze, curriculum: Option<u32>) {
    let config = maze.config();
    assert_lawful(maze, &fixed_walls(maze));
    assert_ne!(maze.start(), maze.goal());
    assert_eq!(maze.start(), maze.agent());
    let steps = distances(&opened(maze), maze.grid(), maze.goal());
    let shortest = steps[index(maze.start(), maze.grid())].expect("start and goal are connected");
    assert_eq!(maze.shortest_path(), shortest);
    let mut most = if config.max_distance == 0 {
        u32::MAX
    } else {
        config.max_distance
    };
    if let Some(limit @ 1..) = curriculum {
        most = most.min(limit.max(config.min_distance));
    }
    assert!(
        (config.min_distance..=most).contains(&shortest),
        "{shortest}, at most {most}"
    );
    let expected = EpisodeSummary {
        episode_return: 0.0,
        length: 0,
        shortest_path: shortest,
        success: false,
        curriculum_distance: curriculum.unwrap_or(0),
    };
    assert_eq!(maze.summary(), expected);
}

/// Makes a step and checks the result against the rules of the reference.
fn step_lawfully(maze: &mut Maze, action: u8) -> Step {
    let (before, walls, grid) = (maze.clone(), fixed_walls(maze), maze.grid());
    let step = maze.step(action);
    let free = |at: &Position| {
        matches!(
            before.observation()[index(*at, grid)],
            tile::FLOOR | tile::GOAL
        )
    };
    let target = beside(before.agent(), action, grid).filter(free);
    let arrived = target == Some(before.goal());
    let length = before.summary().length + 1;
    let flags = if arrived {
        flag::TERMINATED
    } else if length == before.config().max_steps {
        flag::TRUNCATED
    } else {
        0
    };
    let reward = match target {
        Some(_) if arrived => 1.0,
        Some(_) => 0.0,
        None => -0.01,
    };
    assert_eq!(step, Step { reward, flags });
    assert_eq!(maze.agent(), target.unwrap_or(before.agent()));
    assert_eq!((maze.start(), maze.goal()), (before.start(), before.goal()));
    let expected = EpisodeSummary {
        episode_return: before.summary().episode_return + reward,
        length,
        success: arrived,
        ..before.summary()
    };
    assert_eq!(maze.summary(), expected);
    if arrived || maze.config().p_change == 0.0 {
        assert_eq!(closed_doors(maze), closed_doors(&before), "a door moved");
    }
    assert_lawful(maze, &walls);
    step
}

/// Returns the allowed distance of a count from its expectation: five standard deviations of a sum of independent
/// draws.
#[derive(Default)]
struct Tally {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Tally {
    fn add(&mut self, happened: bool, p: f64) {
        self.count += f64::from(u8::from(happened));
        self.mean += p;
        self.variance += p * (1.0 - p);
    }

    fn assert_within_bounds(&self, what: &str) {
        let sigma = self.variance.sqrt();
        assert!(self.variance > 100.0, "{what}: too few draws to tell");
        assert!(
            (self.count - self.mean).abs() < 5.0 * sigma,
            "{what}: {} where {:.1} +- {sigma:.1} are expected",
            self.count,
            self.mean
        );
    }
}

/// Returns the final observation, `[S]`, of the episode that ended in environment `env` in the last step, if one did.
fn final_observation(envs: &VecEnv, env: usize) -> Option<&[u8]> {
    let mut ended = envs.final_observations();
    ended.find(|(of, _)| *of == env).map(|(_, last)| last)
}
