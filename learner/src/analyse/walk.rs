//! Walks held-out episodes side by side, greedily, with the carry as in training.

use hrm_common::{
    env::{ACTIONS, Maze},
    policy::{PolicyNetwork, greedy},
};
use tch::{Kind, Tensor};

use super::doors::Moved;
use crate::evaluation::walk::{self, Walker};

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
pub(super) struct Place {
    /// The episode's index.
    pub episode: usize,
    /// Steps made before this one.
    pub step: u32,
}

/// A step before which doors moved.
#[derive(Debug)]
pub(super) struct DoorChange {
    /// The first step that sees the change.
    pub place: Place,
    /// The maze without the door change: same agent, same goal.
    pub(crate) stayed: Maze,
    /// The current maze; its doors do not move from now on.
    pub moved: Maze,
    /// The agent's carry into this step; axis 1 is this one episode.
    pub carry: Tensor,
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
    /// The door changes, in no particular order.
    pub(crate) changes: Vec<DoorChange>,
}

/// Returns the observations of some mazes, u8 `[N, S]`.
pub(super) fn observe<'m>(mazes: impl ExactSizeIterator<Item = &'m Maze>) -> Tensor {
    let envs = mazes.len();
    let tokens: Vec<u8> = mazes.flat_map(Maze::observation).copied().collect();
    let shape = [envs as i64, (tokens.len() / envs.max(1)) as i64];
    Tensor::from_data_size(&tokens, &shape, Kind::Uint8)
}

/// Returns the most likely action of each environment, and the next carry.
pub(super) fn decide<N: PolicyNetwork>(
    network: &N,
    tokens: &Tensor,
    carry: &Tensor,
) -> (Vec<u8>, Tensor) {
    let (logits, carry) = network.decide(tokens, carry);
    let mut values = vec![0.0_f32; tokens.size()[0] as usize * ACTIONS];
    let count = values.len();
    logits.to_kind(Kind::Float).copy_data(&mut values, count);
    (values.chunks_exact(ACTIONS).map(greedy).collect(), carry)
}

/// Walks mazes greedily, with the carry of each.
pub(super) struct GreedyWalker<'n, N, T> {
    network: &'n N,
    carry: Tensor,
    /// The carry out of the newest decision; axis 1 is the episode.
    next: Tensor,
    /// Sees each step before it is made: the episodes, their observations u8 `[N, S]`, and the carry that enters the
    /// decision.
    at_tick: T,
}

impl<'n, N: PolicyNetwork, T> GreedyWalker<'n, N, T> {
    /// A walker that starts from this carry.
    pub(super) fn new(network: &'n N, carry: Tensor, at_tick: T) -> Self {
        Self {
            network,
            next: carry.shallow_clone(),
            carry,
            at_tick,
        }
    }
}

impl<E: AsRef<Maze>, N: PolicyNetwork, T: FnMut(&[E], &Tensor, &Tensor)> Walker<E>
    for GreedyWalker<'_, N, T>
{
    fn actions(&mut self, episodes: &mut [E]) -> Vec<u8> {
        let tokens = observe(episodes.iter().map(AsRef::as_ref));
        (self.at_tick)(episodes, &tokens, &self.carry);
        let (actions, next) = decide(self.network, &tokens, &self.carry);
        self.next = next;
        actions
    }

    fn retain(&mut self, rows: &[i64]) {
        self.carry = self.next.index_select(1, &Tensor::from_slice(rows));
    }
}

/// Walks each lane to its end. Returns `None` when `stop` requests it. `at_tick` sees each step before it is made: the
/// lanes, their observations u8 `[N, S]`, and the carry that enters the decision.
pub(super) fn walk<N: PolicyNetwork>(
    network: &N,
    lanes: Vec<Lane>,
    stop: &impl Fn() -> bool,
    at_tick: impl FnMut(&[Lane], &Tensor, &Tensor),
) -> Option<Walked> {
    let mut walked = Walked::default();
    let mut walker = GreedyWalker::new(network, network.initial_carry(lanes.len()), at_tick);
    let whole = walk::side_by_side(
        &mut walker,
        lanes,
        stop,
        |walker, row, mut lane: Lane, action| {
            walked.steps += 1;
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
                    carry: walker.next.narrow(1, row, 1).copy(),
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
    pub(super) fn place(&self) -> Place {
        Place {
            episode: self.episode,
            step: self.maze.summary().length,
        }
    }
}
