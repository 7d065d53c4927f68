//! Analysis of the carry: the state in which decisions start, and the agent's reaction to doors.
//!
//! ```text
//!   walk         walks held-out episodes greedily with the checkpoint's model
//!     probe      at a step: one long decision from the carry, and one from the initial vectors
//!     rollout    at each door change: the agent's path with the old doors, and with the new doors
//!   convergence  distance of probed decisions from their end, per segment
//!   reaction     how often and how soon the chosen path changes
//!   thinking     the segments of decisions, by what happened before them
//!   estimate     means and shares with their 95% intervals
//!   report       tables and CSV
//! ```
//!
//! Episodes are walked in groups, one thread per group. The same seed gives the same numbers with any number of
//! threads.

mod convergence;
mod estimate;
mod probe;
mod reaction;
pub(crate) mod report;
mod rollout;
#[cfg(test)]
mod tests;
mod thinking;
mod walk;

use std::{collections::HashMap, ops::Range};

use hrm_common::{
    env::{ACTIONS, EnvConfig, Grid, Maze, tile},
    invalid_value::InvalidValue,
    model::{Parameters, Segments, native::Lanes},
    policy::RecurrentNetwork,
};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::Serialize;

pub use convergence::{ConvergencePoint, Kind};
pub use estimate::{Mean, Share};
pub use probe::{Probe, ProbeStart, ProbedModule};
pub use reaction::{DoorEvent, PATIENCE, Reaction, Reactions, WalkerReactions};
pub use thinking::{Area, Contrast, Thinking, ThinkingPoint};

use crate::evaluation::evaluate::held_out;

/// Number of episodes that walk side by side on one thread.
const LANES: usize = 64;

/// One in this many steps without a door change is probed, because such steps are plenty.
const EVERY: usize = 4;

/// Settings of an analysis.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The mazes.
    pub env: EnvConfig,
    /// Held-out episodes to walk: the first ones of an evaluation with the same seed.
    pub episodes: usize,
    /// Seed of the episodes.
    pub seed: u64,
}

/// The result of an analysis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analysis {
    /// Episodes walked.
    pub episodes: usize,
    /// Seed of the episodes.
    pub seed: u64,
    /// Segments of each probed decision.
    pub segments: usize,
    /// Steps walked.
    pub steps: usize,
    /// Share of episodes that reached the goal.
    pub success: Share,
    /// Distances of decisions from their end.
    pub convergence: Vec<ConvergencePoint>,
    /// Changes of the chosen path after door changes.
    pub reactions: Reactions,
    /// The segments of the decisions, if a rule ends them.
    pub thinking: Option<Thinking>,
}

/// Analyses a model. `probe` must have the same weights. `ended` is called after each group of episodes. Returns `None`
/// when `stop` requests it.
///
/// # Errors
///
/// Returns an error when the mazes are impossible.
pub fn analyse(
    settings: &Settings,
    parameters: &Parameters,
    probe: &Probe,
    stop: &(impl Fn() -> bool + Sync),
    ended: &(impl Fn(usize) + Sync),
) -> Result<Option<Analysis>, InvalidValue> {
    let groups: Vec<_> = (0..settings.episodes)
        .step_by(LANES)
        .map(|first| first..settings.episodes.min(first + LANES))
        .map(|episodes| (episodes, probe.clone()))
        .collect();
    let segments = parameters.config().segments;
    let fewest = parameters
        .clone()
        .with_segments(Segments::new(segments.least))?;
    let groups: Vec<_> = groups
        .into_par_iter()
        .map(|(episodes, mut probe)| {
            let count = episodes.len();
            let lanes = |envs| Lanes::new(parameters.clone(), envs);
            let hasty = |envs| Lanes::new(fewest.clone(), envs);
            let walkers = Walkers {
                network: lanes,
                hasty: segments.halt.map(|_| hasty),
            };
            let group = Group::walk(settings, episodes, &walkers, Some(&mut probe), stop);
            ended(count);
            group
        })
        .collect();
    let Some(whole) = groups.into_iter().collect::<Result<Option<Vec<_>>, _>>()? else {
        return Ok(None);
    };
    let mut all = Group::default();
    for group in whole {
        all.append(group);
    }
    Ok(Some(Analysis {
        episodes: settings.episodes,
        seed: settings.seed,
        segments: probe.segments(),
        steps: all.steps,
        success: Share::new(all.successes, settings.episodes),
        convergence: convergence::points(&all.probed),
        reactions: Reactions::from_changes(&all.changes),
        thinking: segments.halt.map(|_| Thinking::new(&all.thoughts)),
    }))
}

