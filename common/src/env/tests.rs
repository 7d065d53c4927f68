//! What must hold of the mazes as a whole, seen from outside wherever that is possible: expectations
//! are worked out in two dimensions and by relaxation, not with the code under test.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::map::Map;
use super::rng::Rng;
use super::*;

/// Row and column change of north, east, south, west.
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

/// Steps to `to` from everywhere, by relaxing until nothing changes.
fn distances(tokens: &[u8], grid: Grid, to: Position) -> Vec<Option<u32>> {
    let mut steps = vec![None; tokens.len()];
    steps[index(to, grid)] = Some(0);
    loop {
        let mut changed = false;
        for at in positions(grid) {
            if matches!(tokens[index(at, grid)], token::WALL | token::CLOSED_DOOR) {
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

/// Doorways that are neither a fixed wall nor the goal's, told from the maze's own list.
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

/// The observation with every moving door open.
fn opened(maze: &Maze) -> Vec<u8> {
    let mut tokens = maze.observation().to_vec();
    for door in closed_doors(maze) {
        tokens[door] = token::FLOOR;
    }
    tokens
}

fn fixed_walls(maze: &Maze) -> BTreeSet<usize> {
    let moving = moving_doors(maze);
    let doorways = &maze.rules.map.doorways;
    doorways
        .iter()
        .map(|&tile| usize::from(tile))
        .filter(|door| !moving.contains(door) && maze.observation()[*door] == token::WALL)
        .collect()
}

/// Any valid configuration, small enough to play a lot of.
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
            let doorways = Map::of(&config).doorways.len();
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

/// What holds of a maze at every tick.
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
        "every other doorway is a door, the goal's is none"
    );
    for tile in 0..tokens.len() {
        let expected = if tile == agent {
            token::AGENT
        } else if tile == goal {
            token::GOAL
        } else if walls.contains(&tile) {
            token::WALL
        } else if closed.contains(&tile) {
            map.closed_door
        } else {
            map.tiles[tile]
        };
        assert_eq!(tokens[tile], expected, "tile {tile} of\n{maze}");
    }
    assert_eq!(map.tiles[agent], token::FLOOR);
    assert_eq!(map.tiles[goal], token::FLOOR);
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

/// Steps and checks what came of it against the rules as the reference words them.
fn step_lawfully(maze: &mut Maze, action: u8) -> Step {
    let (before, walls, grid) = (maze.clone(), fixed_walls(maze), maze.grid());
    let step = maze.step(action);
    let free = |at: &Position| {
        matches!(
            before.observation()[index(*at, grid)],
            token::FLOOR | token::GOAL
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_tick_of_every_maze_is_lawful(
        config in any_config(),
        seed in any::<u64>(),
        limits in prop::collection::vec(prop::option::of(0..25_u32), 3),
        wise in any::<bool>(),
    ) {
        let mut maze = maze(&config, seed);
        let mut rng = Rng::new(!seed);
        assert_lawful_start(&maze, None);
        for limit in limits {
            loop {
                let action =
                    if wise { maze.oracle_action() } else { random_action(&mut rng) };
                if step_lawfully(&mut maze, action).flags != 0 {
                    break;
                }
            }
            maze.reset(limit);
            assert_lawful_start(&maze, limit);
        }
    }

    #[test]
    fn the_oracle_is_on_a_shortest_path(config in any_config(), seed in any::<u64>()) {
        let mut maze = maze(&config, seed);
        loop {
            let (agent, grid) = (maze.agent(), maze.grid());
            let action = maze.oracle_action();
            let now = distances(maze.observation(), grid, maze.goal());
            let open = distances(&opened(&maze), grid, maze.goal());
            let steps = if now[index(agent, grid)].is_some() { now } else { open };
            let here = steps[index(agent, grid)].expect("connected when the doors are open");
            let next = beside(agent, action, grid).and_then(|at| steps[index(at, grid)]);
            prop_assert_eq!(next, Some(here - 1));
            for earlier in 0..action {
                let other = beside(agent, earlier, grid).and_then(|at| steps[index(at, grid)]);
                prop_assert_ne!(other, Some(here - 1), "an earlier move is as good");
            }
            if maze.step(action).flags != 0 {
                break;
            }
        }
    }

    #[test]
    fn an_environment_is_the_maze_of_its_seed_whatever_n(
        config in any_config(),
        seed in any::<u64>(),
        n in 1..6_usize,
    ) {
        let mut env = VecEnv::new(&config, n, seed).expect("a valid config");
        let mut mazes: Vec<Maze> =
            (0..n).map(|index| maze(&config, env_seed(seed, index as u64))).collect();
        let mut rng = Rng::new(seed);
        let size = env.grid().len();
        for _ in 0..150 {
            for (seen, maze) in env.observations().chunks(size).zip(&mazes) {
                prop_assert_eq!(seen, maze.observation());
            }
            let actions: Vec<u8> = (0..n).map(|_| random_action(&mut rng)).collect();
            env.step(&actions);
            let mut finished = Vec::new();
            for (index, maze) in mazes.iter_mut().enumerate() {
                let step = maze.step(actions[index]);
                prop_assert_eq!(env.rewards()[index], step.reward);
                prop_assert_eq!(env.flags()[index], step.flags);
                let last = (step.flags != 0).then_some(maze.observation());
                prop_assert_eq!(env.final_observation(index), last);
                if step.flags != 0 {
                    finished.push(Finished { env: index, summary: maze.summary() });
                    maze.reset(None);
                }
            }
            prop_assert_eq!(env.finished(), finished.as_slice());
            let last: Vec<usize> = env.final_observations().map(|(index, _)| index).collect();
            prop_assert_eq!(last, finished.iter().map(|f| f.env).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_episode(config in any_config(), seed in any::<u64>()) {
        let play = || {
            let mut maze = maze(&config, seed);
            let mut rng = Rng::new(5);
            let mut seen = vec![maze.observation().to_vec()];
            for _ in 0..100 {
                if maze.step(random_action(&mut rng)).flags != 0 {
                    maze.reset(None);
                }
                seen.push(maze.observation().to_vec());
            }
            seen
        };
        prop_assert_eq!(play(), play());
    }
}

/// A seed must go on to mean the same episodes: evaluation results are compared across versions.
#[test]
fn known_seeds_give_known_mazes() {
    let four = maze(&EnvConfig::four_rooms(), 7);
    assert_eq!(four.to_string(), FOUR_ROOMS_SEED_7.trim_ascii());
    let mut random = maze(&EnvConfig::random_maze(), 7);
    assert_eq!(random.to_string(), RANDOM_MAZE_SEED_7.trim_ascii());
    for action in [2, 2, 3, 0, 1].repeat(16) {
        random.step(action);
    }
    assert_eq!(
        random.to_string(),
        RANDOM_MAZE_SEED_7_AT_THE_END.trim_ascii()
    );
}

const FOUR_ROOMS_SEED_7: &str = "
.....#A....
.....#.....
.........G.
.....#.....
.....#.....
#.####.....
.....######
.....#.....
.....#.....
...........
.....#.....
";

const RANDOM_MAZE_SEED_7: &str = "
#############
#....A...G#.#
#D###.#D#.#D#
#.......#...#
#.#.#.#D#####
#...........#
#.###.#.#.###
#.....#.....#
#.#.#D#.###.#
#...#.......#
#############
";

const RANDOM_MAZE_SEED_7_AT_THE_END: &str = "
#############
#........G#.#
#.###.#.#.#.#
#.......#...#
#.#.#.#D#####
#...D.....D.#
#.###.#.#.###
#.....#...D.#
#.#.#A#D###.#
#...#.......#
#############
";

#[test]
fn different_seeds_give_different_mazes() {
    for config in [EnvConfig::four_rooms(), EnvConfig::random_maze()] {
        let texts: BTreeSet<String> = (0..50)
            .map(|seed| maze(&config, seed).to_string())
            .collect();
        assert!(texts.len() > 45, "{} of 50", texts.len());
    }
}

/// Start beside the goal, one step to live: every kind of end in one step.
#[test]
fn a_goal_on_the_last_step_terminates_and_anything_else_truncates() {
    for base in [EnvConfig::four_rooms(), EnvConfig::random_maze()] {
        let config = EnvConfig {
            max_steps: 1,
            max_distance: 1,
            ..base
        };
        let mut outcomes = HashMap::new();
        for seed in 0..400 {
            let maze = maze(&config, seed);
            for action in 0..ACTIONS as u8 {
                let step = step_lawfully(&mut maze.clone(), action);
                *outcomes
                    .entry((step.reward.to_string(), step.flags))
                    .or_insert(0) += 1;
            }
        }
        let kinds: BTreeSet<_> = outcomes.into_keys().collect();
        let expected = [
            ("-0.01", flag::TRUNCATED),
            ("0", flag::TRUNCATED),
            ("1", flag::TERMINATED),
        ];
        assert_eq!(
            kinds,
            expected
                .map(|(reward, flags)| (reward.to_owned(), flags))
                .into()
        );
    }
}

#[test]
fn an_episode_that_misses_the_goal_is_truncated_at_max_steps() {
    let config = EnvConfig {
        p_change: 0.0,
        min_distance: 10,
        ..EnvConfig::four_rooms()
    };
    let mut maze = maze(&config, 3);
    // To and fro between two tiles, or against a wall.
    let flags: Vec<u8> = (0..80)
        .map(|step| maze.step(2 * (step % 2)).flags)
        .collect();
    assert!(flags[..79].iter().all(|&flags| flags == 0));
    assert_eq!(flags[79], flag::TRUNCATED);
    assert!(!maze.summary().success);
    assert_eq!(maze.summary().length, 80);
}

#[test]
fn no_door_moves_on_the_step_that_reaches_the_goal() {
    let near = EnvConfig {
        p_change: 1.0,
        max_distance: 1,
        ..EnvConfig::random_maze()
    };
    for door_process in [DoorProcess::Joint, DoorProcess::Independent] {
        let config = EnvConfig {
            door_process,
            ..near.clone()
        };
        let mut reached = 0;
        for seed in 0..200 {
            let mut maze = maze(&config, seed);
            let action = maze.oracle_action();
            // Nothing can be in the way of an agent beside the goal.
            reached += u32::from(step_lawfully(&mut maze, action).reward == 1.0);
        }
        assert_eq!(reached, 200);
    }
}

#[test]
fn the_final_observation_is_of_the_old_episode_and_after_its_last_door_change() {
    let config = EnvConfig {
        p_change: 1.0,
        max_steps: 1,
        ..EnvConfig::random_maze()
    };
    let n = 200;
    let mut env = VecEnv::new(&config, n, 11).expect("a valid config");
    let size = env.grid().len();
    let doors = |tokens: &[u8]| {
        tokens
            .iter()
            .map(|&t| t == token::CLOSED_DOOR)
            .collect::<Vec<_>>()
    };
    let walls = |tokens: &[u8]| tokens.iter().map(|&t| t == token::WALL).collect::<Vec<_>>();
    let first = env.observations().to_vec();
    env.step(&vec![0; n]);
    assert_eq!(env.finished().len(), n);
    let (mut changed, mut truncated) = (0, 0);
    for (index, last) in env.final_observations() {
        let old = &first[index * size..][..size];
        let new = &env.observations()[index * size..][..size];
        assert_eq!(env.final_observation(index), Some(last));
        assert_eq!(walls(last), walls(old));
        assert_ne!(walls(last), walls(new));
        if env.flags()[index] == flag::TRUNCATED {
            truncated += 1;
            changed += usize::from(doors(last) != doors(old));
        } else {
            assert!(!last.contains(&token::GOAL), "the agent stands on the goal");
        }
    }
    assert!(
        truncated > 150 && changed + 5 > truncated,
        "{changed} of {truncated}"
    );
    assert_eq!(env.final_observation(n), None);
}

#[test]
fn what_ended_a_step_ago_is_forgotten() {
    let config = EnvConfig {
        max_steps: 2,
        min_distance: 5,
        ..EnvConfig::four_rooms()
    };
    let mut env = VecEnv::new(&config, 3, 0).expect("a valid config");
    for tick in 1..=6 {
        env.step(&[0, 1, 2]);
        let ended = if tick % 2 == 0 { 3 } else { 0 };
        assert_eq!(env.finished().len(), ended);
        assert_eq!(env.final_observations().len(), ended);
        assert_eq!(env.final_observation(0).is_some(), ended == 3);
    }
}

/// How far a count may lie from what a sum of independent draws expects: five standard deviations.
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

/// Plays `steps` random steps and shows each one that did not end the episode, before and after.
fn watch(config: &EnvConfig, steps: usize, mut seen: impl FnMut(&Maze, &Maze)) {
    let mut maze = maze(config, 21);
    let mut rng = Rng::new(22);
    for _ in 0..steps {
        let before = maze.clone();
        if maze.step(random_action(&mut rng)).flags == 0 {
            seen(&before, &maze);
        } else {
            maze.reset(None);
        }
    }
}

fn on_a_door(maze: &Maze) -> bool {
    moving_doors(maze).contains(&index(maze.agent(), maze.grid()))
}

#[test]
fn joint_doors_change_as_often_as_p_change_says() {
    for (base, p_change) in [
        (EnvConfig::four_rooms(), 0.05),
        (EnvConfig::four_rooms(), 1.0),
        (EnvConfig::random_maze(), 0.05),
        (EnvConfig::random_maze(), 0.3),
    ] {
        let config = EnvConfig { p_change, ..base };
        let mut changes = Tally::default();
        watch(&config, 20_000, |before, after| {
            let allowed = moving_doors(after).len() - usize::from(on_a_door(after));
            // A draw can come out as it was: one set in (allowed choose doors).
            let sets =
                (0..config.doors).fold(1.0, |sets, k| sets * (allowed - k) as f64 / (k + 1) as f64);
            let p = p_change * (1.0 - 1.0 / sets);
            changes.add(closed_doors(before) != closed_doors(after), p);
        });
        changes.assert_within_bounds(&format!("{config:?}"));
    }
}

#[test]
fn independent_doors_open_and_close_each_on_their_own() {
    for base in [EnvConfig::four_rooms(), EnvConfig::random_maze()] {
        let config = EnvConfig {
            door_process: DoorProcess::Independent,
            ..base
        };
        let (mut opened, mut shut, mut closed) =
            (Tally::default(), Tally::default(), Tally::default());
        let mut together = 0;
        watch(&config, 20_000, |before, after| {
            let (was, is) = (closed_doors(before), closed_doors(after));
            let moving = moving_doors(after);
            let q = config.doors as f64 / moving.len() as f64;
            for door in &moving {
                if was.contains(door) {
                    opened.add(!is.contains(door), config.p_change * (1.0 - q));
                } else if *door != index(after.agent(), after.grid()) {
                    shut.add(is.contains(door), config.p_change * q);
                }
            }
            together += usize::from(was.symmetric_difference(&is).count() > 1);
        });
        opened.assert_within_bounds("opened");
        shut.assert_within_bounds("shut");
        assert!(together > 0, "two doors never changed in one step");
        // At reset every door is closed with its share already.
        for seed in 0..3_000 {
            let maze = maze(&config, seed);
            let (moving, is) = (moving_doors(&maze), closed_doors(&maze));
            let q = config.doors as f64 / moving.len() as f64;
            for door in moving {
                if door != index(maze.agent(), maze.grid()) {
                    closed.add(is.contains(&door), q);
                }
            }
        }
        closed.assert_within_bounds("closed at reset");
    }
}

#[test]
fn every_allowed_door_is_closed_equally_often() {
    for base in [EnvConfig::four_rooms(), EnvConfig::random_maze()] {
        let config = EnvConfig {
            p_change: 1.0,
            ..base
        };
        let mut doors: HashMap<usize, Tally> = HashMap::new();
        watch(&config, 20_000, |_, after| {
            let closed = closed_doors(after);
            let moving = moving_doors(after);
            let allowed = moving.len() - usize::from(on_a_door(after));
            for door in moving {
                if door != index(after.agent(), after.grid()) {
                    let p = config.doors as f64 / allowed as f64;
                    doors
                        .entry(door)
                        .or_default()
                        .add(closed.contains(&door), p);
                }
            }
        });
        assert_eq!(doors.len(), Map::of(&config).doorways.len());
        for (door, tally) in doors {
            tally.assert_within_bounds(&format!("door {door} of {}", config.maze));
        }
    }
}

#[test]
fn starts_goals_and_walls_are_uniform() {
    for config in [EnvConfig::four_rooms(), EnvConfig::random_maze()] {
        let map = Map::of(&config);
        let mut maze = maze(&config, 9);
        let open = map.open.len() as f64;
        let mut starts: HashMap<usize, Tally> = HashMap::new();
        let mut goals: HashMap<usize, Tally> = HashMap::new();
        let (mut beside_each_other, mut doorway_goals) = (Tally::default(), Tally::default());
        let neighbours: usize = map
            .open
            .iter()
            .map(|&tile| {
                let near = map.neighbours(tile);
                near.iter()
                    .filter(|&&next| next != tile && map.open.contains(&next))
                    .count()
            })
            .sum();
        for _ in 0..20_000 {
            maze.reset(None);
            let [start, goal] = [maze.start(), maze.goal()].map(|at| index(at, maze.grid()));
            for &tile in &map.open {
                let tile = usize::from(tile);
                starts
                    .entry(tile)
                    .or_default()
                    .add(tile == start, 1.0 / open);
                goals.entry(tile).or_default().add(tile == goal, 1.0 / open);
            }
            let doorway = map.doorways.iter().any(|&tile| usize::from(tile) == goal);
            doorway_goals.add(doorway, map.doorways.len() as f64 / open);
            let adjacent = maze.shortest_path() == 1;
            beside_each_other.add(adjacent, neighbours as f64 / (open * (open - 1.0)));
        }
        for (what, tallies) in [("start", starts), ("goal", goals)] {
            assert_eq!(tallies.len(), map.open.len());
            for (tile, tally) in tallies {
                tally.assert_within_bounds(&format!("{what} at {tile} of {}", config.maze));
            }
        }
        doorway_goals.assert_within_bounds("goals in doorways");
        beside_each_other.assert_within_bounds("goals beside the start");
    }
}

/// Every doorway becomes a wall now and then, and the lattice is as dense as asked.
#[test]
fn as_many_fixed_walls_as_a_maze_without_loops_has_can_be_drawn() {
    for (rows, cols) in [(2, 2), (2, 7), (3, 3), (5, 6), (8, 8)] {
        let mut config = EnvConfig {
            rows,
            cols,
            fixed_walls: 0,
            doors: 0,
            ..EnvConfig::random_maze()
        };
        let doorways = Map::of(&config).doorways.len();
        config.fixed_walls = doorways + 1 - rows * cols;
        let mut maze = maze(&config, 4);
        let mut used = BTreeSet::new();
        for _ in 0..200 {
            maze.reset(None);
            assert_lawful_start(&maze, None);
            used.extend(fixed_walls(&maze));
        }
        assert_eq!(used.len(), doorways);
    }
}

#[test]
fn the_largest_lattice_can_be_played() {
    let config = EnvConfig {
        rows: 32,
        cols: 32,
        fixed_walls: 500,
        ..EnvConfig::random_maze()
    };
    let mut maze = maze(&config, 1);
    assert_eq!(maze.observation().len(), 65 * 65);
    let walls = fixed_walls(&maze);
    assert_lawful(&maze, &walls);
    for _ in 0..80 {
        let action = maze.oracle_action();
        if maze.step(action).flags != 0 {
            break;
        }
    }
    assert_lawful(&maze, &walls);
}

#[test]
fn a_curriculum_mixes_uniform_episodes_with_near_ones() {
    let config = EnvConfig {
        max_steps: 2,
        ..EnvConfig::random_maze()
    };
    let n = 32;
    let mut env = VecEnv::new(&config, n, 5).expect("a valid config");
    let mut rng = Rng::new(6);
    let mut play = |env: &mut VecEnv, ticks: usize| {
        let mut summaries = Vec::new();
        for _ in 0..ticks {
            let actions: Vec<u8> = (0..n).map(|_| random_action(&mut rng)).collect();
            env.step(&actions);
            summaries.extend(env.finished().iter().map(|finished| finished.summary));
        }
        summaries
    };
    assert!(
        play(&mut env, 10)
            .iter()
            .all(|episode| episode.curriculum_distance == 0)
    );
    env.set_curriculum(Curriculum {
        max_distance: 3,
        uniform_share: 0.25,
    });
    // The episodes that are under way were drawn before.
    play(&mut env, 2);
    let mut uniform = Tally::default();
    let mut far = 0;
    for episode in play(&mut env, 300) {
        uniform.add(episode.curriculum_distance == 0, 0.25);
        match episode.curriculum_distance {
            0 => far += usize::from(episode.shortest_path > 3),
            3 => assert!((1..=3).contains(&episode.shortest_path)),
            other => panic!("an episode of distance {other}"),
        }
    }
    uniform.assert_within_bounds("uniform share");
    assert!(far > 0, "uniform episodes are not limited");
    env.set_curriculum(Curriculum::default());
    play(&mut env, 2);
    assert!(
        play(&mut env, 10)
            .iter()
            .all(|episode| episode.curriculum_distance == 0)
    );
}

#[test]
fn the_curriculum_rises_with_a_walker_that_succeeds_until_it_is_off() {
    let config = EnvConfig::four_rooms();
    let rising = CurriculumConfig {
        window: 20,
        ..CurriculumConfig::default()
    };
    let mut curriculum = DistanceCurriculum::new(&rising, &config).expect("valid");
    let mut maze = maze(&config, 8);
    let mut levels = Vec::new();
    for _ in 0..2_000 {
        let level = curriculum.max_distance();
        if level == 0 {
            break;
        }
        if levels.last() != Some(&level) {
            levels.push(level);
        }
        maze.reset(Some(level));
        while maze.step(maze.oracle_action()).flags == 0 {}
        curriculum.record(&maze.summary());
    }
    assert_eq!(levels, (3..config.longest_distance()).collect::<Vec<_>>());
    assert_eq!(curriculum.max_distance(), 0);
}

/// The scale on which an agent is read: about 1.3 in both mazes, and next to no failures.
#[test]
fn the_oracle_solves_the_published_mazes() {
    for (config, success, ratio) in [
        (EnvConfig::four_rooms(), 0.99, 1.0..1.6),
        (EnvConfig::random_maze(), 0.97, 1.0..1.7),
    ] {
        let (mut solved, mut walked, mut shortest) = (0.0, 0.0, 0.0);
        for seed in 0..500 {
            let mut maze = maze(&config, seed);
            while maze.step(maze.oracle_action()).flags == 0 {}
            let summary = maze.summary();
            if summary.success {
                solved += 1.0;
                walked += f64::from(summary.length);
                shortest += f64::from(summary.shortest_path);
            }
        }
        assert!(
            solved / 500.0 >= success,
            "{}: {solved} of 500",
            config.maze
        );
        assert!(
            ratio.contains(&(walked / shortest)),
            "{}: {}",
            config.maze,
            walked / shortest
        );
    }
}
