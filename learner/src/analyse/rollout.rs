//! Where a walker would go from a maze whose doors stay as they are.

use hrm_common::{
    env::{Maze, Position},
    policy::Network,
};
use tch::Tensor;

use super::walk::{decide, observe};

/// One move; tiles as indices into the observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    /// What was done.
    pub action: u8,
    /// Where the agent stood.
    pub from: usize,
    /// Where it stands then: the same tile when the way was blocked.
    pub to: usize,
}

/// The moves from a maze as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rollout {
    /// In order.
    pub moves: Vec<Move>,
    /// Whether they end on the goal. Otherwise the steps ran out.
    pub reached: bool,
}

impl Rollout {
    /// Walks a [still](Maze::still) maze greedily, one row of `carry` each, for at most `steps` steps;
    /// `None` when `stop` says so.
    pub(super) fn greedy<N: Network>(
        network: &N,
        mazes: Vec<Maze>,
        mut carry: Tensor,
        steps: u32,
        stop: &impl Fn() -> bool,
    ) -> Option<Vec<Self>> {
        let mut rollouts = vec![Self::default(); mazes.len()];
        let mut lanes: Vec<(usize, Maze)> = mazes.into_iter().enumerate().collect();
        for _ in 0..steps {
            if lanes.is_empty() {
                break;
            }
            if stop() {
                return None;
            }
            let tokens = observe(lanes.iter().map(|(_, maze)| maze));
            let (actions, next) = decide(network, &tokens, &carry);
            let (mut going_on, mut rows) = (Vec::new(), Vec::new());
            for (row, ((index, mut maze), action)) in (0..).zip(lanes.into_iter().zip(actions)) {
                if rollouts[index].follow(&mut maze, action) {
                    going_on.push((index, maze));
                    rows.push(row);
                }
            }
            lanes = going_on;
            carry = next.index_select(1, &Tensor::from_slice(&rows));
        }
        Some(rollouts)
    }

    /// Walks a [still](Maze::still) maze as the replanning oracle does, for at most `steps` steps.
    pub(super) fn oracle(mut maze: Maze, steps: u32) -> Self {
        let mut rollout = Self::default();
        for _ in 0..steps {
            let action = maze.oracle_action();
            if !rollout.follow(&mut maze, action) {
                break;
            }
        }
        rollout
    }

    /// Makes a move; false when it ends on the goal.
    fn follow(&mut self, maze: &mut Maze, action: u8) -> bool {
        let from = agent(maze);
        self.reached = maze.step(action).flags != 0;
        self.moves.push(Move {
            action,
            from,
            to: agent(maze),
        });
        !self.reached
    }
}

/// The tile of the agent.
pub(super) fn agent(maze: &Maze) -> usize {
    let Position { row, col } = maze.agent();
    row * maze.grid().width + col
}
