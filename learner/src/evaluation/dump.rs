//! `eval --dump`: writes each step of each episode, one JSON object per episode.

use std::{
    borrow::Cow,
    io::{self, BufRead, Write},
};

use hrm_common::env::{Maze, Position, render};
use serde::{Deserialize, Serialize};

/// One episode, with all data for a replay by other programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DumpedEpisode<'a> {
    pub(crate) maze: String,
    /// The seed as text, because it has 64 bits and JSON readers round numbers above 2^53.
    pub(crate) seed: String,
    start: [usize; 2],
    goal: [usize; 2],
    pub(crate) shortest_path: u32,
    pub(crate) steps: Cow<'a, [DumpedStep]>,
    pub(crate) outcome: Cow<'a, str>,
    length: u32,
    pub(crate) episode_return: f32,
}

/// The outcome of an episode whose agent reached the goal.
pub(crate) const GOAL: &str = "goal";

/// One step of an episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DumpedStep {
    /// The observation before the action, as rows of text.
    pub(crate) tokens: Vec<String>,
    pub(crate) action: u8,
    pub(crate) reward: f32,
    /// The segments of the decision; absent without a model, and in dumps that lack this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) segments: Option<u8>,
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
        steps: steps.into(),
        outcome: if summary.success { GOAL } else { "truncated" }.into(),
        length: summary.length,
        episode_return: summary.episode_return,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Reads a dump: one result per line, up to the first error of `input`.
pub(crate) fn read(
    input: impl BufRead,
) -> impl Iterator<Item = io::Result<serde_json::Result<DumpedEpisode<'static>>>> {
    input
        .lines()
        .map(|line| line.map(|line| serde_json::from_str(&line)))
}
