//! Tests of the door changes: how often, and which doors.

use std::collections::HashMap;

use super::*;

/// Plays `steps` random steps, and passes the states before and after each to the test, except at the end of an
/// episode.
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
            // A draw can repeat the former set, with probability 1 / (allowed choose doors).
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
        // From the reset on, every door is closed with its probability.
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
        assert_eq!(doors.len(), Map::new(&config).doorways.len());
        for (door, tally) in doors {
            tally.assert_within_bounds(&format!("door {door} of {}", config.maze));
        }
    }
}
