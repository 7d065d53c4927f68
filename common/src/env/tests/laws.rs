//! Tests of the invariants of every maze at every tick, and of the oracle.

use proptest::prelude::*;

use super::*;
use crate::env::rng::Rng;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_tick_of_every_maze_obeys_the_rules(
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
    fn distances_are_those_to_the_goal_with_the_doors_as_they_are(
        config in any_config(),
        seed in any::<u64>(),
    ) {
        let maze = maze(&config, seed);
        let expected = distances(maze.observation(), maze.grid(), maze.goal());
        prop_assert_eq!(maze.distances(), expected);
    }

    #[test]
    fn a_still_copy_keeps_its_doors_and_never_runs_out(
        config in any_config(),
        seed in any::<u64>(),
    ) {
        let mut maze = maze(&config, seed);
        let mut rng = Rng::new(!seed);
        for _ in 0..3 {
            if maze.step(random_action(&mut rng)).flags != 0 {
                return Ok(());
            }
        }
        let mut copy = maze.still();
        prop_assert_eq!(copy.observation(), maze.observation());
        for _ in 0..2 * config.max_steps {
            if copy.step(random_action(&mut rng)).flags != 0 {
                prop_assert_eq!(copy.agent(), copy.goal());
                break;
            }
            prop_assert_eq!(closed_doors(&copy), closed_doors(&maze));
        }
    }

    #[test]
    fn an_environment_is_the_maze_of_its_seed_for_any_n(
        config in any_config(),
        seed in any::<u64>(),
        n in 1..6_usize,
    ) {
        let mut env = VecEnv::new(&config, n, seed).expect("a valid config");
        let mut mazes: Vec<Maze> =
            (0..n).map(|index| maze(&config, env_seed(seed, index as u64))).collect();
        let mut rng = Rng::new(seed);
        let size = env.grid().len();
        for tick in 0..150 {
            if tick % 50 == 49 {
                env.reset();
                mazes.iter_mut().for_each(|maze| maze.reset(None));
                prop_assert!(env.finished().is_empty() && env.flags().iter().all(|&flags| flags == 0));
            }
            for (seen, maze) in env.observations().chunks(size).zip(&mazes) {
                prop_assert_eq!(seen, maze.observation());
            }
            for (summary, maze) in env.summaries().zip(&mazes) {
                prop_assert_eq!(summary, maze.summary());
            }
            let actions: Vec<u8> = (0..n).map(|_| random_action(&mut rng)).collect();
            env.step(&actions);
            let mut finished = Vec::new();
            for (index, maze) in mazes.iter_mut().enumerate() {
                let step = maze.step(actions[index]);
                prop_assert_eq!(env.rewards()[index], step.reward);
                prop_assert_eq!(env.flags()[index], step.flags);
                let last = (step.flags != 0).then_some(maze.observation());
                prop_assert_eq!(final_observation(&env, index), last);
                if step.flags != 0 {
                    finished.push(FinishedEpisode { env: index, summary: maze.summary() });
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

/// The oracle is the baseline of agents: its path ratio is about 1.3 in both mazes, and it nearly always succeeds.
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
