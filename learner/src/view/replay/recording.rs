//! The data of a replay, and its JSON for the player in a browser.

use std::fmt;

use hrm_common::env::{ACTIONS, Grid};
use serde::{Serialize, Serializer};

/// Recorded episodes, each walked by one or two models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Recording {
    /// The kind of maze.
    pub maze: String,
    /// The size of the mazes.
    #[serde(flatten)]
    pub grid: Grid,
    /// The names of those who walk, in the order of [`RecordedEpisode::walks`].
    pub walkers: Vec<String>,
    /// The largest change of a cell's `zH` and of a cell's `zL`: the change that [`Thought`] stores as 255. `None` in a
    /// recording of a dump.
    pub scale: Option<[f32; 2]>,
    /// The episodes.
    pub episodes: Vec<RecordedEpisode>,
}

/// One maze, and the ways through it. `T` is a model's decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RecordedEpisode<T = Thought> {
    /// Index among the held-out episodes, or among the lines of a dump.
    pub index: usize,
    /// The maze's seed as text, because it has 64 bits and JSON readers round numbers above 2^53.
    pub seed: String,
    /// The shortest path from start to goal with all moving doors open, in steps.
    pub shortest_path: u32,
    /// The reasons to show the episode.
    pub why: Vec<Why>,
    /// The walk of each walker.
    pub walks: Vec<RecordedWalk<T>>,
    /// The oracle's walk; `None` in a recording of a dump.
    pub oracle: Option<RecordedWalk<T>>,
}

/// A reason to show an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// One of the first.
    First,
    /// A walk that did not reach the goal.
    Failure,
    /// One of the longest ways to the goal in comparison with the oracle's.
    Detour,
    /// One of the largest numbers of door changes.
    Doors,
    /// Asked for by its number.
    Chosen,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Failure => "failure",
            Self::Detour => "longest detour",
            Self::Doors => "most door changes",
            Self::Chosen => "chosen",
        })
    }
}

impl Serialize for Why {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One way through a maze.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RecordedWalk<T = Thought> {
    /// `goal` or `truncated`.
    pub outcome: Outcome,
    /// Sum of the rewards.
    pub episode_return: f32,
    /// The steps.
    pub steps: Vec<RecordedStep<T>>,
    /// The observation after the last move.
    pub last: Cells,
    /// The agent's cell before each step, and after the last one.
    #[serde(skip)]
    way: Vec<usize>,
    /// The cells that are closed at one step and open at another.
    #[serde(skip)]
    doors: Vec<usize>,
}

/// The end of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// The agent reached the goal.
    Goal,
    /// The steps ran out.
    Truncated,
}

/// An observation as text: one [`glyph`](hrm_common::env::glyph) per cell, row by row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Cells(pub String);

/// One step of a walk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RecordedStep<T = Thought> {
    /// The observation before the action.
    pub cells: Cells,
    /// 0 north, 1 east, 2 south, 3 west.
    pub action: u8,
    /// The reward of the action.
    pub reward: f32,
    /// The segments of the decision; `None` for the oracle, and where a dump lacks them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<u8>,
    /// The model's decision; `None` for the oracle and in a recording of a dump.
    #[serde(flatten)]
    pub thought: Option<T>,
}

/// A model's decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Thought {
    /// The probability of each action.
    pub probabilities: [f32; ACTIONS],
    /// The expected discounted return.
    pub value: f32,
    /// The change of `zH` at each cell during the decision, in parts of 255 of [`Recording::scale`].
    #[serde(serialize_with = "hex")]
    pub z_h: Vec<u8>,
    /// The same of `zL`.
    #[serde(serialize_with = "hex")]
    pub z_l: Vec<u8>,
}

impl<T> RecordedEpisode<T> {
    /// Returns the number of steps of the longest walk.
    pub(crate) fn length(&self) -> usize {
        let lengths = self.walks.iter().map(RecordedWalk::length);
        lengths.max().unwrap_or(0)
    }

    /// Converts each decision.
    pub(super) fn map<U>(self, mut convert: impl FnMut(T) -> U) -> RecordedEpisode<U> {
        let Self {
            index,
            seed,
            shortest_path,
            why,
            walks,
            oracle,
        } = self;
        RecordedEpisode {
            index,
            seed,
            shortest_path,
            why,
            walks: walks
                .into_iter()
                .map(|walk| walk.map(&mut convert))
                .collect(),
            oracle: oracle.map(|walk| walk.map(&mut convert)),
        }
    }
}

