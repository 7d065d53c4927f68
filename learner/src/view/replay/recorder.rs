//! Records how a model and the oracle cross held-out mazes.

use std::fmt::Display;

use hrm_common::{
    env::{ACTIONS, EnvConfig, Maze, glyph},
    invalid_value::InvalidValue,
    model::{
        Parameters,
        native::{DecisionTrace, Lanes},
    },
    policy::{self, Choice, RecurrentNetwork as _},
};
use indicatif::HumanCount;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{
    choice::{MOST, REASONS, Selection},
    recording::{
        Cells, Outcome, RecordedEpisode, RecordedStep, RecordedWalk, Recording, Thought, Why,
    },
};
use crate::evaluation::{
    evaluate::held_out,
    walk::{self, Walker},
};

/// Most episodes that walk side by side.
const LANES: usize = 64;

/// Held-out episodes that are walked to find those worth a look.
pub(crate) const WALKED: usize = 200;

/// Most bytes of a recording in memory, and of the episodes that walk side by side. As JSON or in a page it takes less.
const MOST_BYTES: usize = 512 << 20;

/// A model to record.
#[derive(Debug, Clone)]
pub(crate) struct RecordedModel {
    /// The name that the replay shows.
    pub name: String,
    /// The model.
    pub parameters: Parameters,
}

impl RecordedModel {
    /// Names a model after its place and its training.
    pub(crate) fn new(place: impl Display, frames: u64, parameters: Parameters) -> Self {
        Self {
            name: format!("{place}, {} frames", HumanCount(frames)),
            parameters,
        }
    }
}

/// Settings of a recording.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordSettings<'a> {
    /// The mazes.
    pub env: &'a EnvConfig,
    /// The seed of the held-out episodes.
    pub seed: u64,
    /// The way to choose the actions.
    pub choice: Choice,
}

