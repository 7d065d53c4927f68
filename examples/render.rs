//! Plays one episode of a checkpoint and prints every step as text.
//!
//!     cargo run --release -p hrm-learner --example render -- runs/four-rooms 7

use std::path::PathBuf;

use anyhow::Context as _;
use hrm_common::{
    checkpoint,
    env::{Maze, render},
    model::native::Lanes,
    output::print_line,
    policy::{Choice, Policy, action_rng},
};

/// The names of the actions, by their code.
const ACTIONS: [&str; 4] = ["north", "east", "south", "west"];

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let place: PathBuf = arguments
        .next()
        .context("usage: render RUN_FOLDER_OR_CHECKPOINT [SEED]")?
        .into();
    let seed = match arguments.next() {
        Some(text) => text.to_string_lossy().parse().context("SEED")?,
        None => 0,
    };
    let (checkpoint, _damaged) = checkpoint::newest(&place)?;
    let mut policy = Policy::new(Lanes::new(checkpoint.parameters()?, 1));
    let mut maze = Maze::new(&checkpoint.config.env, seed)?;
    let mut rng = [action_rng(seed)];
    loop {
        print_line(render(maze.observation(), maze.grid()))?;
        let action = policy
            .act(maze.observation(), Choice::Greedy, &mut rng)
            .actions[0];
        print_line(format_args!("moves {}\n", ACTIONS[usize::from(action)]))?;
        if maze.step(action).flags != 0 {
            break;
        }
    }
    let summary = maze.summary();
    print_line(format_args!(
        "{} after {} moves; the shortest path with open doors has {}",
        if summary.success {
            "goal reached"
        } else {
            "cut off"
        },
        summary.length,
        summary.shortest_path
    ))?;
    Ok(())
}
