//! The path of a walker in a maze whose doors do not move.

use hrm_common::{
    env::{Maze, Position},
    policy::PolicyNetwork,
};
use tch::Tensor;

use super::walk::{decide, observe};

/// One move; tiles are indices into the observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    /// The action.
    pub action: u8,
    /// The agent's tile before the move.
    pub from: usize,
    /// The agent's tile after the move; the same tile when the way was blocked.
    pub to: usize,
}

/// The moves of a walker in a still maze.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PathRollout {
    /// The moves in order.
    pub moves: Vec<Move>,
    /// True when the moves end at the goal, false when the steps ran out.
    pub reached: bool,
}

impl PathRollout {
    /// Walks [still](Maze::still) mazes greedily, each with one row of `carry`, for at most `steps` steps. Returns
    /// `None` when `stop` requests it.
    pub(super) fn greedy<N: PolicyNetwork>(
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

    /// Walks a [still](Maze::still) maze with the oracle, for at most `steps` steps.
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

    /// Makes a move. Returns false when it ends at the goal.
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

/// Returns the agent's tile.
pub(super) fn agent(maze: &Maze) -> usize {
    let Position { row, col } = maze.agent();
    row * maze.grid().width + col
}