impl RecordSettings<'_> {
    /// Walks the first `episodes` held-out episodes, and records those worth a look. All `models` must read the mazes'
    /// observations. `ended` is called after each episode. Returns `None` when `stop` requests an earlier end.
    ///
    /// # Errors
    ///
    /// Returns an error when the mazes are impossible, or a recording of them is too large.
    pub(crate) fn find(
        &self,
        models: &[RecordedModel],
        episodes: usize,
        stop: impl Fn() -> bool,
        ended: impl Fn(),
    ) -> Result<Option<Recording>, InvalidValue> {
        let room = self.room(models, REASONS.len())?;
        let mut selection = Selection::new((room / REASONS.len()).min(MOST));
        let episodes: Vec<_> = (0..episodes).collect();
        let whole = self.walk_all(models, &episodes, stop, |episode| {
            selection.offer(episode);
            ended();
        })?;
        Ok(whole.then(|| self.recording(models, selection.finish())))
    }

    /// Records the held-out episodes with these indices, for the reason `why`. Otherwise as [`find`](Self::find).
    pub(crate) fn record(
        &self,
        models: &[RecordedModel],
        episodes: &[usize],
        why: Why,
        stop: impl Fn() -> bool,
        ended: impl Fn(),
    ) -> Result<Option<Recording>, InvalidValue> {
        self.room(models, episodes.len())?;
        let mut recorded = Vec::with_capacity(episodes.len());
        let whole = self.walk_all(models, episodes, stop, |mut episode| {
            episode.why.push(why);
            recorded.push(episode);
            ended();
        })?;
        Ok(whole.then(|| self.recording(models, recorded)))
    }

    /// Returns the number of episodes of which a recording takes at most `bytes` in memory, however long they last.
    pub(crate) fn fitting(&self, walkers: usize, bytes: usize) -> usize {
        // The step, the agent's cell, and for each cell its glyph and the changes of both states.
        let step = size_of::<RecordedStep<RawThought>>()
            + size_of::<usize>()
            + self.env.grid().len() * (size_of::<u8>() + 2 * size_of::<f32>());
        // The oracle walks too.
        let walk = step.saturating_mul(self.env.max_steps as usize);
        bytes / walk.saturating_mul(walkers + 1).max(1)
    }

    /// Returns the number of episodes that a recording can have, which is at least `least`.
    fn room(&self, models: &[RecordedModel], least: usize) -> Result<usize, InvalidValue> {
        let room = self.fitting(models.len(), MOST_BYTES);
        if least <= room {
            return Ok(room);
        }
        Err(InvalidValue::new(
            "env.max_steps",
            self.env.max_steps,
            format!("a recording of {least} episodes of so many steps would be too large"),
            format!("record at most {room} episodes, or set it to a smaller number"),
        ))
    }

    /// Walks episodes to their ends, in their order. Returns false when `stop` requested an earlier end.
    fn walk_all(
        &self,
        models: &[RecordedModel],
        episodes: &[usize],
        stop: impl Fn() -> bool,
        mut ended: impl FnMut(RecordedEpisode<RawThought>),
    ) -> Result<bool, InvalidValue> {
        let lanes = self.fitting(models.len(), MOST_BYTES).clamp(1, LANES);
        for group in episodes.chunks(lanes) {
            let mut walked = Vec::with_capacity(models.len());
            for model in models {
                let walker = ModelWalker {
                    lanes: Lanes::new(model.parameters.clone(), group.len()),
                    choice: self.choice,
                };
                let Some(lanes) = self.walk(walker, group, &stop)? else {
                    return Ok(false);
                };
                walked.push(lanes.into_iter());
            }
            let Some(oracle) = self.walk(OracleWalker, group, &stop)? else {
                return Ok(false);
            };
            for oracle in oracle {
                let walks = walked.iter_mut().filter_map(Iterator::next);
                ended(RecordedEpisode {
                    index: oracle.index,
                    seed: oracle.seed.to_string(),
                    shortest_path: oracle.maze.shortest_path(),
                    why: Vec::new(),
                    walks: walks.map(WalkingLane::into_walk).collect(),
                    oracle: Some(oracle.into_walk()),
                });
            }
        }
        Ok(true)
    }

    /// Walks the episodes to their ends, and returns them in the order of their indices in `episodes`.
    fn walk<W: Walker<WalkingLane>>(
        &self,
        mut walker: W,
        episodes: &[usize],
        stop: &impl Fn() -> bool,
    ) -> Result<Option<Vec<WalkingLane>>, InvalidValue> {
        let lanes = episodes.iter().enumerate().map(|(row, &index)| {
            let seed = held_out(self.seed, index);
            Ok(WalkingLane {
                row,
                index,
                seed,
                maze: Maze::new(self.env, seed)?,
                rng: policy::action_rng(seed),
                thought: None,
                steps: Vec::new(),
            })
        });
        let lanes = lanes.collect::<Result<Vec<_>, InvalidValue>>()?;
        let mut ended = Vec::with_capacity(lanes.len());
        let step = |_: &W, _, mut lane: WalkingLane, action| {
            if lane.step(action) {
                return Some(lane);
            }
            ended.push(lane);
            None
        };
        if !walk::side_by_side(&mut walker, lanes, stop, step) {
            return Ok(None);
        }
        ended.sort_by_key(|lane| lane.row);
        Ok(Some(ended))
    }

    fn recording(
        &self,
        models: &[RecordedModel],
        episodes: Vec<RecordedEpisode<RawThought>>,
    ) -> Recording {
        let scale = largest_changes(&episodes);
        let scaled_episode = |episode: RecordedEpisode<RawThought>| {
            episode.map(|thought| {
                let [z_h, z_l] = thought.changes;
                Thought {
                    probabilities: thought.probabilities,
                    value: thought.value,
                    z_h: scaled(&z_h, scale[0]),
                    z_l: scaled(&z_l, scale[1]),
                }
            })
        };
        Recording {
            maze: self.env.maze.to_string(),
            grid: self.env.grid(),
            walkers: models.iter().map(|model| model.name.clone()).collect(),
            scale: Some(scale),
            episodes: episodes.into_iter().map(scaled_episode).collect(),
        }
    }
}

/// An episode in progress, and its steps so far.
struct WalkingLane {
    /// Its place among the requested episodes.
    row: usize,
    index: usize,
    seed: u64,
    maze: Maze,
    rng: Xoshiro256PlusPlus,
    /// The decision of the coming step.
    thought: Option<RawThought>,
    steps: Vec<RecordedStep<RawThought>>,
}

