//! Reads a replay from a dump of `hrm-learner eval --dump`. A dump has no decisions and no walk of the oracle.

use std::{
    collections::BTreeSet,
    io::{self, BufRead},
};

use hrm_common::env::{ACTIONS, Grid};
use thiserror::Error;

use super::{
    choice::{MOST, Selection},
    recording::{Cells, Outcome, RecordedEpisode, RecordedStep, RecordedWalk, Recording, Why},
};
use crate::evaluation::dump::{self, DumpedEpisode, DumpedStep};

/// The largest observation of any maze, in rows or columns.
const WIDEST: usize = 65;

/// Errors of reading a dump. Lines count from 1.
#[derive(Debug, Error)]
pub(crate) enum DumpError {
    /// The file cannot be read.
    #[error("the dump cannot be read")]
    Read(#[source] io::Error),
    /// A line is not an episode.
    #[error(
        "line {0} is not an episode\n  remedy: name a file that `hrm-learner eval --dump` has written"
    )]
    Json(usize, #[source] serde_json::Error),
    /// An episode is inconsistent.
    #[error("line {0}: {1}\n  remedy: write the dump again with `hrm-learner eval --dump`")]
    Episode(usize, &'static str),
    /// A line that was asked for is missing.
    #[error("--episode {asked}: the dump has {lines} episodes\n  remedy: name a smaller number")]
    Missing {
        /// The number of the line.
        asked: usize,
        /// Lines of the dump.
        lines: usize,
    },
    /// There is no line.
    #[error("the dump has no episode\n  remedy: write one with `hrm-learner eval --dump`")]
    Empty,
}

/// Reads the episodes with these numbers, or those worth a look if no number is given. `name` is the walker's in the
/// replay. Returns `None` when `stop` requests an earlier end.
///
/// # Errors
///
/// Returns an error that names the line.
pub(crate) fn read(
    input: impl BufRead,
    name: String,
    numbers: &BTreeSet<usize>,
    stop: impl Fn() -> bool,
) -> Result<Option<Recording>, DumpError> {
    let mut maze: Option<(String, Grid)> = None;
    let mut selection = Selection::new(MOST);
    let mut chosen = Vec::new();
    let mut lines = 0;
    for line in dump::read(input) {
        if stop() {
            return Ok(None);
        }
        lines += 1;
        let line = line.map_err(DumpError::Read)?;
        if !numbers.is_empty() && !numbers.contains(&lines) {
            continue;
        }
        let dumped = line.map_err(|error| DumpError::Json(lines, error))?;
        let at = |reason| DumpError::Episode(lines, reason);
        let grid = grid(&dumped).map_err(at)?;
        let kind = dumped.maze.clone();
        let mut episode = episode(lines - 1, dumped, grid).map_err(at)?;
        let (_, first) = maze.get_or_insert((kind, grid));
        if *first != grid {
            return Err(at("its observations have another size than those before"));
        }
        if numbers.is_empty() {
            selection.offer(episode);
        } else {
            episode.why.push(Why::Chosen);
            chosen.push(episode);
        }
    }
    if let Some(&asked) = numbers.range(lines + 1..).next() {
        return Err(DumpError::Missing { asked, lines });
    }
    let (maze, grid) = maze.ok_or(DumpError::Empty)?;
    chosen.append(&mut selection.finish());
    Ok(Some(Recording {
        maze,
        grid,
        walkers: vec![name],
        scale: None,
        episodes: chosen,
    }))
}

fn grid(dumped: &DumpedEpisode<'_>) -> Result<Grid, &'static str> {
    let rows = dumped.steps.first().map(|step| &step.tokens);
    let rows = rows.ok_or("it has no steps")?;
    let width = rows.first().map_or(0, String::len);
    if !(1..=WIDEST).contains(&width) || rows.len() > WIDEST {
        return Err("its observations are empty or larger than 65 x 65");
    }
    Ok(Grid {
        height: rows.len(),
        width,
    })
}

fn episode(
    index: usize,
    dumped: DumpedEpisode<'_>,
    grid: Grid,
) -> Result<RecordedEpisode, &'static str> {
    let steps = dumped.steps.iter().map(|step| recorded(step, grid));
    let steps = steps.collect::<Result<Vec<_>, _>>()?;
    let outcome = match dumped.outcome == dump::GOAL {
        true => Outcome::Goal,
        false => Outcome::Truncated,
    };
    let last = steps.last().ok_or("it has no steps")?;
    let last = after(last, outcome, grid);
    let walk = RecordedWalk::new(outcome, dumped.episode_return, steps, last);
    Ok(RecordedEpisode {
        index,
        seed: dumped.seed,
        shortest_path: dumped.shortest_path,
        why: Vec::new(),
        walks: vec![walk],
        oracle: None,
    })
}

fn recorded(step: &DumpedStep, grid: Grid) -> Result<RecordedStep, &'static str> {
    let text = step.tokens.concat();
    let sized =
        step.tokens.len() == grid.height && step.tokens.iter().all(|row| row.len() == grid.width);
    if !sized {
        return Err("its observations differ in size");
    }
    if !text.chars().all(|glyph| ".#DAG?".contains(glyph)) || text.matches('A').count() != 1 {
        return Err("an observation has unknown characters, or not exactly one agent");
    }
    if usize::from(step.action) >= ACTIONS {
        return Err("an action is not 0, 1, 2 or 3");
    }
    Ok(RecordedStep {
        cells: Cells(text),
        action: step.action,
        reward: step.reward,
        segments: step.segments,
        thought: None,
    })
}

