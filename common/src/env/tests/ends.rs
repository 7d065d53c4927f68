//! Tests of the ends of episodes: rewards, flags, summaries and final observations.

use std::collections::HashMap;

use super::*;

/// Mazes that start beside the goal with a limit of one step, so that one step shows every kind of end.
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
    // Moves back and forth between two tiles, or into a wall.
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
            // An agent beside the goal cannot be blocked.
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
            .map(|&t| t == tile::CLOSED_DOOR)
            .collect::<Vec<_>>()
    };
    let walls = |tokens: &[u8]| tokens.iter().map(|&t| t == tile::WALL).collect::<Vec<_>>();
    let first = env.observations().to_vec();
    env.step(&vec![0; n]);
    assert_eq!(env.finished().len(), n);
    let (mut changed, mut truncated) = (0, 0);
    for (index, last) in env.final_observations() {
        let old = &first[index * size..][..size];
        let new = &env.observations()[index * size..][..size];
        assert_eq!(final_observation(&env, index), Some(last));
        assert_eq!(walls(last), walls(old));
        assert_ne!(walls(last), walls(new));
        if env.flags()[index] == flag::TRUNCATED {
            truncated += 1;
            changed += usize::from(doors(last) != doors(old));
        } else {
            assert!(!last.contains(&tile::GOAL), "the agent stands on the goal");
        }
    }
    assert!(
        truncated > 150 && changed + 5 > truncated,
        "{changed} of {truncated}"
    );
    assert_eq!(final_observation(&env, n), None);
}

#[test]
fn episodes_that_ended_a_step_ago_are_no_longer_reported() {
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
        assert_eq!(final_observation(&env, 0).is_some(), ended == 3);
    }
}
