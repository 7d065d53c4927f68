//! Greedy moves on 2,000 held-out episodes of each maze: the native model and the one in libtorch choose the same.

use hrm_common::{
    config::EvalConfig,
    env::{EnvConfig, Maze},
    model::{ModelConfig, native::Lanes},
    policy::{RecurrentNetwork as _, greedy, stacked},
};
use hrm_learner::{
    evaluation::evaluate::held_out,
    training::model::{Gradient, Hrm},
};
use tch::Tensor;
use test_support::mazes::opinionated;

const EPISODES: usize = 2000;
/// Episodes that walk side by side.
const GROUP: usize = 100;
/// Two moves whose logits are nearer than this are a tie. Logits are of size 1 to 10.
const TIE: f32 = 1e-5;

#[test]
fn greedy_moves_on_four_rooms_are_those_of_libtorch_but_for_ties() {
    compare(EnvConfig::four_rooms());
}

#[test]
fn greedy_moves_on_the_random_maze_are_those_of_libtorch_but_for_ties() {
    compare(EnvConfig::random_maze());
}

fn compare(env: EnvConfig) {
    tch::set_num_threads(1);
    // A model that is not trained seldom reaches the goal, and walks to and fro.
    let env = EnvConfig {
        max_steps: 15,
        ..env
    };
    let seed = EvalConfig::default().seed;
    let model = opinionated(&ModelConfig::small(), &env, 5);
    let (mut decisions, mut moves) = (0, [0; 4]);
    for first in (0..EPISODES).step_by(GROUP) {
        let mut mazes: Vec<Maze> = (first..first + GROUP)
            .map(|episode| Maze::new(&env, held_out(seed, episode)).expect("a maze"))
            .collect();
        let mut lanes = Lanes::new(model.to_parameters(), GROUP);
        while !mazes.is_empty() {
            let tokens: Vec<u8> = mazes.iter().flat_map(Maze::observation).copied().collect();
            let expected = in_libtorch(&model, &tokens, &lanes);
            let mut logits = vec![0.0; mazes.len() * 4];
            let mut depths = lanes.segments().depths(mazes.len());
            lanes.decide(&tokens, &mut depths, &mut logits);
            let (mut walking, mut rows) = (Vec::new(), Vec::new());
            for (row, mut maze) in mazes.into_iter().enumerate() {
                let (native, other) = (&logits[4 * row..][..4], &expected[4 * row..][..4]);
                let action = greedy(native);
                let chosen = greedy(other);
                let apart = other[usize::from(chosen)] - other[usize::from(action)];
                assert!(apart < TIE, "{native:?} and {other:?}");
                decisions += 1;
                moves[usize::from(action)] += 1;
                if maze.step(action).flags == 0 {
                    walking.push(maze);
                    rows.push(row);
                }
            }
            lanes.retain(&rows);
            mazes = walking;
        }
    }
    assert!(decisions > 10 * EPISODES, "{decisions} decisions");
    let most = moves.into_iter().max().expect("four moves");
    assert!(most < decisions * 9 / 10, "one move would do: {moves:?}");
}

/// The logits of libtorch's model, from the carry of the native one.
fn in_libtorch(model: &Hrm, tokens: &[u8], lanes: &Lanes) -> Vec<f32> {
    let envs = lanes.envs();
    let carries: Vec<Vec<f32>> = (0..envs).map(|env| lanes.carry(env)).collect();
    let carry = stacked(&carries).collect::<Vec<_>>().concat();
    let carry = Tensor::from_slice(&carry).view(model.carry_shape(envs).as_slice());
    let tokens = Tensor::from_slice(tokens).view([envs as i64, -1]);
    let decision = model.forward(&tokens, &carry, Gradient::None);
    Vec::try_from(decision.segments[0].logits.view(-1)).expect("logits")
}