impl<T> RecordedWalk<T> {
    /// Creates a walk from its steps and the observation after the last of them.
    pub(super) fn new(
        outcome: Outcome,
        episode_return: f32,
        steps: Vec<RecordedStep<T>>,
        last: Cells,
    ) -> Self {
        let cells = || steps.iter().map(|step| &step.cells).chain([&last]);
        let first = cells().next().unwrap_or(&last);
        let is_door =
            |glyph: char, at_first: char| glyph == 'D' || is_shut(glyph) != is_shut(at_first);
        let mut doors = vec![false; first.glyphs().count()];
        for cells in cells() {
            let pairs = cells.glyphs().zip(first.glyphs());
            for (door, (glyph, at_first)) in doors.iter_mut().zip(pairs) {
                *door |= is_door(glyph, at_first);
            }
        }
        let way = cells().filter_map(Cells::agent).collect();
        Self {
            way,
            doors: (0..)
                .zip(doors)
                .filter(|(_, is)| *is)
                .map(|(cell, _)| cell)
                .collect(),
            outcome,
            episode_return,
            steps,
            last,
        }
    }

    /// Returns the number of steps.
    pub(crate) fn length(&self) -> usize {
        self.steps.len()
    }

    /// Returns the observation before step `step`, or the last one.
    pub(crate) fn cells(&self, step: usize) -> &Cells {
        self.steps.get(step).map_or(&self.last, |step| &step.cells)
    }

    /// Returns the decision of step `step`; `None` after the last step.
    pub(crate) fn thought(&self, step: usize) -> Option<&T> {
        self.steps.get(step)?.thought.as_ref()
    }

    /// Returns the segments of the decision of step `step`; `None` after the last step.
    pub(crate) fn segments(&self, step: usize) -> Option<u8> {
        self.steps.get(step)?.segments
    }

    /// Returns the agent's cell before step `step`, for each step up to this one. The way begins at the start.
    pub(crate) fn path(&self, step: usize) -> &[usize] {
        let end = step.saturating_add(1).min(self.way.len());
        &self.way[..end]
    }

    /// Returns the cells that are closed at one step and open at another, in increasing order.
    pub(crate) fn doors(&self) -> &[usize] {
        &self.doors
    }

    fn map<U>(self, mut convert: impl FnMut(T) -> U) -> RecordedWalk<U> {
        let Self {
            outcome,
            episode_return,
            steps,
            last,
            way,
            doors,
        } = self;
        let steps = steps.into_iter().map(|step| RecordedStep {
            cells: step.cells,
            action: step.action,
            reward: step.reward,
            segments: step.segments,
            thought: step.thought.map(&mut convert),
        });
        RecordedWalk {
            outcome,
            episode_return,
            steps: steps.collect(),
            last,
            way,
            doors,
        }
    }

    /// Returns a line of text about the walk before step `step`, and the length of the oracle's.
    pub(crate) fn state(&self, oracle: Option<&Self>, step: usize) -> String {
        let length = self.length();
        let mut text = match (step < length, self.outcome) {
            (true, _) => format!("step {} of {length}", step + 1),
            (false, Outcome::Goal) => format!("goal after {length} steps"),
            (false, Outcome::Truncated) => format!("not solved in {length} steps"),
        };
        if let Some(oracle) = oracle {
            text += &format!(", oracle {}", oracle.length());
        }
        text
    }

    /// Returns the number of steps after which doors moved.
    pub(crate) fn door_changes(&self) -> usize {
        let cells = |step| self.cells(step);
        (0..self.length())
            .filter(|&step| cells(step).doors_differ(cells(step + 1)))
            .count()
    }
}

impl Cells {
    /// Returns the agent's cell.
    pub(crate) fn agent(&self) -> Option<usize> {
        self.0.find('A')
    }

    /// Returns the glyphs, row by row.
    pub(crate) fn glyphs(&self) -> impl Iterator<Item = char> {
        self.0.chars()
    }

    fn doors_differ(&self, other: &Self) -> bool {
        self.glyphs()
            .zip(other.glyphs())
            .any(|(a, b)| is_shut(a) != is_shut(b))
    }
}

/// Returns true for a wall or a closed door.
pub(super) fn is_shut(glyph: char) -> bool {
    matches!(glyph, '#' | 'D')
}

fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&digits)
}
