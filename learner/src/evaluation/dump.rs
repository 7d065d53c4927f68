//! `eval --dump`: writes each step of each episode, one JSON object per episode.

use std::io::{self, Write};

use hrm_common::env::{Maze, Position, render};
use serde::Serialize;

/// One episode, with all data for a replay by other programs.
#[derive(Debug, Serialize)]
struct DumpedEpisode<'a> {
    maze: String,
    /// The seed as text, because it has 64 bits and JSON readers round numbers above 2^53.
    seed: String,
    start: [usize; 2],
    goal: [usize; 2],
    shortest_path: u32,
    steps: &'a [DumpedStep],
    outcome: &'static str,
    length: u32,
    episode_return: f32,
}

/// One step of an episode.
#[derive(Debug, Serialize)]
pub(crate) struct DumpedStep {
    /// The observation before the action, as rows of text.
    pub(crate) tokens: Vec<String>,
    pub(crate) action: u8,
    pub(crate) reward: f32,
}

/// Returns the observation of a maze as rows of text.
pub(crate) fn rows_of_text(maze: &Maze) -> Vec<String> {
    render(maze.observation(), maze.grid())
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Writes an ended episode as one line.
///
/// # Errors
///
/// Returns an error when `out` cannot be written.
pub(crate) fn write(
    out: &mut dyn Write,
    maze: &Maze,
    seed: u64,
    steps: &[DumpedStep],
) -> io::Result<()> {
    let summary = maze.summary();
    let at = |p: Position| [p.row, p.col];
    let line = DumpedEpisode {
        maze: maze.config().maze.to_string(),
        seed: seed.to_string(),
        start: at(maze.start()),
        goal: at(maze.goal()),
        shortest_path: summary.shortest_path,
        steps,
        outcome: if summary.success { "goal" } else { "truncated" },
        length: summary.length,
        episode_return: summary.episode_return,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