/// The observation after the last step, which a dump lacks: the agent moved unless the reward tells that its way was
/// blocked. Its doors are those before the step.
fn after(last: &RecordedStep, outcome: Outcome, grid: Grid) -> Cells {
    let Cells(text) = &last.cells;
    match outcome {
        Outcome::Goal => Cells(text.replace('A', ".").replace('G', "A")),
        Outcome::Truncated if last.reward < 0.0 => last.cells.clone(),
        Outcome::Truncated => Cells(moved(text, last.action, grid).unwrap_or_else(|| text.clone())),
    }
}

/// Moves the agent. Returns `None` for a move out of the map.
fn moved(text: &str, action: u8, grid: Grid) -> Option<String> {
    let mut cells: Vec<char> = text.chars().collect();
    let from = cells.iter().position(|&glyph| glyph == 'A')?;
    let to = match action {
        0 => from.checked_sub(grid.width)?,
        1 => from + 1,
        2 => from + grid.width,
        _ => from.checked_sub(1)?,
    };
    *cells.get_mut(to)? = 'A';
    cells[from] = '.';
    Some(cells.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use hrm_common::{env::EnvConfig, model::native::Lanes, refusal::causes};
    use serde_json::{Value, json};

    use super::*;
    use crate::{evaluation::evaluate::HeldOut, storage::records::WalkBy};

    fn dump(by: WalkBy) -> Vec<u8> {
        let held_out = HeldOut {
            env: &EnvConfig::random_maze(),
            episodes: 5,
            seed: 1,
        };
        let mut text = Vec::new();
        let stop = AtomicBool::new(false);
        let walked = held_out.walk(by, |_| None::<Lanes>, &stop, Some(&mut text));
        walked.expect("possible mazes").expect("nobody stops it");
        text
    }

    /// Reads the episodes with these numbers, or those worth a look.
    fn read(text: &[u8], numbers: &[usize]) -> Result<Recording, DumpError> {
        let numbers = numbers.iter().copied().collect();
        let recording = super::read(text, name(), &numbers, || false)?;
        Ok(recording.expect("nobody stops it"))
    }

    fn name() -> String {
        "d.jsonl".to_owned()
    }

    #[test]
    fn a_dump_gives_the_walks_without_decisions() {
        for by in [WalkBy::Oracle, WalkBy::Random] {
            let text = dump(by);
            let recording = read(&text, &[1, 2, 3, 4, 5]).expect("a dump");
            assert_eq!((recording.episodes.len(), recording.scale), (5, None));
            assert_eq!(recording.maze, "random-maze");
            for (episode, line) in recording
                .episodes
                .iter()
                .zip(text.split(|&byte| byte == b'\n'))
            {
                let dumped: Value = serde_json::from_slice(line).expect("JSON");
                let [walk] = &episode.walks[..] else {
                    panic!("one walk")
                };
                assert_eq!(walk.length(), dumped["length"]);
                assert_eq!((&episode.oracle, walk.thought(0)), (&None, None));
                let at = |key: &str| {
                    let [row, column] =
                        [0, 1].map(|i| dumped[key][i].as_u64().expect("a place") as usize);
                    Some(row * recording.grid.width + column)
                };
                assert_eq!(walk.cells(0).agent(), at("start"));
                let solved = dumped["outcome"] == "goal";
                assert_eq!(walk.outcome == Outcome::Goal, solved);
                assert_eq!(walk.last.agent() == at("goal"), solved);
            }
            let one = read(&text, &[4]).expect("a dump");
            assert_eq!(one.episodes[..], recording.episodes[3..4]);
            let missing = read(&text, &[2, 6, 99]).expect_err("five lines");
            assert!(
                missing
                    .to_string()
                    .starts_with("--episode 6: the dump has 5 episodes")
            );
            let looked_at = read(&text, &[]).expect("a dump");
            assert!(
                looked_at
                    .episodes
                    .iter()
                    .any(|episode| episode.why.contains(&Why::First))
            );
        }
    }

    #[test]
    fn the_last_frame_of_a_failure_shows_its_last_move() {
        let at = |action, reward| {
            let step = RecordedStep {
                cells: Cells(".A.G".to_owned()),
                action,
                reward,
                segments: None,
                thought: None,
            };
            let grid = Grid {
                height: 2,
                width: 2,
            };
            after(&step, Outcome::Truncated, grid).0
        };
        assert_eq!(at(3, 0.0), "A..G");
        assert_eq!(at(2, 0.0), "...A");
        assert_eq!(at(0, -0.01), ".A.G");
        assert_eq!(at(0, 0.0), ".A.G", "no move leads out of the map");
    }

    #[test]
    fn bad_lines_are_named() {
        let good: Value = serde_json::from_slice(
            dump(WalkBy::Oracle)
                .split(|&byte| byte == b'\n')
                .next()
                .expect("a line"),
        )
        .expect("JSON");
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut bad = good.clone();
            change(&mut bad);
            let text = format!("{good}\n{bad}\n");
            let error = read(text.as_bytes(), &[]).expect_err("bad");
            causes(&error)
        };
        type Case<'a> = (&'a dyn Fn(&mut Value), &'a str);
        let cases: [Case<'_>; 7] = [
            (&|bad| bad["steps"] = json!([]), "it has no steps"),
            (&|bad| bad["steps"] = json!(3), "not an episode"),
            (
                &|bad| bad["steps"][0]["action"] = json!(4),
                "not 0, 1, 2 or 3",
            ),
            (
                &|bad| bad["steps"][0]["tokens"][1] = json!("..."),
                "differ in size",
            ),
            (
                &|bad| bad["steps"][0]["tokens"] = json!([""]),
                "empty or larger",
            ),
            (
                &|bad| bad["steps"][0]["tokens"] = json!(["A"]),
                "differ in size",
            ),
            (
                &|bad| bad["steps"][0]["tokens"][0] = json!("A".repeat(13)),
                "exactly one agent",
            ),
        ];
        for (change, expected) in cases {
            let error = changed(change);
            assert!(
                error.contains("line 2") && error.contains(expected),
                "{error}"
            );
        }
        let none = read(b"", &[]).expect_err("empty");
        assert!(matches!(none, DumpError::Empty));
        let stopped = super::read(&b"{}\n"[..], name(), &BTreeSet::new(), || true);
        assert_eq!(stopped.expect("nothing was read"), None);
    }
}
