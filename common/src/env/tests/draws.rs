//! Tests of the draws of starts, goals and fixed walls, with and without a curriculum.

use std::collections::HashMap;

use super::*;

#[test]
fn starts_and_goals_are_uniform() {
    for config in [EnvConfig::four_rooms(), EnvConfig::random_maze()] {
        let map = Map::new(&config);
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

/// Every doorway sometimes becomes a wall, and the number of walls is exact.
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
        let doorways = Map::new(&config).doorways.len();
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
    // The running episodes were drawn before.
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
    for id in 1..=2_000 {
        let level = curriculum.max_distance();
        if level == 0 {
            break;
        }
        if levels.last() != Some(&level) {
            levels.push(level);
        }
        maze.reset(Some(level));
        curriculum.begin(id, maze.summary().curriculum_distance);
        while maze.step(maze.oracle_action()).flags == 0 {}
        curriculum.end(id, maze.summary().success);
        curriculum.settle(id);
        curriculum.judge();
    }
    assert_eq!(levels, (3..config.longest_distance()).collect::<Vec<_>>());
    assert_eq!(curriculum.max_distance(), 0);
}
