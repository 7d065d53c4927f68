//! The weights in `models/` reach the goal as often as `models/README.md` says.

use std::{path::Path, sync::atomic::AtomicBool};

use hrm_common::{checkpoint::Checkpoint, model::native::Lanes};
use hrm_learner::{evaluation::evaluate::HeldOut, storage::records::WalkBy};

/// Evaluates a file of `models/` and asserts that its success lies in the 95% interval of `models/README.md`.
fn assert_succeeds(name: &str, least: f64, most: f64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let checkpoint = Checkpoint::read(&folder.join(name)).expect("a checkpoint");
    let parameters = checkpoint.parameters().expect("a model");
    let held_out = HeldOut {
        env: &checkpoint.config.env,
        episodes: 2_000,
        seed: checkpoint.config.eval.seed,
    };
    let lanes = |envs| Some(Lanes::new(parameters.clone(), envs));
    let walked = held_out
        .walk(WalkBy::Greedy, lanes, &AtomicBool::new(false), None)
        .expect("possible mazes")
        .expect("nobody stops it");
    let walked = walked.episodes;
    let solved = walked.iter().filter(|episode| episode.success).count();
    let success = solved as f64 / walked.len() as f64;
    assert!((least..=most).contains(&success), "{name}: {success}");
}

#[test]
fn four_rooms_is_solved() {
    assert_succeeds("four-rooms.safetensors", 0.992, 0.998);
}

#[test]
fn the_random_maze_is_solved() {
    assert_succeeds("random-maze.safetensors", 0.988, 0.996);
}