/// A decision, before its changes are scaled.
#[derive(Debug)]
struct RawThought {
    probabilities: [f32; ACTIONS],
    value: f32,
    segments: u8,
    /// The change of each cell's `zH`, and of its `zL`.
    changes: [Vec<f32>; 2],
}

impl WalkingLane {
    /// Makes a move. Returns false when it ends the episode.
    fn step(&mut self, action: u8) -> bool {
        let cells = cells(&self.maze);
        let step = self.maze.step(action);
        self.steps.push(RecordedStep {
            cells,
            action,
            reward: step.reward,
            segments: self.thought.as_ref().map(|thought| thought.segments),
            thought: self.thought.take(),
        });
        step.flags == 0
    }

    fn into_walk(self) -> RecordedWalk<RawThought> {
        let summary = self.maze.summary();
        let outcome = match summary.success {
            true => Outcome::Goal,
            false => Outcome::Truncated,
        };
        let last = cells(&self.maze);
        RecordedWalk::new(outcome, summary.episode_return, self.steps, last)
    }
}

/// Walks with a model, and keeps its decisions.
struct ModelWalker {
    lanes: Lanes,
    choice: Choice,
}

impl Walker<WalkingLane> for ModelWalker {
    fn actions(&mut self, episodes: &mut [WalkingLane]) -> Vec<u8> {
        let tokens: Vec<u8> = episodes
            .iter()
            .flat_map(|lane| lane.maze.observation())
            .copied()
            .collect();
        let hidden = self.lanes.parameters().config().hidden;
        let traces = self.lanes.trace(&tokens);
        let decide = |(lane, trace): (&mut WalkingLane, &DecisionTrace)| {
            let end = trace.segments.last()?;
            let logits = &end.heads.logits;
            lane.thought = Some(RawThought {
                probabilities: policy::probabilities(logits).try_into().ok()?,
                value: end.heads.value,
                segments: trace.segments.len().try_into().ok()?,
                changes: changes(&trace.start, &end.state, hidden),
            });
            Some(self.choice.choose(logits, &mut lane.rng))
        };
        // Every model has a segment.
        episodes
            .iter_mut()
            .zip(&traces)
            .filter_map(decide)
            .collect()
    }

    fn retain(&mut self, rows: &[usize]) {
        self.lanes.retain(rows);
    }
}

/// Walks with the oracle.
struct OracleWalker;

impl Walker<WalkingLane> for OracleWalker {
    fn actions(&mut self, episodes: &mut [WalkingLane]) -> Vec<u8> {
        let action = |lane: &WalkingLane| lane.maze.oracle_action();
        episodes.iter().map(action).collect()
    }

    fn retain(&mut self, _: &[usize]) {}
}

fn cells(maze: &Maze) -> Cells {
    Cells(maze.observation().iter().copied().map(glyph).collect())
}

/// Returns the distance of two states `[2, P, d]` at each cell: that of `zH` and that of `zL`. Position 0 is the prefix
/// token's and no cell.
fn changes(before: &[f32], after: &[f32], hidden: usize) -> [Vec<f32>; 2] {
    let half = before.len() / 2;
    [0, half].map(|first| {
        let part = first..first + half;
        let before = before[part.clone()].chunks_exact(hidden);
        let pairs = before.zip(after[part].chunks_exact(hidden));
        let distance = |(a, b): (&[f32], &[f32])| {
            let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
            squares.sum::<f32>().sqrt()
        };
        pairs.skip(1).map(distance).collect()
    })
}

/// Returns the largest change of a cell's `zH` and of its `zL`.
fn largest_changes(episodes: &[RecordedEpisode<RawThought>]) -> [f32; 2] {
    let mut largest = [0.0; 2];
    let walks = episodes.iter().flat_map(|episode| &episode.walks);
    let steps = walks.flat_map(|walk| &walk.steps);
    for thought in steps.filter_map(|step| step.thought.as_ref()) {
        for (largest, changes) in largest.iter_mut().zip(&thought.changes) {
            *largest = changes.iter().copied().fold(*largest, f32::max);
        }
    }
    largest
}