/// Returns true for steps to probe: every first step, every step after a door change, and one in [`EVERY`] others. The
/// others are shifted from episode to episode.
fn is_probed(lane: &walk::Lane) -> bool {
    let walk::WalkMoment { episode, step } = lane.place();
    step == 0 || lane.doors_moved || (episode + step as usize).is_multiple_of(EVERY)
}

/// Draws a wall on the first floor tile that no shortest path between other tiles needs: the end of a dead end, or a corner
/// around which another tile leads as fast. Returns false without such a tile.
fn draw_wall(tokens: &mut [u8], grid: Grid) -> bool {
    let at = |row: Option<usize>, col: Option<usize>| match (row, col) {
        (Some(row), Some(col)) if row < grid.height && col < grid.width => {
            tokens[row * grid.width + col]
        }
        _ => tile::WALL,
    };
    let is_needless = |&(row, col): &(usize, usize)| {
        let (here, below, right) = (Some(row), Some(row + 1), Some(col + 1));
        let (above, left, middle) = (row.checked_sub(1), col.checked_sub(1), Some(col));
        let free = |row, col| at(row, col) != tile::WALL;
        let ways = [(above, free(above, middle)), (below, free(below, middle))];
        let sides = [(left, free(here, left)), (right, free(here, right))];
        let of = |ways: [(Option<usize>, bool); 2]| {
            let free = ways.into_iter().filter(|(_, free)| *free);
            free.map(|(place, _)| place).collect::<Vec<_>>()
        };
        at(here, middle) == tile::FLOOR
            && match (&of(ways)[..], &of(sides)[..]) {
                ([_], []) | ([], [_]) => true,
                (&[row], &[col]) => free(row, col),
                _ => false,
            }
    };
    let mut tiles = (0..grid.height).flat_map(|row| (0..grid.width).map(move |col| (row, col)));
    let Some((row, col)) = tiles.find(is_needless) else {
        return false;
    };
    tokens[row * grid.width + col] = tile::WALL;
    true
}

/// The networks of a walk, each made for a number of environments at the start of an episode.
struct Walkers<F, H> {
    /// The model.
    network: F,
    /// The same model with the fewest segments in every decision, if a rule ends them.
    hasty: Option<H>,
}

/// Returns the segments that decisions would have had with [one wall more](draw_wall), by place. Each has the carry that
/// enters the decision.
fn disturbed<N: RecurrentNetwork>(
    network: &impl Fn(usize) -> N,
    places: &[walk::WalkMoment],
    observed: &[u8],
    carries: &[Vec<f32>],
    grid: Grid,
) -> Vec<(walk::WalkMoment, u8)> {
    let mut tokens = observed.to_vec();
    let drawn = tokens.chunks_exact_mut(grid.len());
    let drawn: Vec<bool> = drawn.map(|tokens| draw_wall(tokens, grid)).collect();
    let mut network = network(places.len());
    network.set_carries(carries);
    let mut depths = network.segments().depths(places.len());
    let mut logits = vec![0.0; places.len() * ACTIONS];
    network.decide(&tokens, &mut depths, &mut logits);
    let decided = places.iter().zip(depths).zip(drawn);
    let of_drawn = decided.filter(|(_, drawn)| *drawn);
    of_drawn
        .map(|((&place, depth), _)| (place, depth.segments))
        .collect()
}

