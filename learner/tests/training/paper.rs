//! The paper's own setting, made for a GPU: that both configurations train, act and evaluate, a few frames of
//! each on the CPU.

use hrm_common::{
    checkpoint::{self, Checkpoint},
    env::MazeKind,
    model::ModelConfig,
    shutdown::Shutdown,
};
use test_support::{shipped, start};

async fn trains(name: &str, maze: MazeKind) {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().expect("a folder");
    let few = [
        ("run.device", "cpu"),
        ("env.max_steps", "4"),
        ("rollout.envs", "2"),
        ("rollout.unroll_length", "2"),
        ("learner.local_actors", "1"),
        ("learner.batch_unrolls", "1"),
        ("learner.total_frames", "8"),
        ("loss.updates_per_batch", "2"),
        ("eval.final_episodes", "2"),
    ];
    let effective = shipped(name, dir.path(), &few);
    let (config, loss) = (&effective.config, &effective.config.loss);
    assert_eq!(
        (config.env.maze, &config.model),
        (maze, &ModelConfig::paper())
    );
    assert!(loss.deep_supervision);
    let running = start(&effective, false, &Shutdown::new()).await;
    let summary = running.finish().await.expect("a run that ends");
    assert_eq!(
        (summary.frames, summary.updates_tried),
        (8, 2 * loss.passes as u64)
    );
    assert_eq!(summary.evaluations.len(), 3);
    let checkpoint = checkpoint::find(dir.path()).expect("a checkpoint");
    Checkpoint::read(&checkpoint).expect("a sound one");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_rooms_with_the_published_model_trains() {
    trains("paper-four-rooms", MazeKind::FourRooms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_random_maze_with_the_published_model_trains() {
    trains("paper-random-maze", MazeKind::RandomMaze).await;
}
