//! Walks held-out episodes side by side, greedily, with the carry as in training.

use hrm_common::{
    env::{ACTIONS, Maze},
    model::Depth,
    policy::{RecurrentNetwork, greedy},
};

use crate::evaluation::{
    doors::Moved,
    walk::{self, Walker},
};

/// An episode in progress.
#[derive(Debug)]
pub(super) struct Lane {
    /// Index of the held-out episode.
    pub episode: usize,
    /// The maze in its current state.
    pub maze: Maze,
    /// True when doors moved since the last observation.
    pub(crate) doors_moved: bool,
}

/// One step of one episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WalkMoment {
    /// The episode's index.
    pub episode: usize,
    /// Steps made before this one.
    pub step: u32,
}

/// A step before which doors moved.
#[derive(Debug)]
pub(super) struct DoorChange {
    /// The first step that sees the change.
    pub place: WalkMoment,
    /// The maze without the door change: same agent, same goal.
    pub(crate) stayed: Maze,
    /// The current maze; its doors do not move from now on.
    pub moved: Maze,
    /// The agent's carry into this step.
    pub carry: Vec<f32>,
    /// The doors that closed.
    pub closed: Vec<usize>,
}

/// The result of the walked episodes.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Total steps of the episodes.
    pub steps: usize,
    /// Episodes that reached the goal.
    pub(crate) successes: usize,
    /// The segments of each decision, in no particular order.
    pub(crate) decisions: Vec<(WalkMoment, u8)>,
    /// The door changes, in no particular order.
    pub(crate) changes: Vec<DoorChange>,
}

/// Returns the observations of some mazes, u8 `[N, S]`.
pub(super) fn observe<'m>(mazes: impl Iterator<Item = &'m Maze>) -> Vec<u8> {
    mazes.flat_map(Maze::observation).copied().collect()
}

/// Walks mazes greedily, with the carry of each.
pub(super) struct GreedyWalker<N, T> {
    network: N,
    /// The depths of the last decisions.
    depths: Vec<Depth>,
    /// Sees each step before it is made: the episodes, their observations u8 `[N, S]`, and the network with the carry
    /// that enters the decision.
    at_tick: T,
}

impl<N: RecurrentNetwork, T> GreedyWalker<N, T> {
    /// Creates a walker that continues from the network's carry.
    pub(super) fn new(network: N, at_tick: T) -> Self {
        Self {
            network,
            depths: Vec::new(),
            at_tick,
        }
    }
}

impl<E: AsRef<Maze>, N: RecurrentNetwork, T: FnMut(&[E], &[u8], &N)> Walker<E>
    for GreedyWalker<N, T>
{
    fn actions(&mut self, episodes: &mut [E]) -> Vec<u8> {
        let tokens = observe(episodes.iter().map(AsRef::as_ref));
        (self.at_tick)(episodes, &tokens, &self.network);
        let mut logits = vec![0.0; episodes.len() * ACTIONS];
        self.depths = self.network.segments().depths(episodes.len());
        self.network.decide(&tokens, &mut self.depths, &mut logits);
        logits.chunks_exact(ACTIONS).map(greedy).collect()
    }

    fn retain(&mut self, rows: &[usize]) {
        self.network.retain(rows);
    }
}

/// Walks each lane to its end. Returns `None` when `stop` requests it. `network` is at the start of an episode in each
/// lane. `at_tick` sees each step before it is made: the lanes, their observations u8 `[N, S]`, and the network with
/// the carry that enters the decision.
pub(super) fn walk<N: RecurrentNetwork>(
    network: N,
    lanes: Vec<Lane>,
    stop: &impl Fn() -> bool,
    at_tick: impl FnMut(&[Lane], &[u8], &N),
) -> Option<Walked> {
    let mut walked = Walked::default();
    let mut walker = GreedyWalker::new(network, at_tick);
    let whole = walk::side_by_side(
        &mut walker,
        lanes,
        stop,
        |walker, row, mut lane: Lane, action| {
            walked.steps += 1;
            let segments = walker.depths[row].segments;
            walked.decisions.push((lane.place(), segments));
            let mut stayed = lane.maze.still();
            if lane.maze.step(action).flags != 0 {
                walked.successes += usize::from(lane.maze.summary().success);
                return None;
            }
            let moved = Moved::between(stayed.observation(), lane.maze.observation());
            lane.doors_moved = !moved.is_empty();
            if lane.doors_moved {
                stayed.step(action);
                walked.changes.push(DoorChange {
                    place: lane.place(),
                    stayed,
                    moved: lane.maze.still(),
                    carry: walker.network.carry(row),
                    closed: moved.closed,
                });
            }
            Some(lane)
        },
    );
    whole.then_some(walked)
}

impl AsRef<Maze> for Lane {
    fn as_ref(&self) -> &Maze {
        &self.maze
    }
}

impl Lane {
    /// Returns the step that the lane makes next.
    pub(super) fn place(&self) -> WalkMoment {
        WalkMoment {
            episode: self.episode,
            step: self.maze.summary().length,
        }
    }
}