fn scaled(changes: &[f32], largest: f32) -> Vec<u8> {
    // Without any change, all parts are 0.
    let unit = largest.max(f32::MIN_POSITIVE) / 255.0;
    changes
        .iter()
        .map(|change| (change / unit).round() as u8)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::atomic::AtomicBool};

    use hrm_common::{
        model::{CarryMode, Depth},
        policy::RecurrentNetwork as _,
    };

    use super::{
        super::fixture::{env, model, record, recording},
        *,
    };
    use crate::{evaluation::evaluate::HeldOut, storage::records::WalkBy};

    #[test]
    fn the_walks_are_those_of_an_evaluation() {
        for (choice, by) in [
            (Choice::Greedy, WalkBy::Greedy),
            (Choice::Sampled, WalkBy::Sampled),
        ] {
            let model = model("one", CarryMode::Full, 1);
            // More episodes than one group.
            let indices: Vec<_> = (0..LANES + 3).collect();
            let recorded = record(std::slice::from_ref(&model), &indices, choice);
            let env = env();
            let held_out = HeldOut {
                env: &env,
                episodes: indices.len(),
                seed: 1,
            };
            let stop = AtomicBool::new(false);
            let lanes = |envs| Some(Lanes::new(model.parameters.clone(), envs));
            let walked = held_out
                .walk(by, lanes, &stop, None)
                .expect("possible")
                .expect("whole");
            let oracle = held_out.oracle(&stop).expect("possible").expect("whole");
            let (walked, oracle) = (walked.episodes, oracle.episodes);
            for (at, episode) in recorded.episodes.iter().enumerate() {
                assert_eq!(episode.index, at);
                assert_eq!(episode.shortest_path, walked[at].shortest_path);
                let walks = [
                    &episode.walks[0],
                    episode.oracle.as_ref().expect("recorded"),
                ];
                for (walk, summary) in walks.into_iter().zip([walked[at], oracle[at]]) {
                    assert_eq!(walk.length(), summary.length as usize);
                    assert_eq!(walk.outcome == Outcome::Goal, summary.success);
                    assert_eq!(walk.episode_return, summary.episode_return);
                    assert_eq!(
                        walk.cells(walk.length()).glyphs().any(|g| g == 'G'),
                        !summary.success
                    );
                }
            }
        }
    }

    #[test]
    fn chosen_episodes_are_the_same_as_in_a_longer_recording() {
        let models = [model("one", CarryMode::Full, 1)];
        let few = record(&models, &[4, 1], Choice::Greedy);
        let many = record(&models, &[0, 1, 2, 3, 4], Choice::Greedy);
        for (few, many) in few
            .episodes
            .iter()
            .zip([&many.episodes[4], &many.episodes[1]])
        {
            assert_eq!((few.index, &few.seed), (many.index, &many.seed));
            assert_eq!(few.walks[0].steps.len(), many.walks[0].steps.len());
            assert_eq!(few.oracle, many.oracle);
        }
    }

    #[test]
    fn a_decision_has_its_probabilities_value_and_changes() {
        let recording = recording();
        let [mut most_h, mut most_l] = [0, 0];
        for walk in recording.episodes.iter().flat_map(|episode| &episode.walks) {
            for step in &walk.steps {
                let thought = step.thought.as_ref().expect("a model's");
                let total: f32 = thought.probabilities.iter().sum();
                assert!((total - 1.0).abs() < 1e-5, "{total}");
                assert!(thought.value.is_finite());
                assert_eq!(step.segments, Some(1));
                assert_eq!(thought.z_h.len(), recording.grid.len());
                assert_eq!(thought.z_l.len(), recording.grid.len());
                most_h = most_h.max(*thought.z_h.iter().max().expect("cells"));
                most_l = most_l.max(*thought.z_l.iter().max().expect("cells"));
            }
        }
        // The largest change of each kind is the unit of the scale.
        assert_eq!([most_h, most_l], [255, 255]);
        let scale = recording.scale.expect("models");
        assert!(scale.iter().all(|&largest| largest > 0.0), "{scale:?}");
    }

    #[test]
    fn changes_are_distances_per_cell_without_the_prefix_token() {
        // zH of the prefix token and of two cells, then zL, two numbers each.
        let before = [9.0, 9.0, 0.0, 0.0, 1.0, 1.0, 9.0, 9.0, 0.0, 0.0, 0.0, 2.0];
        let after = [0.0, 0.0, 3.0, 4.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        assert_eq!(
            changes(&before, &after, 2),
            [vec![5.0, 0.0], vec![1.0, 2.0]]
        );
        assert_eq!(scaled(&[0.0, 2.0, 5.0], 5.0), [0, 102, 255]);
        assert_eq!(scaled(&[0.0, 0.0], 0.0), [0, 0]);
    }

    #[test]
    fn the_change_of_a_carried_state_is_between_two_carries() {
        let model = model("one", CarryMode::Full, 1);
        let recorded = record(std::slice::from_ref(&model), &[0], Choice::Greedy);
        let mut maze = Maze::new(&env(), held_out(1, 0)).expect("a maze");
        let mut lanes = Lanes::new(model.parameters, 1);
        for step in &recorded.episodes[0].walks[0].steps {
            let before = lanes.carry(0);
            lanes.decide(
                maze.observation(),
                &mut [Depth::at_least(1)],
                &mut [0.0; ACTIONS],
            );
            let [z_h, z_l] = changes(&before, &lanes.carry(0), 8);
            let scale = recorded.scale.expect("a model");
            let thought = step.thought.as_ref().expect("a model's");
            assert_eq!(thought.z_h, scaled(&z_h, scale[0]));
            assert_eq!(thought.z_l, scaled(&z_l, scale[1]));
            maze.step(step.action);
        }
    }

    #[test]
    fn a_recording_stops_on_request() {
        let env = env();
        let settings = RecordSettings {
            env: &env,
            seed: 1,
            choice: Choice::Greedy,
        };
        let models = [model("one", CarryMode::Full, 1)];
        let stopped = settings.record(&models, &[0], Why::Chosen, || true, || {});
        assert_eq!(stopped.expect("possible mazes"), None);
        let stopped = settings.find(&models, 3, || true, || {});
        assert_eq!(stopped.expect("possible mazes"), None);
    }

    #[test]
    fn episodes_worth_a_look_are_found_among_all() {
        let env = env();
        let settings = RecordSettings {
            env: &env,
            seed: 1,
            choice: Choice::Sampled,
        };
        let models = [model("one", CarryMode::Full, 1)];
        let walked = Cell::new(0);
        let found = settings.find(
            &models,
            LANES + 6,
            || false,
            || walked.set(walked.get() + 1),
        );
        let found = found.expect("possible mazes").expect("nobody stops it");
        assert_eq!(walked.get(), LANES + 6);
        assert!(found.episodes.len() <= MOST * REASONS.len());
        assert!(found.episodes.is_sorted_by_key(|episode| episode.index));
        let indices: Vec<_> = found.episodes.iter().map(|episode| episode.index).collect();
        assert_eq!(indices[..MOST], [0, 1, 2, 3], "the first ones");
        let most = |episode: &RecordedEpisode| episode.walks[0].door_changes();
        let all = record(
            &models,
            &(0..LANES + 6).collect::<Vec<_>>(),
            Choice::Sampled,
        );
        let of_all = all.episodes.iter().map(most).max();
        assert_eq!(found.episodes.iter().map(most).max(), of_all);
    }

    #[test]
    fn recordings_that_would_be_too_large_are_refused() {
        let limited = |max_steps, episodes: usize| {
            let env = EnvConfig { max_steps, ..env() };
            let settings = RecordSettings {
                env: &env,
                seed: 1,
                choice: Choice::Greedy,
            };
            let models = [model("one", CarryMode::Full, 1)];
            let room = settings.fitting(models.len(), MOST_BYTES);
            let indices: Vec<_> = (0..episodes).collect();
            let refused = settings.record(&models, &indices, Why::Chosen, || true, || {});
            (room, refused)
        };
        let (room, few) = limited(80, 64);
        assert!(room > 64, "{room}");
        assert_eq!(few, Ok(None));
        let (room, many) = limited(80, room + 1);
        let error = many.expect_err("too large");
        assert_eq!(error.key, "env.max_steps");
        assert!(
            error.remedy.contains(&format!("at most {room} ")),
            "{error}"
        );
        let (room, endless) = limited(u32::MAX, 1);
        assert_eq!((room, endless.is_err()), (0, true));
    }
}
