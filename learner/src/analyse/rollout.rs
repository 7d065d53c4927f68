//! The path of a walker in a maze whose doors do not move.

use hrm_common::{
    env::{Maze, Position},
    policy::RecurrentNetwork,
};

use super::walk::GreedyWalker;
use crate::evaluation::walk;

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
    /// Walks [still](Maze::still) mazes greedily, each with the carry of an environment of `network`, for at most
    /// `steps` steps. Returns `None` when `stop` requests it.
    pub(super) fn greedy<N: RecurrentNetwork>(
        network: N,
        mazes: Vec<Maze>,
        steps: u32,
        stop: &impl Fn() -> bool,
    ) -> Option<Vec<Self>> {
        let mut rollouts = vec![Self::default(); mazes.len()];
        if steps == 0 {
            return Some(rollouts);
        }
        let mazes = mazes.into_iter().enumerate();
        let mazes = mazes
            .map(|(index, maze)| Numbered { index, maze })
            .collect();
        let mut walker = GreedyWalker::new(network, |_: &[Numbered], _: &[u8], _: &N| {});
        let whole = walk::side_by_side(
            &mut walker,
            mazes,
            stop,
            |_, _, mut numbered: Numbered, action| {
                let rollout = &mut rollouts[numbered.index];
                let walks_on = rollout.follow(&mut numbered.maze, action);
                let left = rollout.moves.len() < steps as usize;
                (walks_on && left).then_some(numbered)
            },
        );
        whole.then_some(rollouts)
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

/// A maze and its index among those that are walked.
struct Numbered {
    index: usize,
    maze: Maze,
}

impl AsRef<Maze> for Numbered {
    fn as_ref(&self) -> &Maze {
        &self.maze
    }
}

/// Returns the agent's tile.
pub(super) fn agent(maze: &Maze) -> usize {
    let Position { row, col } = maze.agent();
    row * maze.grid().width + col
}