/// The results of some episodes.
#[derive(Debug, Default)]
struct Group {
    steps: usize,
    successes: usize,
    probed: Vec<(convergence::ProbedStep, probe::Probed)>,
    changes: Vec<reaction::ProbedChange>,
    thoughts: Vec<thinking::Thought>,
}

impl Group {
    /// Walks the held-out episodes with the given indices. Returns `None` when `stop` requests it.
    fn walk<N: RecurrentNetwork>(
        settings: &Settings,
        episodes: Range<usize>,
        Walkers { network, hasty }: &Walkers<impl Fn(usize) -> N, impl Fn(usize) -> N>,
        mut probe: Option<&mut Probe>,
        stop: &impl Fn() -> bool,
    ) -> Result<Option<Self>, InvalidValue> {
        if stop() {
            return Ok(None);
        }
        let lanes = episodes
            .map(|episode| {
                let maze = Maze::new(&settings.env, held_out(settings.seed, episode))?;
                Ok(walk::Lane {
                    episode,
                    maze,
                    doors_moved: false,
                })
            })
            .collect::<Result<Vec<_>, InvalidValue>>()?;
        let mut probed = Vec::new();
        let mut disturbances = HashMap::new();
        let started = network(lanes.len());
        let walked = walk::walk(started, lanes, stop, |lanes, tokens, walker| {
            let Some(probe) = &mut probe else { return };
            let size = tokens.len() / lanes.len();
            let (mut places, mut observed, mut carries) = (vec![], vec![], vec![]);
            for (row, lane) in lanes.iter().enumerate().filter(|(_, lane)| is_probed(lane)) {
                places.push(lane.place());
                observed.extend_from_slice(&tokens[row * size..(row + 1) * size]);
                carries.push(walker.carry(row));
            }
            if hasty.is_some() && !places.is_empty() {
                let grid = settings.env.grid();
                disturbances.extend(disturbed(network, &places, &observed, &carries, grid));
            }
            if !places.is_empty() {
                probed.extend(places.into_iter().zip(probe.measure(&observed, &carries)));
            }
        });
        let Some(walked) = walked else {
            return Ok(None);
        };
        let steps = settings.env.max_steps;
        let changes = reaction::changes(network, hasty.as_ref(), walked.changes, steps, stop);
        let Some(changes) = changes else {
            return Ok(None);
        };
        let kinds: HashMap<_, _> = changes
            .iter()
            .map(|change| (change.place, change.kind()))
            .collect();
        let kind = |place: walk::WalkMoment| match place.step {
            0 => Kind::First,
            _ => kinds.get(&place).copied().unwrap_or(Kind::NoChange),
        };
        let mut decisions = walked.decisions;
        decisions.sort_unstable_by_key(|(place, _)| (place.episode, place.step));
        let thoughts = decisions.into_iter().map(|(place, segments)| {
            let kind = kind(place);
            thinking::Thought {
                episode: place.episode,
                kind,
                segments,
                disturbed: (kind == Kind::NoChange)
                    .then(|| disturbances.get(&place).copied())
                    .flatten(),
            }
        });
        Ok(Some(Self {
            steps: walked.steps,
            successes: walked.successes,
            probed: probed
                .into_iter()
                .map(|(place, probed)| {
                    let step = convergence::ProbedStep {
                        episode: place.episode,
                        kind: kind(place),
                    };
                    (step, probed)
                })
                .collect(),
            changes,
            thoughts: match hasty {
                Some(_) => thoughts.collect(),
                None => Vec::new(),
            },
        }))
    }

    fn append(&mut self, mut other: Self) {
        self.steps += other.steps;
        self.successes += other.successes;
        self.probed.append(&mut other.probed);
        self.changes.append(&mut other.changes);
        self.thoughts.append(&mut other.thoughts);
    }
}
