//! The walk itself: held-out episodes side by side, greedily, with the carry as in training.

use hrm_common::{
    env::{ACTIONS, Maze},
    policy::{Network, greedy},
};
use tch::{Kind, Tensor};

use super::doors::Moved;

/// An episode on its way.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its index among the held-out ones.
    pub episode: usize,
    /// Where it stands.
    pub maze: Maze,
    /// Whether doors moved since the last observation.
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
    /// The first step that sees it.
    pub place: Place,
    /// The maze as it would stand had the doors stayed: same agent, same goal.
    pub(crate) stayed: Maze,
    /// The maze as it stands, its doors kept from now on.
    pub moved: Maze,
    /// What the agent carries into this step, axis 1 being this one episode.
    pub carry: Tensor,
    /// The doors that closed.
    pub closed: Vec<usize>,
}

/// What the episodes came to.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Steps they took together.
    pub steps: usize,
    /// Episodes that reached the goal.
    pub(crate) successes: usize,
    /// The door changes, in no particular order.
    pub(crate) changes: Vec<DoorChange>,
}

/// Observations u8 `[N, S]` of some mazes.
pub(super) fn observe<'m>(mazes: impl ExactSizeIterator<Item = &'m Maze>) -> Tensor {
    let envs = mazes.len();
    let tokens: Vec<u8> = mazes.flat_map(Maze::observation).copied().collect();
    let shape = [envs as i64, (tokens.len() / envs.max(1)) as i64];
    Tensor::from_data_size(&tokens, &shape, Kind::Uint8)
}

/// The most probable action of each environment, and the next carry.
pub(super) fn decide<N: Network>(
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

/// Walks every lane to its end; `None` when `stop` says so. `at_tick` sees each step that is about to
/// be made: the lanes, their observations u8 `[N, S]` and the carry that goes into the decision.
pub(super) fn walk<N: Network>(
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
    /// The step it is about to make.
    pub(super) fn place(&self) -> Place {
        Place {
            episode: self.episode,
            step: self.maze.summary().length,
        }
    }
}
