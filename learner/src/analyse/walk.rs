//! Walks held-out episodes side by side, greedily, with the carry as in training.

use hrm_common::{
    env::{ACTIONS, Maze},
    policy::{PolicyNetwork, greedy},
};
use tch::{Kind, Tensor};

use super::doors::Moved;

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

/// Walks each lane to its end. Returns `None` when `stop` requests it. `at_tick` sees each step before it is made: the
/// lanes, their observations u8 `[N, S]`, and the carry that enters the decision.
pub(super) fn walk<N: PolicyNetwork>(
    network: &N,
    mut lanes: Vec<Lane>,
    stop: &impl Fn() -> bool,
    mut at_tick: impl FnMut(&[Lane], &Tensor, &Tensor),
) -> Option<Walked> {
    let mut walked = Walked::default();
    let mut carry = network.initial_carry(lanes.len());
    while !lanes.is_empty() {
        if stop() {
            return None;
        }
        let tokens = observe(lanes.iter().map(|lane| &lane.maze));
        at_tick(&lanes, &tokens, &carry);
        walked.steps += lanes.len();
        let (actions, next) = decide(network, &tokens, &carry);
        let (mut going_on, mut rows) = (Vec::new(), Vec::new());
        for (row, (mut lane, action)) in (0..).zip(lanes.into_iter().zip(actions)) {
            let mut stayed = lane.maze.still();
            if lane.maze.step(action).flags != 0 {
                walked.successes += usize::from(lane.maze.summary().success);
                continue;
            }
            let moved = Moved::between(stayed.observation(), lane.maze.observation());
            lane.doors_moved = !moved.is_empty();
            if lane.doors_moved {
                stayed.step(action);
                walked.changes.push(DoorChange {
                    place: lane.place(),
                    stayed,
                    moved: lane.maze.still(),
                    carry: next.narrow(1, row, 1).copy(),
                    closed: moved.closed,
                });
            }
            going_on.push(lane);
            rows.push(row);
        }
        lanes = going_on;
        carry = next.index_select(1, &Tensor::from_slice(&rows));
    }
    Some(walked)
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
